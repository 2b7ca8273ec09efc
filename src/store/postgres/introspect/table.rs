//! Reads tables from Postgres' catalogue: columns, rights of the role, foreign keys, indexes. One statement of a kind for all
//! tables, as the start waits for each statement; but for [`has_index`], which is asked for each lookup.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::Oid;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::from_row::from_row;
use crate::store::postgres::statement::{query_as, query_scalar};
use crate::store::schema::{Column, Dialect, Fixed, Kind, LiveColumn, LiveTable, Reference, TableName};

/// SQL: whether COPY does to the table `c` of the catalogue what INSERT does. It skips rules, and refuses row-level security
/// and views; '3' is INSERT.
pub(in crate::store) const TAKES_COPY: &str =
    "(c.relkind IN ('r', 'p') AND NOT pg_catalog.row_security_active(c.oid) AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '3'))";

/// Whether an index finds a row by this column. Of a view, or a table that there is not, that cannot be told.
pub(super) async fn has_index(
    connection: &mut PgConnection,
    table: &str,
    column: &str,
) -> Result<bool, sqlx::Error> {
    let (schema, name) = split(table);
    query_scalar(
        "SELECT NOT EXISTS (
             SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname = $2 AND c.relkind IN ('r', 'p')
               AND CASE WHEN $1::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $1 END
               AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_index i
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                   WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = $3))",
    )
    .bind(schema)
    .bind(name)
    .bind(column)
    .fetch_one(connection)
    .await
}

/// Schema and name of a table as configured.
pub(in crate::store) fn split(configured: &str) -> (Option<&str>, &str) {
    match configured.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, configured),
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct TableRow {
    nth: i64,
    oid: Oid,
    schema: String,
    name: String,
    schema_usage: bool,
    without_policy: Vec<String>,
    row_security: bool,
    is_view: bool,
    takes_insert: bool,
    takes_update: bool,
    takes_copy: bool,
}

from_row!(PgRow => TableRow { nth, oid, schema, name, schema_usage, without_policy, row_security, is_view, takes_insert, takes_update, takes_copy });

/// SQL: whether the table `c`, of the schema `n`, is in the schema that the expression `schema` gives, or, where that is null, on the
/// search path. Schemas that the role may not use are left out of that by the server, and counted here.
pub(in crate::store) fn in_schema(schema: &str) -> String {
    format!(
        "CASE WHEN {schema}::text IS NOT NULL THEN n.nspname = {schema}::text
              ELSE pg_catalog.pg_table_is_visible(c.oid) OR NOT has_schema_privilege(n.oid, 'USAGE')
                   AND n.nspname IN (SELECT replace(btrim(part, ' \"'), '$user', current_user)
                                     FROM regexp_split_to_table(current_setting('search_path'), ',') AS part)
         END"
    )
}

/// Tables by their configured names: `schema.table`, or `table` on the search path; those that there are. Every role can read
/// the catalogue, so a table without privileges is found, too.
pub(super) async fn tables(
    connection: &mut PgConnection,
    configured: &[&str],
) -> Result<BTreeMap<String, LiveTable>, sqlx::Error> {
    let rows = rows(connection, configured).await?;
    let oids: Vec<Oid> = rows.iter().map(|row| row.oid).collect();
    let columns = columns(connection, &oids).await?;
    let references = references(connection, &oids).await?;
    let table = |row: TableRow| {
        let place = usize::try_from(row.nth - 1).ok()?;
        let name = *configured.get(place)?;
        let table = LiveTable {
            columns: of_table(&columns, row.oid),
            references: of_table(&references, row.oid),
            name: TableName {
                dialect: Dialect::Postgres,
                schema: Some(row.schema),
                name: row.name,
            },
            schema_usage: row.schema_usage,
            without_policy: row.without_policy,
            row_security: row.row_security,
            takes_copy: row.takes_copy,
            fixed: Fixed {
                is_view: row.is_view,
                insert: row.is_view && !row.takes_insert,
                update: row.is_view && !row.takes_update,
            },
        };
        Some((name.to_owned(), table))
    };
    Ok(rows.into_iter().filter_map(table).collect())
}

