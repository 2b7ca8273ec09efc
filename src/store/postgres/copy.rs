//! Writes events with COPY, in its text form: each value goes through the input function of its column's type, so that
//! one form serves all types, and those that the app has made. The binary form takes the server 5 % less time, and
//! knows each type by name.
//!
//! Rows are encoded while the server reads those before them.
//!
//! While the server waits for rows, its own timeouts do not apply. A connection whose other end is gone is noticed by
//! its keepalives (`begin`); a process that was stopped in the middle still answers those, and its COPY is ended by
//! whichever sidecar finds it ([`end_abandoned`]). It has locked no row until then, but a change of the table's
//! definition would wait for it.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::introspect::TAKES_COPY;
use super::statement::query_scalar;
use crate::store::operations::InsertEvents;
use crate::store::rows::{EventRow, new_key, table_and_columns};
use crate::store::schema::EventTable;

/// Ends the deferral of constraints, such as Django's foreign keys, for the rest of the transaction. At COMMIT they would take a
/// fifth of its time while rows of sessions and profiles are locked, for which the app waits.
pub(super) const CHECK_NOW: &str = "SET CONSTRAINTS ALL IMMEDIATE";

/// What our statements begin with: the app may use COPY, too, and under the same role.
const MARK: &str = "/* headcount */";

/// After this many times `database.statement_timeout` nobody goes on with a COPY: the sidecar has given it up.
const ABANDONED: u32 = 6;

/// Bytes that are sent at a time.
const CHUNK: usize = 64 * 1024;

/// One COPY for all rows. If the server refuses one, it takes none of them, and the transaction has failed.
pub(super) async fn copy(
    operation: &InsertEvents<'_>,
    rows: impl Iterator<Item = Result<EventRow<'_>, sqlx::Error>> + Send,
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let InsertEvents { event, columns, .. } = operation;
    let constants: String = columns.constants.iter().map(|(_, value)| field(value)).collect();
    let sql = format!("{MARK} COPY {} FROM STDIN", table_and_columns(event, columns));
    let mut copy = connection.copy_in_raw(&sql).await?;
    let mut lines = Vec::with_capacity(CHUNK + CHUNK / 8);
    for row in rows {
        match row {
            Ok(row) => add_line(&mut lines, operation, &row, constants.as_bytes()),
            Err(error) => {
                copy.abort("a page view cannot be encoded").await?;
                return Err(error);
            }
        }
        if lines.len() >= CHUNK {
            copy.send(&lines[..]).await?;
            lines.clear();
            // A large batch takes a while: others of this thread go on.
            tokio::task::yield_now().await;
        }
    }
    copy.send(lines).await?;
    copy.finish().await?;
    checked(event, connection).await
}

