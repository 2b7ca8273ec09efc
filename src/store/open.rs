//! Opens the configured database: store, counters, session listener; reads its catalogue, and the rights that are needed.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Postgres};
use tokio::time::timeout;

use super::catalogue::Catalogue;
use super::connections::not_connected;
use super::error::timed_out;
use super::postgres::connect_options;
use super::schema::SchemaProblems;
use super::url::{OpenError, Scheme, database_url, direct_url};
use super::{
    CounterStore, DatabaseState, SchemaProblem, SessionListener, Store, StoreError, grants as rights,
    postgres, sqlite,
};
use crate::config::{self, Config, Database, Revocation, for_driver};
use crate::routes::CountedTypes;

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
        Scheme::Postgres => Arc::new(
            postgres::store(&url, &config)?
                .counting(counted)
                .of_counters(state),
        ),
        Scheme::Sqlite => Arc::new(
            sqlite::store(url.expose(), &config)?
                .counting(counted)
                .of_counters(state),
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
        Some(_) => Ok(rights::sql(&resolved, role)),
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

pub(super) fn misconfigured(error: OpenError) -> StoreError {
    StoreError::Unavailable(sqlx::Error::Configuration(Box::new(error)))
}