/// What of it is the table's.
fn of_table<T: Clone>(all: &[(Oid, T)], table: Oid) -> Vec<T> {
    let of_it = all.iter().filter(|(of, _)| *of == table);
    of_it.map(|(_, one)| one.clone()).collect()
}

async fn rows(connection: &mut PgConnection, configured: &[&str]) -> Result<Vec<TableRow>, sqlx::Error> {
    let (schemas, names): (Vec<Option<&str>>, Vec<&str>) = configured.iter().copied().map(split).unzip();
    let in_schema = in_schema("wanted.schema");
    let sql = format!(
        "SELECT wanted.nth, found.*
         FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS wanted(schema, name, nth),
              LATERAL (SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
                has_schema_privilege(n.oid, 'USAGE') AS schema_usage,
                ARRAY(
                    SELECT command.name FROM (VALUES ('SELECT', 'r'), ('INSERT', 'a'), ('UPDATE', 'w'))
                        AS command(name, letter)
                    WHERE row_security_active(c.oid) AND NOT EXISTS (
                        SELECT FROM pg_catalog.pg_policy p
                        WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd IN (command.letter::\"char\", '*')
                          AND (p.polroles = '{{0}}'
                               OR EXISTS (SELECT FROM unnest(p.polroles) AS role
                                          WHERE pg_has_role(current_user, role, 'USAGE'))))
                ) AS without_policy,
                c.relrowsecurity AS row_security,
                c.relkind IN ('v', 'm') AS is_view,
                -- With triggers. The bits are 1 << CMD_UPDATE (2) and 1 << CMD_INSERT (3).
                pg_relation_is_updatable(c.oid, true) & 8 <> 0 AS takes_insert,
                pg_relation_is_updatable(c.oid, true) & 4 <> 0 AS takes_update,
                {TAKES_COPY} AS takes_copy
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relname = wanted.name
           AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND {in_schema}
         ORDER BY pg_catalog.pg_table_is_visible(c.oid) DESC LIMIT 1) AS found"
    );
    query_as(AssertSqlSafe(sql))
        .bind(schemas)
        .bind(names)
        .fetch_all(connection)
        .await
}

struct ForeignKeyRow {
    of_table: Oid,
    column_name: String,
    schema: String,
    name: String,
}

from_row!(PgRow => ForeignKeyRow { of_table, column_name, schema, name });

/// Foreign keys, each with the table that it is of.
async fn references(
    connection: &mut PgConnection,
    tables: &[Oid],
) -> Result<Vec<(Oid, Reference)>, sqlx::Error> {
    let rows: Vec<ForeignKeyRow> = query_as(
        "SELECT k.conrelid AS of_table, a.attname::text AS column_name, n.nspname::text AS schema, c.relname::text AS name
         FROM pg_catalog.pg_constraint k
         JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
         JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE k.conrelid = ANY ($1) AND k.contype = 'f' AND cardinality(k.conkey) = 1
         ORDER BY a.attnum",
    )
    .bind(tables)
    .fetch_all(connection)
    .await?;
    let read = |row: ForeignKeyRow| {
        let reference = Reference {
            column: row.column_name,
            table: TableName {
                dialect: Dialect::Postgres,
                schema: Some(row.schema),
                name: row.name,
            },
        };
        (row.of_table, reference)
    };
    Ok(rows.into_iter().map(read).collect())
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct ColumnFacts {
    of_table: Oid,
    name: String,
    base_type: String,
    type_name: String,
    nullable: bool,
    max_length: Option<i32>,
    is_loose: bool,
    has_default: bool,
    generated: bool,
    locked_sequence: Option<String>,
    sequence: Option<String>,
    is_unique: bool,
    is_indexed: bool,
    may_select: bool,
    may_insert: bool,
    may_update: bool,
}

from_row!(PgRow => ColumnFacts { of_table, name, base_type, type_name, nullable, max_length, is_loose, has_default, generated, locked_sequence, sequence, is_unique, is_indexed, may_select, may_insert, may_update });

/// Columns in their order, each with the table that it is of.
async fn columns(
    connection: &mut PgConnection,
    tables: &[Oid],
) -> Result<Vec<(Oid, LiveColumn)>, sqlx::Error> {
    let rows: Vec<ColumnFacts> = query_as(
        "SELECT a.attrelid AS of_table, a.attname::text AS name,
                coalesce(base.typname, t.typname)::text AS base_type,
                pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
                NOT (a.attnotnull OR t.typnotnull) AS nullable,
                CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4
                     WHEN base.typname IN ('varchar', 'bpchar') AND t.typtypmod > 4 THEN t.typtypmod - 4
                END AS max_length,
                coalesce(base.typname, t.typname) IN ('citext', 'bpchar')
                    -- Not EXISTS, for which the server would read all collations
                    OR coalesce((SELECT NOT c.collisdeterministic
                                 FROM pg_catalog.pg_collation c WHERE c.oid = a.attcollation), false)
                    AS is_loose,
                (a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL) AS has_default,
                (a.attgenerated <> '' OR a.attidentity = 'a') AS generated,
                CASE WHEN NOT has_sequence_privilege(s.oid, 'USAGE') THEN s.name END
                    AS locked_sequence,
                s.name AS sequence,
                EXISTS (SELECT FROM pg_catalog.pg_index i
                        WHERE i.indrelid = a.attrelid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                          AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1) AS is_unique,
                EXISTS (SELECT FROM pg_catalog.pg_index i
                        WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indpred IS NULL
                          AND i.indkey[0] = a.attnum) AS is_indexed,
                has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS may_select,
                has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS may_insert,
                has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS may_update
         FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_catalog.pg_type base ON t.typtype = 'd' AND base.oid = t.typbasetype
         -- The sequence of a default, as of the serial columns that Django made before 4.1, has privileges of its own;
         -- that of an identity column has not
         LEFT JOIN LATERAL (
             SELECT s.oid, format('%I.%I', n.nspname, s.relname) AS name FROM pg_catalog.pg_attrdef f
             JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
                                        AND d.refclassid = 'pg_catalog.pg_class'::regclass
             JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
             JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
             WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
             LIMIT 1
         ) AS s ON true
         WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum",
    )
    .bind(tables)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.of_table, row.into())).collect())
}

