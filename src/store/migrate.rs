//! `headcount migrate`: creates the sidecar's own tables, and its additions to the app's tables.
//!
//! Own tables are static migrations (`migrations/postgres`, `migrations/sqlite`), which sqlx records in a table
//! beside them. Additions to the app's tables are indexes and, where configured, a trigger; their statements are
//! made from the templates in `migrations/app` with the configured names. Additions are optional: without them
//! statistics take longer, and sign-outs are noticed later. No superuser is needed: only the right to create a
//! schema in the database, and ownership of the app's tables.

mod additions;
mod error;
mod own_tables;
mod postgres;
mod sqlite;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::SchemaProblem;
use super::error::timed_out;
use super::operations::Backend;
use super::postgres::connect_options;
use super::schema::{AppSchema, EventTable, Requirements, ResolvedSchema, resolve};
use super::url::{Scheme, direct_url};
use crate::config::Config;
use additions::{Addition, additions};
use error::outcome;
pub use error::{Incomplete, MigrateError};
use own_tables::{Own, migrator, own_migrations};

/// Brings the database up to date and returns the steps done; empty if there was nothing to do. With `dry_run` it
/// changes nothing, and returns the steps that it would do.
pub async fn migrate(config: &Config, dry_run: bool) -> Result<Vec<Step>, MigrateError> {
    let (url, key) = direct_url(&config.database)?;
    match Scheme::of(&url)? {
        Scheme::Postgres => postgres::migrate(connect_options(&url, key)?, config, dry_run).await,
        Scheme::Sqlite => sqlite::migrate(url.expose(), config, dry_run).await,
    }
}

/// One statement, or one file of them. Prints as SQL that can be run by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is changed: `schema headcount`, `migration 1 (addition)`, `index headcount_event_community`.
    pub title: String,
    /// The SQL.
    pub sql: String,
}

impl Step {
    fn new(title: impl Into<String>, sql: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            sql: sql.into(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "-- {}\n{};",
            self.title,
            self.sql.trim_end().trim_end_matches(';')
        )
    }
}

/// The app's tables as configured, without which nothing can be added to them.
async fn app_schema<B: Backend>(
    connection: &mut B::Connection,
    config: &Config,
) -> Result<Arc<AppSchema>, MigrateError> {
    let wanted = Requirements::new(config, B::OWN_EVENTS);
    let live = B::introspect(connection, &wanted).await?;
    let ResolvedSchema {
        app,
        problems,
        lacks_events,
        ..
    } = resolve(&wanted, &live);
    let is_made_here = |problem: &SchemaProblem| matches!(problem, SchemaProblem::NoOwnTable { .. });
    match app {
        Some(app) if !lacks_events || problems.iter().any(is_made_here) => Ok(app),
        _ => Err(MigrateError::Schema(problems)),
    }
}

/// The table of communities, and the columns for counts that it lacks, each with its key; `None` if it lacks none.
async fn missing_counters<B: Backend>(
    connection: &mut B::Connection,
    config: &Config,
) -> Result<Option<(String, Vec<(&'static str, String)>)>, MigrateError> {
    let wanted = Requirements::new(config, B::OWN_EVENTS);
    let Some(counters) = &wanted.counters else {
        return Ok(None);
    };
    let live = B::introspect(connection, &wanted).await?;
    let Some(community) = &live.community else {
        return Ok(None);
    };
    if community.fixed.is_view {
        return Err(MigrateError::CountersOfAView(community.name.to_string()));
    }
    let lacks = |name: &str| !name.is_empty() && !community.has(name);
    let columns = counters.columns().into_iter().filter(|(_, name)| lacks(name));
    let columns: Vec<_> = columns
        .map(|(key, name)| (key, live.dialect.quoted(name)))
        .collect();
    Ok((!columns.is_empty()).then(|| (community.name.to_string(), columns)))
}

/// The same with our own event table, which was just made, or would be: indexes are put on it as on the app's.
fn with_own_events<B: Backend>(app: Arc<AppSchema>) -> Arc<AppSchema> {
    if app.event.is_some() {
        return app;
    }
    let event = EventTable::own(B::OWN_EVENTS, app.user_key());
    Arc::new(AppSchema {
        event: Some(event),
        ..(*app).clone()
    })
}

/// Limits the time to connect; the steps have no limit, because building an index takes as long as the table is
/// large.
async fn within<T>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, MigrateError> {
    match timeout(limit, connecting).await {
        Ok(connection) => Ok(connection?),
        Err(_) => Err(MigrateError::Database(timed_out(
            "no connection within database.acquire_timeout",
        ))),
    }
}
