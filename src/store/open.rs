//! Which database the configuration names.

use std::sync::Arc;

use super::operations::Backend;
use super::schema::Resolved;
use super::sql::SqlStore;
use super::{LedgerProblem, SchemaProblem, SessionListener, Store, StoreError, postgres, sqlite};
use crate::config::{Config, Database, Revocation, Secret};

/// Opens the app's tables as configured. No connection is made yet, so this succeeds while the database is
/// down. Must be called on a tokio runtime.
pub fn open(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let url = database_url(&config.database)?;
    Ok(match Scheme::of(&url)? {
        Scheme::Postgres => Arc::new(postgres::store(url.expose(), config)?),
        Scheme::Sqlite => Arc::new(sqlite::store(url.expose(), config)?),
    })
}

/// What hears of sessions that end, where the configuration has the database tell. Connects nowhere yet.
pub fn session_listener(config: &Config) -> Result<Option<SessionListener>, OpenError> {
    let url = database_url(&config.database)?;
    match (config.session.revocation, Scheme::of(&url)?) {
        (Revocation::Trigger, Scheme::Postgres) => SessionListener::new(url.expose(), config).map(Some),
        (Revocation::Off, _) | (_, Scheme::Sqlite) => Ok(None),
    }
}

/// Compares the live schema with the configuration; no problem, no entry.
pub async fn check(config: &Config) -> Result<Vec<SchemaProblem>, StoreError> {
    let outcome = async {
        let url = database_url(&config.database)?;
        Ok(match Scheme::of(&url)? {
            Scheme::Postgres => problems(postgres::store(url.expose(), config)?, config).await,
            Scheme::Sqlite => problems(sqlite::store(url.expose(), config)?, config).await,
        })
    };
    outcome.await.unwrap_or_else(|error| Err(misconfigured(error)))
}

/// What is wrong with the ledger, if anything.
pub async fn check_ledger(config: &Config) -> Result<Option<LedgerProblem>, StoreError> {
    let store = open(config).map_err(misconfigured)?;
    let problem = store.ledger().await;
    store.close().await;
    problem
}

fn misconfigured(error: OpenError) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Configuration(Box::new(error)))
}

async fn problems<B: Backend>(store: SqlStore<B>, config: &Config) -> Result<Vec<SchemaProblem>, StoreError> {
    let resolved = store.resolved().await;
    store.close().await;
    let Resolved {
        mut problems,
        session_trigger,
        ..
    } = resolved?;
    if config.session.revocation == Revocation::Trigger && !session_trigger {
        let table = config.schema.session.table.clone();
        problems.push(SchemaProblem::NoTrigger { table });
    }
    Ok(problems)
}

/// Why the configuration names no database. Never shows the URL: there may be a password in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `url` nor `url_file`.
    #[error("no database is configured: set database.url, or database.url_file")]
    Missing,
    /// The file with the URL cannot be read.
    #[error("database.url_file cannot be read")]
    File(#[source] std::io::Error),
    /// Not a scheme that we know.
    #[error("database.url must begin with postgres:// or sqlite://, not with {0:?}")]
    Scheme(String),
    /// The rest of the URL is wrong.
    #[error("database.url is not valid")]
    Url(#[source] sqlx::Error),
}

/// The two databases.
pub(super) enum Scheme {
    Postgres,
    Sqlite,
}

impl Scheme {
    pub(super) fn of(url: &Secret) -> Result<Self, OpenError> {
        match url.expose().split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            // Only what is certainly a scheme is shown.
            Some((scheme, rest)) if rest.starts_with("//") => Err(OpenError::Scheme(scheme.to_owned())),
            _ => Err(OpenError::Scheme(String::new())),
        }
    }
}

/// The configured URL, from the file where it is in one.
pub(super) fn database_url(database: &Database) -> Result<Secret, OpenError> {
    match (&database.url, &database.url_file) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map(|text| Secret::new(text.trim()))
            .map_err(OpenError::File),
        (None, None) => Err(OpenError::Missing),
    }
}
