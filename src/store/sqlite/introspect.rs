//! Reads the configured tables from SQLite's catalogue. Types are whatever the `CREATE TABLE` says; the names that
//! Django uses decide.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;

use chrono_tz::Tz;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::values::read_moment;
use crate::config::Schema;
use crate::from_row::from_row;
use crate::store::schema::{
    Column, Dialect, Fixed, Kind, LiveColumn, LiveLookup, LiveSchema, LiveTable, OwnTables, Reference,
    TableName,
};

/// What identifies the database, by whatever path it is reached: the file's number on its disk. None for one in memory.
async fn site(connection: &mut SqliteConnection) -> Result<Option<(&'static str, String)>, sqlx::Error> {
    let file: Option<String> =
        sqlx::query_scalar("SELECT file FROM pragma_database_list WHERE name = 'main'")
            .fetch_optional(connection)
            .await?;
    let number =
        |file: String| tokio::task::spawn_blocking(move || std::fs::metadata(file).ok().map(|of| of.ino()));
    let found = match file.filter(|file| !file.is_empty()) {
        Some(file) => number(file).await.ok().flatten(),
        None => None,
    };
    Ok(found.map(|number| ("file", number.to_string())))
}

pub(super) async fn live_schema(
    connection: &mut SqliteConnection,
    names: &Schema,
) -> Result<LiveSchema, sqlx::Error> {
    let event = table(connection, &names.event.table).await?;
    let mut joined = BTreeMap::new();
    for name in names.profile.joined_tables() {
        if let Some(table) = table(connection, name).await? {
            joined.insert(name.to_owned(), table);
        }
    }
    let bad_constants = event
        .as_ref()
        .map(|event| bad_constants(event, &names.event.constants))
        .unwrap_or_default();
    let mut lookups = BTreeMap::new();
    for (name, lookup) in &names.lookup {
        let found = LiveLookup {
            table: table(connection, &lookup.table).await?,
            has_index: has_index(connection, &lookup.table, &lookup.key).await?,
        };
        lookups.insert(name.clone(), found);
    }
    Ok(LiveSchema {
        dialect: Dialect::Sqlite,
        user: String::new(),
        database: String::new(),
        session: table(connection, &names.session.table).await?,
        session_trigger: false,
        site: site(connection).await?,
        read_only: false,
        lacks_zone: false,
        event,
        profile: table(connection, &names.profile.table).await?,
        joined,
        lacks_partition: None,
        has_own_partitions: false,
        community: table(connection, &names.community.table).await?,
        lookups,
        ledger_tables: OwnTables::default(),
        counter_tables: OwnTables::default(),
        bad_constants,
    })
}

/// Whether an index finds a row by this column, or it is the row's own id. Of a view, or a table that there is not, that
/// cannot be told.
async fn has_index(
    connection: &mut SqliteConnection,
    table: &str,
    column: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)
             OR EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 AND pk = 1)
             OR EXISTS (SELECT 1 FROM pragma_index_list(?1) AS i JOIN pragma_index_info(i.name) AS x
                        WHERE x.seqno = 0 AND x.name = ?2 AND NOT i.partial)",
    )
    .bind(table)
    .bind(column)
    .fetch_one(connection)
    .await
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct ColumnRow {
    name: String,
    declared: String,
    not_null: bool,
    has_default: bool,
    in_primary_key: bool,
    is_loose: bool,
    is_unique: bool,
    is_indexed: bool,
    hidden: i64,
}

from_row!(SqliteRow => ColumnRow { name, declared, not_null, has_default, in_primary_key, is_loose, is_unique, is_indexed, hidden });

async fn table(connection: &mut SqliteConnection, name: &str) -> Result<Option<LiveTable>, sqlx::Error> {
    if name.is_empty() {
        return Ok(None);
    }
    let rows: Vec<ColumnRow> = sqlx::query_as(
        "SELECT c.name, type AS declared, \"notnull\" AS not_null, dflt_value IS NOT NULL AS has_default,
                pk > 0 AS in_primary_key, hidden,
                -- The collation of a column is told by its indexes only, and each key has one.
                EXISTS (SELECT 1 FROM pragma_index_list(?1) AS i JOIN pragma_index_xinfo(i.name) AS x
                        WHERE x.name = c.name AND x.coll <> 'BINARY') AS is_loose,
                EXISTS (SELECT 1 FROM pragma_index_list(?1) AS i JOIN pragma_index_info(i.name) AS x
                        WHERE x.name = c.name AND i.\"unique\" AND NOT i.partial
                          AND (SELECT count(*) FROM pragma_index_info(i.name)) = 1) AS is_unique,
                EXISTS (SELECT 1 FROM pragma_index_list(?1) AS i JOIN pragma_index_info(i.name) AS x
                        WHERE x.name = c.name AND x.seqno = 0 AND NOT i.partial) AS is_indexed
         FROM pragma_table_xinfo(?1) AS c ORDER BY cid",
    )
    .bind(name)
    .fetch_all(&mut *connection)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let fixed = fixed(connection, name).await?;
    let one_key = rows.iter().filter(|row| row.in_primary_key).count() == 1;
    let columns = rows.into_iter().map(|row| column(row, one_key)).collect();
    Ok(Some(LiveTable {
        name: TableName {
            dialect: Dialect::Sqlite,
            schema: None,
            name: name.to_owned(),
        },
        schema_usage: true,
        without_policy: Vec::new(),
        row_security: false,
        takes_copy: false,
        fixed,
        columns,
        references: references(connection, name).await?,
    }))
}

