//! Sentences, and parts of them, that depend on more than the names in a problem.

use crate::store::schema::Privilege;

/// Of our own event table. Only `headcount migrate` is refused: page views are written to the one table as well.
pub(in crate::store) const NOT_PARTITIONED: &str = "headcount.page_view has no partitions and record.own_partitions is \"month\": rename the table, run headcount migrate \
     again and copy its rows, all columns but id, or set record.own_partitions to \"none\"";

pub(super) fn loose_join(table: &str, column: &str, is_indexed: bool, key: &str) -> String {
    let index = if is_indexed {
        String::new()
    } else {
        format!(
            "; no index begins with it either, so that each list reads the whole table: CREATE INDEX ON {table} ({column});"
        )
    };
    format!(
        "column {column} of table {table} is not unique, so that a user may have several rows there, of which the least \
         value counts: set schema.profile.columns.{key}.key to a column with a unique index{index}"
    )
}

pub(super) fn loose_token(table: &str, column: &str, is_indexed: bool) -> String {
    let index = if is_indexed {
        ""
    } else {
        "; no index begins with it either, so that each lookup reads the whole table"
    };
    format!(
        "column {column} of table {table} is not unique, so that a token may have several rows; of those a valid one counts \
         before others, and one that started later, or expires later, before others: CREATE UNIQUE INDEX ON {table} \
         ({column}){index}"
    )
}

pub(super) fn fixed_view(table: &str, command: &str, columns: &[String]) -> String {
    if command == Privilege::Insert.sql() {
        return format!(
            "{table} is a view that takes no INSERT, so that page views wait: set schema.event.table to the table under \
             it, give it an INSTEAD OF INSERT trigger, or set record.events to \"own\" or false"
        );
    }
    let columns = columns.join(", ");
    format!(
        "{table} is a view that takes no {command}, so that {columns} is left as it is: name the table under it in [schema], \
         give it an INSTEAD OF {command} trigger, or switch the write off in [record]"
    )
}

/// The other remedy of sessions whose reference is of another type than the profile's key.
pub(super) fn or_account(section: &str) -> &'static str {
    match section {
        "session" => ", or schema.profile.columns.account to the column of that table that it refers to",
        _ => "",
    }
}

/// `user_id`: the column of sessions; `None` in Django's data.
pub(super) fn names_account(session: &str, user_id: Option<&str>, account: &str, profile: &str) -> String {
    match user_id {
        Some(user_id) => {
            format!("column {user_id} of table {session} refers to table {account} and not to {profile}")
        }
        None => format!("Django's sessions name accounts, of table {account}, and not rows of {profile}"),
    }
}
