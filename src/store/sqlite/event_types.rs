//! Event types on SQLite: those that the column does not take, and those of the last day.
//!
//! SQLite has no list of constraints: the CHECKs are found in the words of the table. One that names other columns, too,
//! cannot be evaluated for a type alone, and is passed over.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::event_index::{STATEMENTS, is_ours};
use super::values::moment;
use crate::store::event_indexes::{self, LiveIndex, NAMES};
use crate::store::event_types::{TypeCount, TypeFault};
use crate::store::operations::{FaultyIndexes, FaultyTypes, LookAtEvents, Runs};
use crate::store::rows::is_of_type;
use crate::store::schema::AppSchema;

impl Runs<FaultyTypes<'_>> for Sqlite {
    async fn run(
        operation: &FaultyTypes<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(Arc<str>, TypeFault)>, sqlx::Error> {
        let Some(event) = app.event.as_ref().filter(|event| event.insert.is_some()) else {
            return Ok(Vec::new());
        };
        let mut faults = operation.too_long(event);
        let words: Option<String> =
            sqlx::query_scalar("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?1")
                .bind(&event.table.name)
                .fetch_optional(&mut *connection)
                .await?;
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?1)")
            .bind(&event.table.name)
            .fetch_all(&mut *connection)
            .await?;
        let types: Vec<&str> = operation.types.iter().map(|name| &**name).collect();
        for check in checks(&words.unwrap_or_default()) {
            let names = identifiers(check);
            let is_named = |column: &String| names.iter().any(|name| name.eq_ignore_ascii_case(column));
            let mut concerned = columns.iter().filter(|column| is_named(column));
            if (concerned.next(), concerned.next()) != (Some(&event.event_type.name), None) {
                continue;
            }
            let sql = format!(
                "SELECT name FROM (SELECT value AS name, value AS {column} FROM json_each(?1))
                 WHERE NOT coalesce(({check}), 1)",
                column = event.event_type,
            );
            let forbidden: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(sqlx::types::Json(&types))
                .fetch_all(&mut *connection)
                .await?;
            let constraint = || TypeFault::Forbidden(format!("CHECK ({check})"));
            faults.extend(forbidden.into_iter().map(|name| (Arc::from(name), constraint())));
        }
        Ok(faults)
    }
}

impl Runs<FaultyIndexes> for Sqlite {
    async fn run(
        _: &FaultyIndexes,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<String>, sqlx::Error> {
        // A view has no indexes: those of the table under it are the app's.
        let Some(event) = app.event.as_ref().filter(|event| !event.is_view) else {
            return Ok(Vec::new());
        };
        let mut live: Vec<LiveIndex> = sqlx::query_as(
            "SELECT name, sql FROM sqlite_master
             WHERE type = 'index' AND name IN (SELECT value FROM json_each(?1)) AND tbl_name = ?2",
        )
        .bind(sqlx::types::Json(NAMES))
        .bind(&event.table.name)
        .fetch_all(connection)
        .await?;
        let table = event.table.to_string();
        for (_, words) in &mut live {
            *words = words
                .take()
                .map(|words| event_indexes::columns(&words, &table).to_owned());
        }
        Ok(event_indexes::faults(&live, STATEMENTS, None, event))
    }
}

impl Runs<LookAtEvents<'_>> for Sqlite {
    async fn run(
        operation: &LookAtEvents<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<TypeCount>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT CAST({event_type} AS TEXT) AS event_type, sum({ours}) AS ours, sum({theirs}) AS theirs
             FROM {table} WHERE {timestamp} >= ?1 AND {counted} GROUP BY 1 ORDER BY 1",
            event_type = event.event_type,
            ours = is_ours(event, true),
            theirs = is_ours(event, false),
            table = event.table,
            timestamp = event.timestamp,
            counted = is_of_type(&event.event_type, operation.types),
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(moment(operation.since, &event.timestamp))
            .fetch_all(connection)
            .await
    }
}

/// The end of a quoted text or name that begins at `start`, if one does; doubled quotes stand for one.
fn end_of_quoted(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = match bytes.get(start)? {
        b'[' => b']',
        quote @ (b'\'' | b'"' | b'`') => *quote,
        _ => return None,
    };
    let mut place = start + 1;
    while place < bytes.len() {
        if bytes[place] == quote {
            if bytes.get(place + 1) == Some(&quote) {
                place += 1;
            } else {
                return Some(place + 1);
            }
        }
        place += 1;
    }
    Some(bytes.len())
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The conditions of the CHECKs in the words of a table.
fn checks(words: &str) -> Vec<&str> {
    let bytes = words.as_bytes();
    let mut found = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        if let Some(end) = end_of_quoted(words, place) {
            place = end;
        } else if is_of_word(bytes[place]) {
            let length = bytes[place..]
                .iter()
                .take_while(|byte| is_of_word(**byte))
                .count();
            let is_check = words[place..place + length].eq_ignore_ascii_case("check");
            place += length;
            let open = place
                + bytes[place..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_whitespace())
                    .count();
            if is_check && bytes.get(open) == Some(&b'(') {
                let close = closing(words, open);
                found.push(words[open + 1..close].trim());
                place = close;
            }
        } else {
            place += 1;
        }
    }
    found
}

/// The place of the parenthesis that closes the one at `open`.
fn closing(words: &str, open: usize) -> usize {
    let bytes = words.as_bytes();
    let (mut place, mut depth) = (open, 0_usize);
    while place < bytes.len() {
        if let Some(end) = end_of_quoted(words, place) {
            place = end;
            continue;
        }
        match bytes[place] {
            b'(' => depth += 1,
            b')' if depth == 1 => return place,
            b')' => depth -= 1,
            _ => {}
        }
        place += 1;
    }
    bytes.len()
}

/// The names in a condition; quoted texts are none.
fn identifiers(condition: &str) -> Vec<&str> {
    let bytes = condition.as_bytes();
    let mut names = Vec::new();
    let mut place = 0;
    while place < bytes.len() {
        if let Some(end) = end_of_quoted(condition, place) {
            if bytes[place] != b'\'' {
                names.push(&condition[place + 1..(end - 1).max(place + 1)]);
            }
            place = end;
        } else if is_of_word(bytes[place]) {
            let length = bytes[place..]
                .iter()
                .take_while(|byte| is_of_word(**byte))
                .count();
            names.push(&condition[place..place + length]);
            place += length;
        } else {
            place += 1;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v33_checks_are_found_in_the_words_of_a_table() {
        let words = r#"CREATE TABLE "x" ("check" text NOT NULL DEFAULT 'check (a)', "event_type" varchar(50) NOT NULL CHECK
            ("event_type" IN ('page_view', 'it''s (no)', 'é')), "metadata" text CHECK ((JSON_VALID("metadata"))),
            CONSTRAINT "some" CHECK ([event_type] <> '' OR metadata = 'event_type'))"#;
        assert_eq!(
            checks(words),
            [
                r#""event_type" IN ('page_view', 'it''s (no)', 'é')"#,
                r#"(JSON_VALID("metadata"))"#,
                "[event_type] <> '' OR metadata = 'event_type'",
            ]
        );
        assert_eq!(identifiers(checks(words)[0]), ["event_type", "IN"]);
        assert_eq!(identifiers(checks(words)[2]), ["event_type", "OR", "metadata"]);
        assert_eq!(checks("CREATE TABLE x (a CHECK ("), [""]);
    }
}
