//! Reads one table from Postgres' catalogue: columns, rights of the role, foreign keys, indexes.

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

from_row!(PgRow => TableRow { oid, schema, name, schema_usage, without_policy, row_security, is_view, takes_insert, takes_update, takes_copy });

/// SQL for whether the table `c` of the schema `n` has the schema $1, or, where that is null, is on the search path.
/// Schemas that the role may not use are left out of that by the server, and counted here.
pub(in crate::store) const NAMED: &str = "\
    CASE WHEN $1::text IS NOT NULL THEN n.nspname = $1
         ELSE pg_catalog.pg_table_is_visible(c.oid) OR NOT has_schema_privilege(n.oid, 'USAGE')
              AND n.nspname IN (SELECT replace(btrim(part, ' \"'), '$user', current_user)
                                FROM regexp_split_to_table(current_setting('search_path'), ',') AS part)
    END";

/// A table by its configured name: `schema.table`, or `table` on the search path. Every role can read the
/// catalogue, so a table without privileges is found, too.
pub(super) async fn table(
    connection: &mut PgConnection,
    configured: &str,
) -> Result<Option<LiveTable>, sqlx::Error> {
    if configured.is_empty() {
        return Ok(None);
    }
    let (schema, name) = split(configured);
    let sql = format!(
        "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
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
         WHERE c.relname = $2
           AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND {NAMED}
         ORDER BY pg_catalog.pg_table_is_visible(c.oid) DESC LIMIT 1"
    );
    let found: Option<TableRow> = query_as(AssertSqlSafe(sql))
        .bind(schema)
        .bind(name)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(found) = found else { return Ok(None) };
    Ok(Some(LiveTable {
        columns: columns(connection, found.oid).await?,
        references: references(connection, found.oid).await?,
        name: TableName {
            dialect: Dialect::Postgres,
            schema: Some(found.schema),
            name: found.name,
        },
        schema_usage: found.schema_usage,
        without_policy: found.without_policy,
        row_security: found.row_security,
        takes_copy: found.takes_copy,
        fixed: Fixed {
            is_view: found.is_view,
            insert: found.is_view && !found.takes_insert,
            update: found.is_view && !found.takes_update,
        },
    }))
}

struct ForeignKeyRow {
    column_name: String,
    schema: String,
    name: String,
}

from_row!(PgRow => ForeignKeyRow { column_name, schema, name });

async fn references(connection: &mut PgConnection, table: Oid) -> Result<Vec<Reference>, sqlx::Error> {
    let rows: Vec<ForeignKeyRow> = query_as(
        "SELECT a.attname::text AS column_name, n.nspname::text AS schema, c.relname::text AS name
         FROM pg_catalog.pg_constraint k
         JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
         JOIN pg_catalog.pg_class c ON c.oid = k.confrelid
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE k.conrelid = $1 AND k.contype = 'f' AND cardinality(k.conkey) = 1
         ORDER BY a.attnum",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    let read = |row: ForeignKeyRow| Reference {
        column: row.column_name,
        table: TableName {
            dialect: Dialect::Postgres,
            schema: Some(row.schema),
            name: row.name,
        },
    };
    Ok(rows.into_iter().map(read).collect())
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
struct ColumnFacts {
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

from_row!(PgRow => ColumnFacts { name, base_type, type_name, nullable, max_length, is_loose, has_default, generated, locked_sequence, sequence, is_unique, is_indexed, may_select, may_insert, may_update });

async fn columns(connection: &mut PgConnection, table: Oid) -> Result<Vec<LiveColumn>, sqlx::Error> {
    let rows: Vec<ColumnFacts> = query_as(
        "SELECT a.attname::text AS name,
                coalesce(base.typname, t.typname)::text AS base_type,
                pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
                NOT (a.attnotnull OR t.typnotnull) AS nullable,
                CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4
                     WHEN base.typname IN ('varchar', 'bpchar') AND t.typtypmod > 4 THEN t.typtypmod - 4
                END AS max_length,
                coalesce(base.typname, t.typname) IN ('citext', 'bpchar')
                    OR EXISTS (SELECT FROM pg_catalog.pg_collation c
                               -- A column of the catalogue since Postgres 12
                               WHERE c.oid = a.attcollation AND to_jsonb(c) ->> 'collisdeterministic' = 'false')
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
         WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
         ORDER BY a.attnum",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(LiveColumn::from).collect())
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
