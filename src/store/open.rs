//! Opens the configured database: store, session listener and checks.

use std::sync::Arc;

use super::operations::Backend;
use super::schema::Resolved;
use super::sql::SqlStore;
use super::{LedgerProblem, SchemaProblem, SessionListener, Store, StoreError, postgres, sqlite};
use crate::config::{Config, Database, Revocation, Secret, for_driver};

/// Opens the app's tables as configured. No connection is made yet, so this succeeds while the database is
/// down. Must be called on a tokio runtime.
pub fn open(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    for parameter in ignored_parameters(config) {
        tracing::warn!("{parameter}");
    }
    store(config)
}

fn store(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    let url = database_url(&config.database)?;
    Ok(match Scheme::of(&url)? {
        Scheme::Postgres => Arc::new(postgres::store(&url, config)?),
        Scheme::Sqlite => Arc::new(sqlite::store(url.expose(), config)?),
    })
}

/// Parameters of the configured URLs that have no effect, a sentence for each; never their values.
pub fn ignored_parameters(config: &Config) -> Vec<String> {
    let database = &config.database;
    let urls = [
        ("database.url", &database.url),
        ("database.direct_url", &database.direct_url),
    ];
    let mut sentences = Vec::new();
    for (key, url) in urls {
        let Some(url) = url else { continue };
        if !matches!(Scheme::of(url), Ok(Scheme::Postgres)) {
            continue;
        }
        for name in for_driver(url.expose())
            .map(|url| url.ignored)
            .unwrap_or_default()
        {
            sentences.push(format!(
                "{key}: the parameter {name:?} is not known and has no effect"
            ));
        }
    }
    sentences
}

/// The listener for ended sessions, if the configuration has the database notify of them. Connects nowhere yet.
pub fn session_listener(config: &Config) -> Result<Option<SessionListener>, OpenError> {
    let (url, key) = direct_url(&config.database)?;
    match (config.session.revocation, Scheme::of(&url)?) {
        (Revocation::Trigger, Scheme::Postgres) => SessionListener::new(&url, key, config).map(Some),
        (Revocation::Off, _) | (_, Scheme::Sqlite) => Ok(None),
    }
}

/// Compares the live schema with the configuration; empty if there is no problem.
pub async fn check(config: &Config) -> Result<Vec<SchemaProblem>, StoreError> {
    let outcome = async {
        let url = database_url(&config.database)?;
        Ok(match Scheme::of(&url)? {
            Scheme::Postgres => problems(postgres::store(&url, config)?, config).await,
            Scheme::Sqlite => problems(sqlite::store(url.expose(), config)?, config).await,
        })
    };
    outcome.await.unwrap_or_else(|error| Err(misconfigured(error)))
}

/// Remarks for operators about the connection and the server, which need no action; may be empty.
pub async fn remarks(config: &Config) -> Result<Vec<String>, StoreError> {
    let mut remarks = ignored_parameters(config);
    let url = database_url(&config.database).map_err(misconfigured)?;
    if let Ok(Scheme::Postgres) = Scheme::of(&url) {
        remarks.extend(postgres::remarks(&url, config).await?);
    }
    Ok(remarks)
}

/// What is wrong with the ledger, if anything.
pub async fn check_ledger(config: &Config) -> Result<Option<LedgerProblem>, StoreError> {
    let store = store(config).map_err(misconfigured)?;
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
        read_only,
        ..
    } = resolved?;
    if read_only && config.record.writes() {
        problems.push(SchemaProblem::ReadOnly);
    }
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
    /// An unknown scheme.
    #[error("database.url must begin with postgres:// or sqlite://, not with {0:?}")]
    Scheme(String),
    /// The rest of the URL is invalid.
    #[error("{key} is not valid")]
    Url {
        /// The key that holds it.
        key: &'static str,
        /// Why.
        source: sqlx::Error,
    },
}

/// The two kinds of database.
pub(super) enum Scheme {
    Postgres,
    Sqlite,
}

impl Scheme {
    pub(super) fn of(url: &Secret) -> Result<Self, OpenError> {
        match url.expose().split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres),
            Some(("sqlite", _)) => Ok(Self::Sqlite),
            // Only text that is certainly a scheme is shown.
            Some((scheme, rest)) if rest.starts_with("//") => Err(OpenError::Scheme(scheme.to_owned())),
            _ => Err(OpenError::Scheme(String::new())),
        }
    }
}

/// The configured URL; the content of `url_file` was read with the configuration.
pub(super) fn database_url(database: &Database) -> Result<Secret, OpenError> {
    database.url.clone().ok_or(OpenError::Missing)
}

/// The URL for connections that must not be shared, and the key that holds it.
pub(super) fn direct_url(database: &Database) -> Result<(Secret, &'static str), OpenError> {
    match &database.direct_url {
        Some(url) => Ok((url.clone(), "database.direct_url")),
        None => Ok((database_url(database)?, "database.url")),
    }
}
