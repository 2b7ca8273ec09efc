//! Opens the configured database: store, session listener and checks.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Postgres};
use tokio::time::timeout;

use super::catalogue::Catalogue;
use super::connections::not_connected;
use super::error::timed_out;
use super::inspection::{self, types_of};
use super::operations::Backend;
use super::postgres::connect_options;
use super::schema::SchemaProblems;
use super::sql::SqlStore;
use super::url::{OpenError, Scheme, database_url, direct_url};
use super::{
    CounterStore, DatabaseState, LedgerProblem, SchemaProblem, SessionListener, Store, StoreError,
    grants as rights, postgres, session_remarks, sqlite,
};
use crate::config::{self, Config, Database, Revocation, for_driver};
use crate::routes::{CountedTypes, RouteTable};

/// Opens the app's tables as configured. No connection is made yet, so this succeeds while the database is
/// down. Must be called on a tokio runtime.
///
/// What counts as a page view is what the configuration says without its routes: [`open_counting`] follows them.
pub fn open(config: &Config) -> Result<Arc<dyn Store>, OpenError> {
    open_counting(config, CountedTypes::without_routes(&config.record))
}

/// The same, where `counted` says which event types count as page views.
pub fn open_counting(config: &Config, counted: CountedTypes) -> Result<Arc<dyn Store>, OpenError> {
    for parameter in ignored_parameters(config) {
        tracing::warn!("{parameter}");
    }
    store(config, counted)
}

/// Connections of counters: one adds up and writes, one compares, one renews the lease.
const COUNTER_CONNECTIONS: u32 = 3;

/// Opens the counters, with connections of their own: counting takes longer than any other statement may. Opens none
/// yet. `counted` says which event types count as page views. Must be called on a tokio runtime.
pub fn open_counters(config: &Config, counted: CountedTypes) -> Result<Arc<dyn CounterStore>, OpenError> {
    open_counters_sharing(config, counted, Arc::default())
}

/// The same; shares the state of [`Store::state`].
pub fn open_counters_sharing(
    config: &Config,
    counted: CountedTypes,
    state: Arc<DatabaseState>,
) -> Result<Arc<dyn CounterStore>, OpenError> {
    let mut config = config.clone();
    config.database.statement_timeout = config.counters.statement_timeout;
    config.database.max_connections = COUNTER_CONNECTIONS;
    let url = database_url(&config.database)?;
    Ok(match Scheme::of(&url)? {
        Scheme::Postgres => Arc::new(postgres::store(&url, &config)?.counting(counted).sharing(state)),
        Scheme::Sqlite => Arc::new(
            sqlite::store(url.expose(), &config)?
                .counting(counted)
                .sharing(state),
        ),
    })
}

