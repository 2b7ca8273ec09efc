//! All tables of Postgres' catalogue that may be the app's.

use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::introspect::kind;
use super::statement::{query_as, query_scalar};
use crate::from_row::from_row;
use crate::store::catalogue::{
    CatalogueColumn, CatalogueReference, CatalogueTable, Listed, MAX_COLUMNS, tables,
};

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct ListedRow {
    schema: String,
    table_name: String,
    is_visible: bool,
    name: String,
    base_type: String,
    type_name: String,
    is_nullable: bool,
    max_length: Option<i32>,
    is_key: bool,
    is_unique: bool,
    has_default: bool,
    to_schema: Option<String>,
    to_table: Option<String>,
    to_column: Option<String>,
}

from_row!(PgRow => ListedRow { schema, table_name, is_visible, name, base_type, type_name, is_nullable, max_length, is_key, is_unique, has_default, to_schema, to_table, to_column });

/// Tables and views that are neither the server's nor the sidecar's own; of a partitioned table the table itself.
pub(in crate::store) async fn catalogue(
    connection: &mut PgConnection,
) -> Result<Vec<CatalogueTable>, sqlx::Error> {
    let rows: Vec<ListedRow> = query_as(
        "SELECT n.nspname::text AS schema, c.relname::text AS table_name,
                pg_catalog.pg_table_is_visible(c.oid) AS is_visible, a.attname::text AS name,
                coalesce(base.typname, t.typname)::text AS base_type,
                pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
                NOT (a.attnotnull OR t.typnotnull) AS is_nullable,
                CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END
                    AS max_length,
                coalesce(bool_or(i.indisprimary), false) AS is_key, count(i.indexrelid) > 0 AS is_unique,
                (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) AS has_default,
                min(fn.nspname)::text AS to_schema, min(fc.relname)::text AS to_table,
                min(fa.attname)::text AS to_column
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_type base ON t.typtype = 'd' AND base.oid = t.typbasetype
         LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisunique AND i.indpred IS NULL
                                        AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum
         LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f'
                                             AND k.conkey = ARRAY[a.attnum]
         LEFT JOIN pg_catalog.pg_class fc ON fc.oid = k.confrelid
         LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
         LEFT JOIN pg_catalog.pg_attribute fa ON fa.attrelid = k.confrelid AND fa.attnum = k.confkey[1]
         WHERE c.relkind IN ('r', 'p', 'v', 'f') AND NOT c.relispartition
           AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'headcount')
           AND n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%'
         GROUP BY n.nspname, c.relname, c.oid, a.attnum, a.attname, base.typname, t.oid, a.atttypid, a.atttypmod,
                  a.attnotnull, t.typnotnull, t.typname, a.atthasdef, a.attidentity, t.typdefault
         ORDER BY n.nspname, c.relname, a.attnum LIMIT $1",
    )
    .bind(MAX_COLUMNS)
    .fetch_all(connection)
    .await?;
    Ok(tables(rows.into_iter().map(Listed::from)))
}

/// The current role, where it is a superuser or owns tables of the app's.
pub(in crate::store) async fn owner(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    query_scalar(
        "SELECT r.rolname::text FROM pg_catalog.pg_roles r
         WHERE r.rolname = current_user
           AND (r.rolsuper
                OR EXISTS (SELECT FROM pg_catalog.pg_class c
                           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                           WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                             AND pg_has_role(c.relowner, 'USAGE')))",
    )
    .fetch_optional(connection)
    .await
}

impl From<ListedRow> for Listed {
    fn from(row: ListedRow) -> Self {
        let references = match (row.to_schema, row.to_table, row.to_column) {
            (Some(schema), Some(table), Some(column)) => Some(CatalogueReference {
                schema,
                table,
                column,
            }),
            _ => None,
        };
        Self {
            schema: row.schema,
            table: row.table_name,
            is_visible: row.is_visible,
            column: CatalogueColumn {
                name: row.name,
                kind: kind(&row.base_type),
                type_name: row.type_name,
                is_nullable: row.is_nullable,
                is_key: row.is_key,
                is_unique: row.is_unique,
                has_default: row.has_default,
                max_length: row.max_length.and_then(|limit| usize::try_from(limit).ok()),
                references,
            },
        }
    }
}
