//! The app's tables in SQLite, Django's default: file, journal mode, and formats of values.
//!
//! The files are those of `postgres`, plus `values`: how Django writes keys and moments as text, and `moments`:
//! how those compare in SQL.

mod apply;
mod catalogue;
mod counters;
pub(super) mod event_index;
mod event_types;
mod identify;
mod introspect;
mod ledger;
mod marked;
mod moments;
mod past_visitors;
mod stats;
mod values;
mod visitors;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::sqlite::{Sqlite, SqliteConnectOptions};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, Transaction};

use super::operations::{Backend, ReadConnection};
use super::schema::{LiveSchema, Requirements};
use super::sql::SqlStore;
use super::url::OpenError;
use crate::config::{self, Config};

pub(super) use catalogue::catalogue;

/// The app's tables in SQLite. Opens nothing, so it succeeds while the file is not there yet; the URL alone
/// can be wrong. Must be called on a tokio runtime.
pub(super) fn store(url: &str, config: &Config) -> Result<SqlStore<Sqlite>, OpenError> {
    let options = connect_options(url)?.busy_timeout(config.database.lock_timeout);
    Ok(SqlStore::new(options, config))
}

/// Options from the URL, for the store and for migrations. The file is the app's: it is never created here, and
/// its journal mode stays as the app set it.
pub(super) fn connect_options(url: &str) -> Result<SqliteConnectOptions, OpenError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|source| OpenError::Url {
        key: "database.url",
        source,
    })?;
    Ok(options.disable_statement_logging())
}

impl Backend for Sqlite {
    const OWN_EVENTS: &'static str = "headcount_page_view";

    fn right_to_connect(_: &SqliteConnectOptions) -> Option<(String, String)> {
        None
    }

    async fn introspect(
        connection: &mut SqliteConnection,
        wanted: &Requirements,
    ) -> Result<LiveSchema, sqlx::Error> {
        let mut live = introspect::live_schema(connection, &wanted.names).await?;
        if wanted.writes {
            live.ledger_tables = ledger::state(connection).await?;
        }
        if wanted.counters.is_some() {
            live.counter_tables = counters::state(connection).await?;
        }
        Ok(live)
    }

    async fn ledger_version(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
        ledger::version(connection).await
    }

    async fn begin_reading(
        connection: &mut SqliteConnection,
        _statement_timeout: Duration,
    ) -> Result<ReadConnection<'_, Sqlite>, sqlx::Error> {
        Ok(ReadConnection::Connection(connection))
    }

    /// SQLite has one writer at a time. `BEGIN IMMEDIATE` becomes the writer at once, or waits for that as long as
    /// `store` has set; a transaction that began as a reader could not wait at all.
    async fn begin<'c>(
        connection: &'c mut SqliteConnection,
        _database: &config::Database,
    ) -> Result<Transaction<'c, Sqlite>, sqlx::Error> {
        // SQLite rolls a transaction back by itself where the disk is full. The driver's own rollback then finds
        // nothing to roll back, and the driver believes for ever that a transaction is open.
        connection.ping().await?;
        if connection.is_in_transaction() {
            return Err(sqlx::Error::WorkerCrashed);
        }
        connection.begin_with("BEGIN IMMEDIATE").await
    }
}
