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

use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, Postgres};

use super::statement::{query_as, query_scalar};
use super::stats::views;
use crate::ids::CommunityId;
use crate::store::ledger::RIGHTS;
use crate::store::operations::{Context, FOLD_COMMUNITIES, all_time, no_events, spellings};
use crate::store::operations::{CounterSql, FromAnyRow, Value};
use crate::store::schema::right::{OF_COUNTERS, on_own_tables};
use crate::store::schema::{AppSchema, Column, CommunityTable, CounterTables};

/// Whether the sidecar's own tables are there, and which rights on them the role lacks.
pub(super) async fn state(connection: &mut PgConnection) -> Result<CounterTables, sqlx::Error> {
    let needed = OF_COUNTERS.iter().flat_map(|(privileges, tables)| {
        tables
            .iter()
            .flat_map(move |table| privileges.iter().map(move |privilege| (*table, *privilege)))
    });
    let (tables, privileges): (Vec<&str>, Vec<&str>) = needed.unzip();
    let found: Vec<(String, String, bool, bool)> = query_as(
        "SELECT c.relname::text, needed.privilege, has_table_privilege(c.oid, needed.privilege),
                has_schema_privilege(n.oid, 'USAGE')
         FROM UNNEST($1::text[], $2::text[]) AS needed(name, privilege)
         JOIN pg_catalog.pg_class c ON c.relname = needed.name AND c.relkind = 'r'
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'headcount'",
    )
    .bind(&tables)
    .bind(&privileges)
    .fetch_all(connection)
    .await?;
    if found.len() < tables.len() {
        return Ok(CounterTables::Missing);
    }
    let mut lacking = Vec::new();
    if found.iter().any(|(.., usage)| !usage) {
        lacking.push(RIGHTS[0].to_owned());
    }
    for (_, tables) in OF_COUNTERS {
        for table in tables {
            let of_it = found
                .iter()
                .filter(|(name, _, is_given, _)| name == table && !is_given);
            let privileges: Vec<&str> = of_it.map(|(_, privilege, ..)| privilege.as_str()).collect();
            if !privileges.is_empty() {
                lacking.push(on_own_tables(&privileges, &[table]));
            }
        }
    }
    Ok(if lacking.is_empty() {
        CounterTables::Usable
    } else {
        CounterTables::Forbidden(lacking)
    })
}

impl CounterSql for Postgres {
    const COUNTER: &'static str = "headcount.counter";
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
        app: &AppSchema,
    ) -> Result<(String, Vec<Value>), sqlx::Error> {
        let event = app.event.as_ref().ok_or_else(no_events)?;
        let (from, to) = all_time();
        let arguments = vec![
            Value::Texts(spellings(community, app)),
            Value::Moment(from),
            Value::Moment(to),
        ];
        Ok((views(context.until_ours, &context.types, app, event), arguments))
    }

    async fn execute(
        connection: &mut PgConnection,
        sql: String,
        arguments: Vec<Value>,
    ) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(sql), bound(arguments)?).persistent(false);
        Ok(query.execute(connection).await?.rows_affected())
    }

    async fn fetch<O: FromAnyRow>(
        connection: &mut PgConnection,
        sql: String,
        arguments: Vec<Value>,
    ) -> Result<Vec<O>, sqlx::Error> {
        let query = sqlx::query_as_with(AssertSqlSafe(sql), bound(arguments)?).persistent(false);
        query.fetch_all(connection).await
    }

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
            Value::Holder(holder) => arguments.add(holder),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
