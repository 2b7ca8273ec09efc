//! Sentences about tables beside the profile, about views, and about columns that are not unique.

use std::fmt;

use super::super::right::Privilege;

pub(super) fn loose_join(
    f: &mut fmt::Formatter<'_>,
    table: &str,
    column: &str,
    is_indexed: bool,
    key: &str,
) -> fmt::Result {
    write!(
        f,
        "column {column} of table {table} is not unique, so that a user may have several rows there, of which the least \
         value counts: set schema.profile.columns.{key}.key to a column with a unique index"
    )?;
    if !is_indexed {
        write!(
            f,
            "; no index begins with it either, so that each list reads the whole table: CREATE INDEX ON {table} ({column})"
        )?;
    }
    Ok(())
}

pub(super) fn loose_token(
    f: &mut fmt::Formatter<'_>,
    table: &str,
    column: &str,
    is_indexed: bool,
) -> fmt::Result {
    write!(
        f,
        "column {column} of table {table} is not unique, so that a token may have several rows; of those a valid one counts \
         before others, and one that started later, or expires later, before others: CREATE UNIQUE INDEX ON {table} ({column})"
    )?;
    if !is_indexed {
        f.write_str("; no index begins with it either, so that each lookup reads the whole table")?;
    }
    Ok(())
}

pub(super) fn fixed_view(
    f: &mut fmt::Formatter<'_>,
    table: &str,
    command: &str,
    columns: &[String],
) -> fmt::Result {
    let columns = columns.join(", ");
    if command == Privilege::Insert.sql() {
        return write!(
            f,
            "{table} is a view that takes no INSERT, so that page views wait: set schema.event.table to the table under \
             it, give it an INSTEAD OF INSERT trigger, or set record.events to \"own\" or false"
        );
    }
    write!(
        f,
        "{table} is a view that takes no {command}, so that {columns} is left as it is: name the table under it in [schema], \
         give it an INSTEAD OF {command} trigger, or switch the write off in [record]"
    )
}