fn store(config: &Config, counted: CountedTypes) -> Result<Arc<dyn Store>, OpenError> {
    let url = database_url(&config.database)?;
    Ok(match Scheme::of(&url)? {
        Scheme::Postgres => Arc::new(postgres::store(&url, config)?.counting(counted)),
        Scheme::Sqlite => Arc::new(sqlite::store(url.expose(), config)?.counting(counted)),
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

/// Where `database.url` leads to, without user and password; what of it cannot be read is left out.
pub fn place(database: &Database) -> String {
    let key = "database.url";
    let Ok(url) = database_url(database) else {
        return key.to_owned();
    };
    let place = match Scheme::of(&url) {
        Ok(Scheme::Postgres) => postgres::place(&url, key),
        Ok(Scheme::Sqlite) => {
            let path = url.expose().split_once(':').map_or("", |(_, path)| path);
            let path = path.split_once('?').map_or(path, |(path, _)| path);
            Some(path.trim_start_matches("//").to_owned())
        }
        Err(_) => None,
    };
    place.map_or_else(|| key.to_owned(), |place| format!("{key} leads to {place}"))
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
            Scheme::Postgres => problems(postgres::store(&url, config)?).await,
            Scheme::Sqlite => problems(sqlite::store(url.expose(), config)?).await,
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
    remarks.extend(session_remarks::without_columns(config));
    let scheme = Scheme::of(&url).map_err(misconfigured)?;
    remarks.extend(match scheme {
        Scheme::Postgres => look(postgres::store(&url, config).map_err(misconfigured)?, config).await,
        Scheme::Sqlite => {
            look(
                sqlite::store(url.expose(), config).map_err(misconfigured)?,
                config,
            )
            .await
        }
    });
    if !config.schema.lookup.is_empty() {
        for (lookup, table, column) in unindexed(config).await? {
            remarks.push(format!(
                "schema.lookup.{lookup}: no index finds a row of {table} by {column}, so that each lookup reads the \
                 whole table: create one"
            ));
        }
    }
    Ok(remarks)
}

/// What is wrong with the event types that routes write, a sentence each; and remarks about events, which need no action.
pub async fn events_of_routes(
    config: &Config,
    routes: &RouteTable,
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let url = database_url(&config.database).map_err(misconfigured)?;
    match Scheme::of(&url).map_err(misconfigured)? {
        Scheme::Postgres => events_of(postgres::store(&url, config).map_err(misconfigured)?, routes).await,
        Scheme::Sqlite => {
            let store = sqlite::store(url.expose(), config).map_err(misconfigured)?;
            events_of(store, routes).await
        }
    }
}

async fn events_of<B: Backend>(
    store: SqlStore<B>,
    routes: &RouteTable,
) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let own = types_of(routes);
    let found = store.inspect(&own, None).await;
    let notes = store.event_notes(&own).await;
    store.close().await;
    // A table that takes too long to look through is no reason for the check to fail.
    let notes = notes.unwrap_or_else(|error| {
        let error = error.chain();
        vec![format!(
            "the events of the last day could not be looked at: {error}"
        )]
    });
    let found = found?;
    let refused = found.refused_types(routes);
    found.faulty_types?;
    Ok((refused, found.indexes.into_iter().chain(notes).collect()))
}

/// A table that takes too long to look through is no reason for the check to fail.
async fn look<B: Backend>(store: SqlStore<B>, config: &Config) -> Vec<String> {
    let notes = store.session_remarks(&config.session).await;
    store.close().await;
    notes.unwrap_or_else(|error| {
        let error = error.chain();
        vec![format!("live sessions could not be looked at: {error}")]
    })
}

async fn unindexed(config: &Config) -> Result<Vec<(String, String, String)>, StoreError> {
    async fn of<B: Backend>(store: SqlStore<B>) -> Result<Vec<(String, String, String)>, StoreError> {
        let resolved = store.resolved().await;
        store.close().await;
        Ok(resolved?.unindexed)
    }
    let url = database_url(&config.database).map_err(misconfigured)?;
    match Scheme::of(&url).map_err(misconfigured)? {
        Scheme::Postgres => of(postgres::store(&url, config).map_err(misconfigured)?).await,
        Scheme::Sqlite => of(sqlite::store(url.expose(), config).map_err(misconfigured)?).await,
    }
}

/// What is wrong with the ledger, if anything.
pub async fn check_ledger(config: &Config) -> Result<Option<LedgerProblem>, StoreError> {
    let counted = CountedTypes::without_routes(&config.record);
    let store = store(config, counted).map_err(misconfigured)?;
    let problem = store.ledger().await;
    store.close().await;
    problem
}

/// Why the rights that are needed cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    /// SQLite has neither roles nor rights.
    #[error("SQLite has no roles: whoever may write the file may do everything")]
    NoRoles,
    /// The configuration names tables or columns that are not there, so the rights on them are unknown.
    #[error("{}", SchemaProblems(.0.clone()))]
    Schema(Vec<SchemaProblem>),
    /// The database cannot be asked.
    #[error(transparent)]
    Database(#[from] StoreError),
}

/// The SQL that gives `role` the rights which the configuration needs.
pub async fn grants(config: &Config, role: &str) -> Result<String, GrantsError> {
    let url = database_url(&config.database).map_err(misconfigured)?;
    let Scheme::Postgres = Scheme::of(&url).map_err(misconfigured)? else {
        return Err(GrantsError::NoRoles);
    };
    let store = postgres::store(&url, config).map_err(misconfigured)?;
    let resolved = store.resolved().await;
    store.close().await;
    let mut resolved = resolved?;
    // Rights that the connection's own role lacks do not matter.
    resolved.problems.retain(|problem| !problem.is_of_the_role());
    match resolved.app {
        Some(_) if resolved.lacks_events => Err(GrantsError::Schema(resolved.problems)),
        Some(_) => Ok(rights::sql(
            &resolved,
            role,
            config.record.writes(),
            config.counters.enabled,
        )),
        None => Err(GrantsError::Schema(resolved.problems)),
    }
}

/// Reads the catalogue of the app's database over a connection of its own.
pub async fn read_catalogue(database: &config::Database) -> Result<Catalogue, StoreError> {
    let url = database_url(database).map_err(misconfigured)?;
    let limit = database.acquire_timeout + database.statement_timeout;
    match Scheme::of(&url).map_err(misconfigured)? {
        Scheme::Postgres => {
            let options = connect_options(&url, "database.url").map_err(misconfigured)?;
            within(limit, async {
                let connected = options.connect().await;
                let mut connection = connected.map_err(|error| not_connected::<Postgres>(error, &options))?;
                let tables = postgres::catalogue(&mut connection).await?;
                Ok(Catalogue {
                    is_postgres: true,
                    owner: postgres::owner(&mut connection).await?,
                    tables,
                })
            })
            .await
        }
        Scheme::Sqlite => {
            let options = sqlite::connect_options(url.expose()).map_err(misconfigured)?;
            within(limit, async {
                let mut connection = options.connect().await?;
                let tables = sqlite::catalogue(&mut connection).await?;
                Ok(Catalogue {
                    is_postgres: false,
                    owner: None,
                    tables,
                })
            })
            .await
        }
    }
}

async fn within<T>(
    limit: Duration,
    reading: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match timeout(limit, reading).await {
        Ok(outcome) => outcome,
        Err(_) => Err(timed_out("the database did not answer in time")),
    }
}

fn misconfigured(error: OpenError) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Configuration(Box::new(error)))
}

async fn problems<B: Backend>(store: SqlStore<B>) -> Result<Vec<SchemaProblem>, StoreError> {
    let resolved = store.resolved().await;
    store.close().await;
    Ok(inspection::problems(&resolved?, store.wanted()))
}
