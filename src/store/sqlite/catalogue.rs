//! All tables of a SQLite file.

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::introspect::{kind, max_length};
use crate::from_row::from_row;
use crate::store::catalogue::{
    CatalogueColumn, CatalogueReference, CatalogueTable, Listed, MAX_COLUMNS, tables,
};

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct ListedRow {
    table_name: String,
    name: String,
    declared: String,
    is_nullable: bool,
    is_key: bool,
    is_unique: bool,
    has_default: bool,
    to_table: Option<String>,
    to_column: Option<String>,
}

from_row!(SqliteRow => ListedRow { table_name, name, declared, is_nullable, is_key, is_unique, has_default, to_table, to_column });

pub(in crate::store) async fn catalogue(
    connection: &mut SqliteConnection,
) -> Result<Vec<CatalogueTable>, sqlx::Error> {
    let rows: Vec<ListedRow> = sqlx::query_as(
        "SELECT m.name AS table_name, c.name, c.type AS declared, c.\"notnull\" = 0 AND c.pk = 0 AS is_nullable,
                c.pk > 0 AND (SELECT count(*) FROM pragma_table_info(m.name) AS k WHERE k.pk > 0) = 1 AS is_key,
                EXISTS (SELECT 1 FROM pragma_index_list(m.name) AS i
                        WHERE i.\"unique\" AND NOT i.partial
                          AND (SELECT count(*) FROM pragma_index_info(i.name)) = 1
                          AND (SELECT x.name FROM pragma_index_info(i.name) AS x) = c.name) AS is_unique,
                c.dflt_value IS NOT NULL OR c.pk > 0 AS has_default,
                f.\"table\" AS to_table, coalesce(f.\"to\", 'id') AS to_column
         FROM sqlite_master AS m JOIN pragma_table_xinfo(m.name) AS c
         LEFT JOIN pragma_foreign_key_list(m.name) AS f ON f.\"from\" = c.name
         WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
           AND m.name NOT LIKE 'headcount\\_%' ESCAPE '\\'
           AND coalesce(m.sql, '') NOT LIKE 'CREATE VIRTUAL TABLE%'
         ORDER BY m.name, c.cid LIMIT ?1",
    )
    .bind(MAX_COLUMNS)
    .fetch_all(connection)
    .await?;
    Ok(tables(rows.into_iter().map(Listed::from)))
}

impl From<ListedRow> for Listed {
    fn from(row: ListedRow) -> Self {
        let declared = row.declared.to_ascii_lowercase();
        Self {
            schema: String::new(),
            table: row.table_name,
            is_visible: true,
            column: CatalogueColumn {
                name: row.name,
                kind: kind(&declared),
                max_length: max_length(&declared),
                type_name: declared,
                is_nullable: row.is_nullable,
                is_key: row.is_key,
                is_unique: row.is_unique || row.is_key,
                has_default: row.has_default,
                references: row.to_table.map(|table| CatalogueReference {
                    schema: String::new(),
                    table,
                    column: row.to_column.unwrap_or_default(),
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, Executor as _};

    use super::*;

    #[tokio::test]
    async fn d36_a_virtual_table_of_a_module_that_is_not_there_hides_no_other_table() {
        let mut connection = SqliteConnection::connect("sqlite::memory:")
            .await
            .expect("a database");
        // As an app has left it whose own SQLite has the module.
        let made = "CREATE TABLE forum (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
                    PRAGMA writable_schema = ON;
                    INSERT INTO sqlite_master (type, name, tbl_name, rootpage, sql)
                    VALUES ('table', 'nearby', 'nearby', 0, 'CREATE VIRTUAL TABLE nearby USING no_such_module(id)');
                    PRAGMA writable_schema = RESET;";
        connection.execute(made).await.expect("tables");
        let tables = catalogue(&mut connection).await.expect("a catalogue");
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["forum"]);
    }
}
