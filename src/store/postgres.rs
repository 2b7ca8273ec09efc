//! The app's tables in Postgres.
//!
//! One file per owner of a query: `identify` (session and community lookups), `apply` (the one write),
//! `visitors`, `stats`, and `introspect`, which reads the catalogue; `trigger` and `listen` are about hearing of
//! sessions that end. Values go in as text and are cast to
//! the column's type, so that one statement serves `bigint` and `uuid` keys alike.

mod apply;
mod identify;
mod introspect;
mod ledger;
mod listen;
mod stats;
pub(super) mod trigger;
mod visitors;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, Postgres};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Transaction};

use super::ledger::LedgerProblem;
use super::open::OpenError;
use super::operations::Backend;
use super::schema::{Column, Kind, LiveSchema};
use super::sql::SqlStore;
use crate::config::{Config, Schema};

pub use listen::{Heard, SessionListener};

/// How long the server keeps a transaction, and its locks, of which it hears nothing more: of a sidecar whose
/// machine or network is gone. For so long the app waits for rows that the transaction has changed, a sign-out
/// for one. From statement to statement a sidecar needs milliseconds; one that was stopped for longer begins
/// its transaction again.
const SILENCE: Duration = Duration::from_secs(5);

/// The app's tables in Postgres. Opens no connection, so it succeeds while the database is down; the URL
/// alone can be wrong. Must be called on a tokio runtime.
pub(super) fn store(url: &str, config: &Config) -> Result<SqlStore<Postgres>, OpenError> {
    // The server gives up as well, so that it does not work on for nobody.
    let statement_timeout = config.database.statement_timeout.as_millis();
    let options = connect_options(url)?.options([
        ("statement_timeout", statement_timeout),
        ("idle_in_transaction_session_timeout", SILENCE.as_millis()),
    ]);
    Ok(SqlStore::new(options, config))
}

/// Options from the URL, for the store and for migrations.
pub(super) fn connect_options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(OpenError::Url)?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("headcount"),
    };
    Ok(options.disable_statement_logging())
}

impl Backend for Postgres {
    async fn introspect(connection: &mut PgConnection, names: &Schema) -> Result<LiveSchema, sqlx::Error> {
        introspect::live_schema(connection, names).await
    }

    async fn ledger(connection: &mut PgConnection) -> Result<Option<LedgerProblem>, sqlx::Error> {
        ledger::state(connection).await
    }

    async fn begin(
        connection: &mut PgConnection,
        lock_timeout: Duration,
    ) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT set_config('lock_timeout', $1, true)")
            .bind(format!("{}ms", lock_timeout.as_millis()))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction)
    }
}

/// A moment bound as `timestamptz`, in the column's own type.
fn moment(column: &Column, parameter: &str) -> String {
    match column.kind {
        Kind::Timestamp => format!("({parameter} AT TIME ZONE 'UTC')"),
        _ => parameter.to_owned(),
    }
}

/// A moment read as `timestamptz`. The driver cannot read `infinity` nor years beyond chrono's: both become
/// the year 9999, or null in the past.
fn read_moment(column: &Column, expression: &str) -> String {
    let moment = match column.kind {
        Kind::Timestamp => format!("({expression} AT TIME ZONE 'UTC')"),
        _ => expression.to_owned(),
    };
    format!(
        "CASE WHEN {moment} > '9999-12-31 00:00Z' THEN '9999-12-31 00:00Z' WHEN {moment} > '0001-01-01 00:00Z' \
         THEN {moment} END"
    )
}