/// SQLite changes a view by triggers only.
async fn fixed(connection: &mut SqliteConnection, name: &str) -> Result<Fixed, sqlx::Error> {
    let triggers: Option<String> = sqlx::query_scalar(
        "SELECT coalesce((SELECT group_concat(upper(t.sql)) FROM sqlite_master AS t
                          WHERE t.type = 'trigger' AND t.tbl_name = v.name), '')
         FROM sqlite_master AS v WHERE v.type = 'view' AND v.name = ?1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    Ok(triggers.map_or_else(Fixed::default, |triggers| {
        let words: Vec<&str> = triggers.split_whitespace().collect();
        let has = |command: &str| words.windows(3).any(|three| three == ["INSTEAD", "OF", command]);
        Fixed {
            is_view: true,
            insert: !has("INSERT"),
            update: !has("UPDATE"),
        }
    }))
}

struct ReferenceRow {
    column_name: String,
    name: String,
}

from_row!(SqliteRow => ReferenceRow { column_name, name });

async fn references(connection: &mut SqliteConnection, table: &str) -> Result<Vec<Reference>, sqlx::Error> {
    let rows: Vec<ReferenceRow> = sqlx::query_as(
        "SELECT \"from\" AS column_name, \"table\" AS name FROM pragma_foreign_key_list(?1)
         GROUP BY id HAVING count(*) = 1 ORDER BY id",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    let read = |row: ReferenceRow| Reference {
        column: row.column_name,
        table: TableName {
            dialect: Dialect::Sqlite,
            schema: None,
            name: row.name,
        },
    };
    Ok(rows.into_iter().map(read).collect())
}

fn column(row: ColumnRow, one_key: bool) -> LiveColumn {
    let declared = row.declared.to_ascii_lowercase();
    // "INTEGER PRIMARY KEY", exactly so, is the row id, which SQLite makes.
    let row_id = row.in_primary_key && one_key && declared == "integer";
    LiveColumn {
        column: Column {
            dialect: Dialect::Sqlite,
            kind: kind(&declared),
            max_length: max_length(&declared),
            is_loose: row.is_loose,
            nullable: !row.not_null && !row.in_primary_key,
            name: row.name,
            type_name: declared,
            zone: Tz::UTC,
        },
        has_default: row.has_default || row_id,
        generated: matches!(row.hidden, 2 | 3),
        locked_sequence: None,
        sequence: None,
        is_unique: row.is_unique || (row.in_primary_key && one_key),
        is_indexed: row.is_indexed || (row.in_primary_key && one_key),
        may_select: true,
        may_insert: true,
        may_update: true,
    }
}

/// By the names that Django declares, then by SQLite's own rule of affinity (a type that contains "int" is an
/// integer).
pub(super) fn kind(declared: &str) -> Kind {
    let base = declared.split('(').next().unwrap_or_default().trim();
    match base {
        "char" if declared.replace(' ', "") == "char(32)" => Kind::Uuid,
        "uuid" => Kind::Uuid,
        "bool" | "boolean" => Kind::Bool,
        "datetime" | "timestamp" => Kind::Timestamp,
        "json" => Kind::Json,
        _ if base.contains("int") => Kind::BigInt,
        _ if ["char", "clob", "text"].iter().any(|word| base.contains(word)) => Kind::Text,
        _ => Kind::Other,
    }
}

pub(super) fn max_length(declared: &str) -> Option<usize> {
    if !declared.contains("char") {
        return None;
    }
    let (_, rest) = declared.split_once('(')?;
    rest.trim_end().strip_suffix(')')?.trim().parse().ok()
}

/// SQLite itself accepts any value in any column; the app's ORM would not read it back.
fn bad_constants(event: &LiveTable, constants: &BTreeMap<String, String>) -> Vec<String> {
    event
        .columns
        .iter()
        .map(|live| &live.column)
        .filter(|column| {
            constants
                .get(&column.name)
                .is_some_and(|value| !fits(value, column))
        })
        .map(|column| column.name.clone())
        .collect()
}

fn fits(value: &str, column: &Column) -> bool {
    match column.kind {
        Kind::BigInt | Kind::Integer | Kind::SmallInt => value.parse::<i64>().is_ok(),
        Kind::Bool => matches!(value, "0" | "1"),
        Kind::Uuid => Uuid::try_parse(value).is_ok(),
        Kind::Timestamp | Kind::TimestampTz => read_moment(value, column).is_ok(),
        Kind::Json | Kind::Jsonb => serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok(),
        Kind::Text | Kind::Inet | Kind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn djangos_declared_types_are_recognised() {
        for (declared, expected) in [
            ("integer", Kind::BigInt),
            ("bigint", Kind::BigInt),
            ("integer unsigned", Kind::BigInt),
            ("char(32)", Kind::Uuid),
            ("char(39)", Kind::Text),
            ("varchar(255)", Kind::Text),
            ("text", Kind::Text),
            ("bool", Kind::Bool),
            ("datetime", Kind::Timestamp),
            ("decimal", Kind::Other),
        ] {
            assert_eq!(kind(declared), expected, "{declared}");
        }
        assert_eq!(max_length("varchar(255)"), Some(255));
        assert_eq!(max_length("text"), None);
    }
}