impl From<ColumnFacts> for LiveColumn {
    fn from(row: ColumnFacts) -> Self {
        Self {
            column: Column {
                dialect: Dialect::Postgres,
                name: row.name,
                kind: kind(&row.base_type),
                type_name: row.type_name,
                nullable: row.nullable,
                max_length: row.max_length.and_then(|limit| usize::try_from(limit).ok()),
                is_loose: row.is_loose,
                zone: Tz::UTC,
            },
            has_default: row.has_default,
            generated: row.generated,
            locked_sequence: row.locked_sequence,
            sequence: row.sequence,
            is_unique: row.is_unique,
            is_indexed: row.is_indexed,
            may_select: row.may_select,
            may_insert: row.may_insert,
            may_update: row.may_update,
        }
    }
}

pub(in crate::store) fn kind(base_type: &str) -> Kind {
    match base_type {
        "int2" => Kind::SmallInt,
        "int4" => Kind::Integer,
        "int8" => Kind::BigInt,
        "uuid" => Kind::Uuid,
        "text" | "varchar" | "bpchar" | "citext" => Kind::Text,
        "bool" => Kind::Bool,
        "timestamptz" => Kind::TimestampTz,
        "timestamp" => Kind::Timestamp,
        "json" => Kind::Json,
        "jsonb" => Kind::Jsonb,
        "inet" => Kind::Inet,
        _ => Kind::Other,
    }
}
