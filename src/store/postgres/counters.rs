//! Statements of counters on Postgres; those that SQLite has alike are in `counter_sql`.
//!
//! Locks, in one order: the key of the lease's row, counters in the order of their keys, the app's rows in that of theirs, the
//! whole of the lease's row. None waits for a lock while it holds one, except for a counter's row, and for a renewal of the
//! lease, which waits for nothing; rows of the app's that are locked are left for the next time.

mod adding;
mod lease;
mod publish;
mod recount;

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, Postgres};

use super::statement::query_scalar;
use super::stats::views;
use crate::ids::CommunityId;
use crate::store::operations::{Context, FOLD_COMMUNITIES, all_time, no_events, spellings};
use crate::store::operations::{CounterSql, FromAnyRow, Value, runs_statements};
use crate::store::schema::{AppSchema, Column, CommunityTable};

impl CounterSql for Postgres {
    const COUNTER: &'static str = "headcount.counter";
    const LEDGER: &'static str = "headcount.applied_batch";
    const LEAST: &'static str = "least";
    const KEY_SHARE: &'static str = " FOR KEY SHARE";

    fn now() -> Cow<'static, str> {
        "clock_timestamp()".into()
    }

    fn micros(moment: &str) -> String {
        format!("(extract(epoch FROM {moment}) * 1000000)::bigint")
    }

    fn among(parameter: &str) -> String {
        format!("= ANY ({parameter}::text[])")
    }

    fn as_key(text: &str, column: &Column) -> String {
        format!("{text}::text::{}", column.type_name)
    }

    fn stored(community: &CommunityId, column: &Column) -> Result<Option<String>, sqlx::Error> {
        let is_key = column.is_key(community.as_str());
        Ok(is_key.then(|| community.as_str().to_owned()))
    }

    fn views(
        context: &Context<'_>,
        community: &CommunityId,
        since: Option<DateTime<Utc>>,
        app: &AppSchema,
    ) -> Result<(String, Vec<Value>), sqlx::Error> {
        let event = app.event.as_ref().ok_or_else(no_events)?;
        let (from, to) = all_time();
        let arguments = vec![
            Value::Texts(spellings(community, app)),
            Value::Moment(since.unwrap_or(from)),
            Value::Moment(to),
        ];
        Ok((views(context.until_ours, &context.types, app, event), arguments))
    }

    runs_statements!(PgConnection, bound);

    async fn behind(
        connection: &mut PgConnection,
        table: &CommunityTable,
        after: Option<&CommunityId>,
        limit: i64,
    ) -> Result<Vec<CommunityId>, sqlx::Error> {
        let (id, key) = (&table.id, &table.id.type_name);
        let sql = format!(
            "SELECT {id}::text FROM {table} WHERE $1::text IS NULL OR {id} > $1::text::{key}
             ORDER BY {id} LIMIT $2",
            table = table.table
        );
        let keys: Vec<String> = query_scalar(AssertSqlSafe(sql))
            .bind(after.map(CommunityId::as_str))
            .bind(limit)
            .fetch_all(connection)
            .await?;
        Ok(keys.into_iter().map(CommunityId::new).collect())
    }

    async fn absent(
        connection: &mut PgConnection,
        table: &CommunityTable,
    ) -> Result<Vec<String>, sqlx::Error> {
        let sql = format!(
            "SELECT k.community FROM headcount.counter AS k
             WHERE NOT EXISTS (SELECT 1 FROM {table} AS c WHERE c.{id}::text = k.community)
             ORDER BY k.community LIMIT $1 FOR UPDATE SKIP LOCKED",
            table = table.table,
            id = table.id
        );
        query_scalar(AssertSqlSafe(sql))
            .bind(FOLD_COMMUNITIES)
            .fetch_all(connection)
            .await
    }
}

/// Arguments as Postgres has them.
fn bound(values: Vec<Value>) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Value::Text(text) => arguments.add(text),
            Value::Texts(texts) => arguments.add(texts),
            Value::Integer(number) => arguments.add(number),
            Value::Flag(flag) => arguments.add(flag),
            Value::Moment(at) => arguments.add(at),
            Value::Id(id) => arguments.add(id),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
