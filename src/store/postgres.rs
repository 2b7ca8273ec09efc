//! The app's tables in Postgres.
//!
//! One file per owner of a query: `identify` (session and community lookups), `apply` (the one write; its events with
//! `copy` where the table takes that), `visitors`, `stats`, and `introspect`, which reads the catalogue; `options` makes connection options, `statement` sends
//! statements, `pooler` and `remarks` find out about poolers and the server; `trigger` and `listen` handle
//! notifications of ended sessions. Values are sent as text and cast to the column's type, so that one statement
//! serves `bigint` and `uuid` keys alike.

mod apply;
mod catalogue;
mod copy;
mod counters;
pub(super) mod event_index;
mod event_types;
mod identify;
pub(super) mod introspect;
mod ledger;
mod listen;
mod marked;
mod options;
mod own_tables;
pub(super) mod partitions;
mod past_visitors;
pub(super) mod pooler;
mod remarks;
pub(super) mod statement;
mod stats;
pub(super) mod trigger;
mod visitors;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, Postgres};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Transaction};

use super::operations::{Backend, ReadConnection};
use super::schema::right::{OF_COUNTERS, OF_LEDGER, connecting};
use super::schema::{Column, Dialect, Kind, LiveSchema, Requirements};
use super::sql::SqlStore;
use super::url::OpenError;
use crate::config::{self, Config, Secret};

pub(super) use catalogue::{catalogue, owner};
pub use listen::{Notification, SessionListener};
pub(super) use options::{connect_options, place};
pub(super) use remarks::remarks;

/// How long the server keeps an idle transaction and its locks, for example of a sidecar whose machine or network
/// failed. For that long the app waits for rows that the transaction has changed, for instance at a sign-out.
/// Between statements a sidecar needs milliseconds; one that was stopped for longer begins its transaction again.
const SILENCE: Duration = Duration::from_secs(5);

/// The app's tables in Postgres. Opens no connection, so it succeeds while the database is down; the URL
/// alone can be wrong. Must be called on a tokio runtime.
pub(super) fn store(url: &Secret, config: &Config) -> Result<SqlStore<Postgres>, OpenError> {
    Ok(SqlStore::new(connect_options(url, "database.url")?, config))
}

impl Backend for Postgres {
    const OWN_EVENTS: &'static str = "headcount.page_view";

    fn right_to_connect(options: &PgConnectOptions) -> Option<(String, String)> {
        // The server takes the user's name for that of the database where the URL has none.
        let database = options.get_database().unwrap_or(options.get_username());
        let role = Dialect::Postgres.quoted(options.get_username());
        Some((connecting(database), role))
    }

    async fn introspect(
        connection: &mut PgConnection,
        wanted: &Requirements,
    ) -> Result<LiveSchema, sqlx::Error> {
        let mut live = introspect::live_schema(connection, wanted).await?;
        if wanted.writes {
            live.ledger_tables = own_tables::state(connection, OF_LEDGER).await?;
        }
        if wanted.counters.is_some() {
            live.counter_tables = own_tables::state(connection, OF_COUNTERS).await?;
        }
        Ok(live)
    }

    async fn ledger_version(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
        ledger::version(connection).await
    }

    async fn begin_reading(
        connection: &mut PgConnection,
        statement_timeout: Duration,
    ) -> Result<ReadConnection<'_, Postgres>, sqlx::Error> {
        let begin = format!("BEGIN READ ONLY; {}", limits(statement_timeout));
        let transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
        Ok(ReadConnection::Transaction(transaction))
    }

    /// A batch that leaves the spool must be on the server's disk, even if the app disables that for its own
    /// writes. What triggers tell of each row would fill the connection while COPY still sends: nobody reads it then,
    /// and both ends would wait for each other. A connection whose other end is gone is found out within [`SILENCE`]
    /// also where the server waits for rows.
    async fn begin<'c>(
        connection: &'c mut PgConnection,
        database: &config::Database,
    ) -> Result<Transaction<'c, Postgres>, sqlx::Error> {
        let begin = format!(
            "BEGIN; {limits}; SET LOCAL lock_timeout = {lock_timeout}; SET LOCAL client_min_messages = error;
             SET LOCAL tcp_keepalives_idle = 3; SET LOCAL tcp_keepalives_interval = 1; SET LOCAL tcp_keepalives_count = 2;
             SELECT set_config('synchronous_commit', 'on', true)
             WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')",
            limits = limits(database.statement_timeout),
            lock_timeout = database.lock_timeout.as_millis(),
        );
        connection.begin_with(AssertSqlSafe(begin)).await
    }
}

/// Settings of one transaction: as settings of the connection a pooler would refuse them, or keep them for the
/// other clients of that connection. The server enforces the limits too, so that it does not go on with abandoned
/// work.
fn limits(statement_timeout: Duration) -> String {
    format!(
        "SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
        statement_timeout.as_millis(),
        SILENCE.as_millis()
    )
}

/// Converts between `timestamptz` and the column's own type; Postgres writes both directions alike.
fn moment(column: &Column, expression: &str) -> String {
    match column.kind {
        // The name is one of the IANA database and contains no quotes.
        Kind::Timestamp => format!("({expression} AT TIME ZONE '{}')", column.zone.name()),
        _ => expression.to_owned(),
    }
}

/// Reads a moment as `timestamptz`. The driver cannot read `infinity` nor years beyond chrono's: both become the
/// year 9999, or null in the past.
fn read_moment(column: &Column, expression: &str) -> String {
    let moment = moment(column, expression);
    format!(
        "CASE WHEN {moment} > '9999-12-31 00:00Z' THEN '9999-12-31 00:00Z' WHEN {moment} > '0001-01-01 00:00Z' \
         THEN {moment} END"
    )
}
