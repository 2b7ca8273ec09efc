//! Event types on Postgres: those that the column does not take, and those of the last day.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::event_index::{COLUMNS, STATEMENTS, VISITS_STATEMENTS, is_counted, is_ours};
use super::moment;
use super::statement::{query, query_as, query_scalar};
use crate::from_row::from_row;
use crate::store::event_indexes::{self, LiveIndex, NAMES, VISITS};
use crate::store::event_types::{TypeCount, TypeFault};
use crate::store::operations::{FaultyIndexes, FaultyTypes, LookAtEvents, Runs};
use crate::store::schema::AppSchema;

struct Constraint {
    name: String,
    /// The condition, which names the column as it is.
    words: String,
}

from_row!(PgRow => Constraint { name, words });

impl Runs<FaultyTypes<'_>> for Postgres {
    /// The server itself evaluates each constraint of the column alone.
    async fn run(
        operation: &FaultyTypes<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Arc<str>, TypeFault)>, sqlx::Error> {
        let Some(event) = app.event.as_ref().filter(|event| event.insert.is_some()) else {
            return Ok(Vec::new());
        };
        let mut faults = operation.too_long(event);
        let constraints: Vec<Constraint> = query_as(
            "SELECT c.conname::text AS name, pg_get_expr(c.conbin, c.conrelid) AS words
             FROM pg_catalog.pg_constraint c
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attname = $2
             WHERE c.conrelid = to_regclass($1) AND c.contype = 'c' AND c.conkey = ARRAY[a.attnum]
             ORDER BY c.conname",
        )
        .bind(event.table.to_string())
        .bind(&event.event_type.name)
        .fetch_all(&mut *connection)
        .await?;
        let types: Vec<&str> = operation.types.iter().map(|name| &**name).collect();
        for constraint in constraints {
            let sql = format!(
                "SELECT headcount_type.name FROM unnest($1::text[]) AS headcount_type (name),
                        LATERAL (SELECT headcount_type.name::{type_name} AS {column}) AS headcount_row
                 WHERE NOT coalesce(({words}), true)",
                type_name = event.event_type.type_name,
                column = event.event_type,
                words = constraint.words,
            );
            let forbidden: Vec<String> = query_scalar(AssertSqlSafe(sql))
                .bind(&types)
                .fetch_all(&mut *connection)
                .await?;
            faults.extend(forbidden.into_iter().map(|name| {
                let constraint = format!("{:?}", constraint.name);
                (Arc::from(name), TypeFault::Forbidden(constraint))
            }));
        }
        Ok(faults)
    }
}

impl Runs<FaultyIndexes> for Postgres {
    async fn run(
        operation: &FaultyIndexes,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<String>, sqlx::Error> {
        // A view has no indexes: those of the table under it are the app's.
        let Some(event) = app.event.as_ref().filter(|event| !event.is_view) else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT c.relname::text, {COLUMNS} FROM pg_catalog.pg_index x
             JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid AND c.relname = ANY ($1)
             WHERE x.indrelid = to_regclass($2) AND x.indisvalid"
        );
        let live: Vec<LiveIndex> = query_as(AssertSqlSafe(sql))
            .bind([NAMES, VISITS].concat())
            .bind(event.table.to_string())
            .fetch_all(connection)
            .await?;
        Ok(event_indexes::faults(
            &live,
            STATEMENTS,
            operation.visits.then_some(VISITS_STATEMENTS),
            event,
        ))
    }
}

impl Runs<LookAtEvents<'_>> for Postgres {
    async fn run(
        operation: &LookAtEvents<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<TypeCount>, sqlx::Error> {
        let Some(event) = &app.event else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT {event_type}::text AS event_type, count(*) FILTER (WHERE {ours}) AS ours,
                    count(*) FILTER (WHERE {theirs}) AS theirs
             FROM {table} WHERE {timestamp} >= {since} AND {counted} GROUP BY 1 ORDER BY 1",
            event_type = event.event_type,
            ours = is_ours(event, true),
            theirs = is_ours(event, false),
            table = event.table,
            timestamp = event.timestamp,
            since = moment(&event.timestamp, "$1::timestamptz"),
            counted = is_counted(event, operation.types),
        );
        // No index begins with the time. To the planner the whole table is cheaper than a whole index, which is a small part of
        // it.
        query("SELECT set_config('enable_seqscan', 'off', true)")
            .execute(&mut *connection)
            .await?;
        query_as(AssertSqlSafe(sql))
            .bind(operation.since)
            .fetch_all(connection)
            .await
    }
}