/// Has the constraints of the rows checked ([`CHECK_NOW`]).
///
/// Fails, too, where a rule was made since the schema was read: COPY has gone past it, and the transaction must not be
/// committed. The error has the schema read again, after which the batch is written with INSERT. From COPY until the end of
/// the transaction no rule can be made, since that waits for the table's lock.
async fn checked(event: &EventTable, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let table = event.table.to_string().replace('\'', "''");
    // One round trip: a statement with parameters takes two.
    let sql = format!(
        "{CHECK_NOW}; SELECT {TAKES_COPY} FROM pg_catalog.pg_class c WHERE c.oid = '{table}'::regclass"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    if row.try_get(0)? {
        return Ok(());
    }
    let table = &event.table;
    let changed =
        format!("table {table} has got a rule, which COPY goes past: the page views are written with INSERT");
    Err(sqlx::Error::Configuration(changed.into()))
}

/// Ends the connections of this role that wait in vain for the rest of a COPY of a sidecar; returns how many.
pub(super) async fn end_abandoned(
    connection: &mut PgConnection,
    statement_timeout: Duration,
) -> Result<i64, sqlx::Error> {
    query_scalar(
        "SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
         WHERE usename = current_user AND datname = current_database() AND state = 'active'
               AND wait_event = 'ClientRead' AND left(query, length($1)) = $1
               AND query_start < now() - make_interval(secs => $2)",
    )
    .bind(format!("{MARK} COPY "))
    .bind((statement_timeout * ABANDONED).as_secs_f64())
    .fetch_one(connection)
    .await
}

/// A row as a line, its values in the order of [`table_and_columns`].
fn add_line(lines: &mut Vec<u8>, operation: &InsertEvents<'_>, row: &EventRow<'_>, constants: &[u8]) {
    let columns = operation.columns;
    add_text(lines, row.user_id);
    lines.push(b'\t');
    add_text(lines, row.event_type);
    lines.push(b'\t');
    add_text(lines, &row.metadata);
    lines.push(b'\t');
    add_moment(lines, row.at);
    for (_, value) in columns
        .optional()
        .into_iter()
        .zip(row.optional())
        .filter(|(column, _)| column.is_some())
    {
        lines.push(b'\t');
        match value {
            Some(value) => add_text(lines, value),
            None => lines.extend_from_slice(br"\N"),
        }
    }
    if columns.id.is_some() {
        lines.push(b'\t');
        let mut id = Uuid::encode_buffer();
        lines.extend_from_slice(new_key().hyphenated().encode_lower(&mut id).as_bytes());
    }
    lines.extend_from_slice(constants);
    lines.push(b'\n');
}

/// A further value of a line, with the tab before it.
fn field(value: &str) -> String {
    let mut bytes = vec![b'\t'];
    add_text(&mut bytes, value);
    String::from_utf8(bytes).unwrap_or_default()
}

/// A text, its backslashes and what separates values and lines escaped.
fn add_text(lines: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    // All bytes are looked at, without a branch: the compiler then takes many at a time. Nearly no text has one.
    let is_escaped = |found, byte: &u8| found | matches!(byte, b'\\' | b'\t' | b'\n' | b'\r');
    if !rest.iter().fold(false, is_escaped) {
        lines.extend_from_slice(rest);
        return;
    }
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r'))
    {
        lines.extend_from_slice(&rest[..at]);
        lines.extend_from_slice(match rest[at] {
            b'\t' => br"\t",
            b'\n' => br"\n",
            b'\r' => br"\r",
            _ => br"\\",
        });
        rest = &rest[at + 1..];
    }
    lines.extend_from_slice(rest);
}

/// A moment in UTC to the microsecond, which is read alike whatever the server's `DateStyle` and time zone. A column
/// without zone ignores that of the text.
fn add_moment(lines: &mut Vec<u8>, at: DateTime<Utc>) {
    let at = at.naive_utc();
    // A year of more digits, or before the first, is none of a page view.
    let year = u32::try_from(at.year()).unwrap_or_default();
    // A leap second has more.
    let microsecond = (at.nanosecond() / 1_000).min(999_999);
    for (before, number, digits) in [
        (None, year, 4),
        (Some(b'-'), at.month(), 2),
        (Some(b'-'), at.day(), 2),
        (Some(b' '), at.hour(), 2),
        (Some(b':'), at.minute(), 2),
        (Some(b':'), at.second(), 2),
        (Some(b'.'), microsecond, 6),
    ] {
        lines.extend(before);
        add_digits(lines, number, digits);
    }
    lines.extend_from_slice(b"+00");
}

/// The last digits of a number, without what `write!` does to format it: there is a moment in each row.
fn add_digits(lines: &mut Vec<u8>, mut number: u32, digits: usize) {
    let mut text = [b'0'; 6];
    let text = &mut text[..digits];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    lines.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn text(text: &str) -> String {
        field(text)[1..].to_owned()
    }

    #[test]
    fn w28_what_separates_values_is_escaped_and_nothing_else() {
        assert_eq!(text("a\tb\nc\rd\\e"), r"a\tb\nc\rd\\e");
        assert_eq!(text(r"\N"), r"\\N");
        assert_eq!(text(r"\."), r"\\.");
        assert_eq!(text("ä, 👩‍🚀 \u{b}\u{8}\"'"), "ä, 👩‍🚀 \u{b}\u{8}\"'");
        assert_eq!(text(""), "");
    }

    #[test]
    fn w28_a_moment_is_written_to_the_microsecond_in_utc() {
        let mut line = Vec::new();
        let at = Utc.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap() + chrono::TimeDelta::nanoseconds(8_999);
        add_moment(&mut line, at);
        assert_eq!(line, b"2026-03-04 05:06:07.000008+00");
    }
}
