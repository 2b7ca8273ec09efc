//! How the two databases differ in the statements of counters: names of tables, the clock, how a list is an argument.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Database, FromRow};
use uuid::Uuid;

use super::counters::Context;
use crate::ids::CommunityId;
use crate::store::schema::{AppSchema, Column, CommunityTable};

/// An argument of a statement.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value {
    Text(Option<String>),
    /// A list, to be used with [`CounterSql::among`].
    Texts(Vec<String>),
    Integer(i64),
    Flag(bool),
    /// As the sidecar's own tables have moments.
    Moment(DateTime<Utc>),
    /// A holder of the lease, or the writer of a part.
    Id(Uuid),
}

/// Read from a row of either database.
pub(in crate::store) trait FromAnyRow:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

impl<O> FromAnyRow for O where O: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// A database that can hold counters.
pub(in crate::store) trait CounterSql: Database {
    /// The sidecar's table of counters. The names of its other tables begin with that: `_visitor`, `_delta`, `_lease`.
    const COUNTER: &'static str;
    /// The ledger's table of parts.
    const LEDGER: &'static str;
    /// The function for the least of numbers.
    const LEAST: &'static str;
    /// The end of a SELECT, after which nobody else changes the row's key until the transaction ends.
    const KEY_SHARE: &'static str;

    /// SQL: the moment of the statement, as the sidecar's own tables have moments.
    fn now() -> Cow<'static, str>;

    /// SQL: such a moment in microseconds since 1970.
    fn micros(moment: &str) -> String;

    /// SQL, after an expression: is one of the texts of `parameter`.
    fn among(parameter: &str) -> String;

    /// SQL: a text that [`CounterSql::stored`] has made, to be compared with `column`.
    fn as_key(text: &str, column: &Column) -> String;

    /// A community as the column has it; `None` if it cannot be one.
    fn stored(community: &CommunityId, column: &Column) -> Result<Option<String>, sqlx::Error>;

    /// SQL of `headcount_views (user_id, at, ours)` since then, or of all time, after WITH, and its arguments, which are the
    /// statement's first.
    fn views(
        context: &Context<'_>,
        community: &CommunityId,
        since: Option<DateTime<Utc>>,
        app: &AppSchema,
    ) -> Result<(String, Vec<Value>), sqlx::Error>;

    /// Runs a statement; how many rows it changed. Parameters are written `$1`.
    fn execute(
        connection: &mut Self::Connection,
        sql: String,
        arguments: Vec<Value>,
    ) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;

    /// Runs a statement; its rows.
    fn fetch<O: FromAnyRow>(
        connection: &mut Self::Connection,
        sql: String,
        arguments: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<O>, sqlx::Error>> + Send;

    /// The app's communities behind `after` in the order of their keys, at most `limit`.
    fn behind(
        connection: &mut Self::Connection,
        table: &CommunityTable,
        after: Option<&CommunityId>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<CommunityId>, sqlx::Error>> + Send;

    /// Keys of counters whose communities the app has deleted; a bounded number of them where that is of use. Nobody else
    /// adds to these until the transaction ends.
    fn absent(
        connection: &mut Self::Connection,
        table: &CommunityTable,
    ) -> impl Future<Output = Result<Vec<String>, sqlx::Error>> + Send;
}

/// [`CounterSql::execute`] and [`CounterSql::fetch`] over a driver's connection: no trait of the driver's counts the rows that a
/// statement changed. `$bound` makes the driver's arguments.
macro_rules! runs_statements {
    ($connection:ty, $bound:path) => {
        async fn execute(
            connection: &mut $connection,
            sql: String,
            arguments: Vec<Value>,
        ) -> Result<u64, sqlx::Error> {
            let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), $bound(arguments)?).persistent(false);
            Ok(query.execute(connection).await?.rows_affected())
        }

        async fn fetch<O: FromAnyRow>(
            connection: &mut $connection,
            sql: String,
            arguments: Vec<Value>,
        ) -> Result<Vec<O>, sqlx::Error> {
            let query = sqlx::query_as_with(sqlx::AssertSqlSafe(sql), $bound(arguments)?).persistent(false);
            query.fetch_all(connection).await
        }
    };
}

pub(in crate::store) use runs_statements;
