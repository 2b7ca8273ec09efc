//! `headcount migrate`: creates the sidecar's own tables, and its additions to the app's tables.
//!
//! Own tables are static migrations (`migrations/postgres`, `migrations/sqlite`), which sqlx records in a table
//! beside them. Additions to the app's tables are indexes and, where configured, a trigger; their statements are
//! made from the templates in `migrations/app` with the configured names. Additions are optional: without them
//! statistics take longer, and sign-outs are noticed later. No superuser is needed: only the right to create a
//! schema in the database, and ownership of the app's tables.

mod postgres;
mod sqlite;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlStr;
use sqlx::migrate::{AppliedMigration, Migrate, Migration, MigrationType, Migrator};
use tokio::time::timeout;

use super::error::timed_out;
use super::operations::{Backend, EVENT_INDEXES};
use super::postgres::connect_options;
use super::postgres::pooler::NEEDS_ITS_OWN;
use super::schema::{
    AppSchema, EventTable, Requirements, ResolvedSchema, SchemaProblems, TableName, resolve,
};
use super::url::{OpenError, Scheme, direct_url};
use super::{SchemaProblem, StoreError};
use crate::config::Config;

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

/// Why the database could not be brought up to date. Steps done before stay; running again continues.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration names no database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The app's tables are not as configured, so nothing can be added to them.
    #[error("{}", SchemaProblems(.0.clone()))]
    Schema(Vec<SchemaProblem>),
    /// The connection is shared by a pooler: neither the lock nor the settings would stay with it.
    #[error("{NEEDS_ITS_OWN}")]
    Pooler,
    /// Some additions to the app's tables failed. The others are done.
    #[error(transparent)]
    Incomplete(Incomplete),
    /// Our own event table is one, and was to have partitions.
    #[error(
        "headcount.page_view has no partitions and record.own_partitions is \"month\": rename the table, run headcount \
         migrate again and copy its rows, or set record.own_partitions to \"none\""
    )]
    NotPartitioned,
    /// Another `headcount migrate` holds the lock.
    #[error("another headcount migrate is at work on this database")]
    Busy,
    /// A migration of the sidecar's own tables differs from the one that was applied under its number.
    #[error("migration {0} was applied with other SQL than this version has: use the version that made it")]
    Changed(i64),
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The step.
        step: String,
        /// The cause.
        source: StoreError,
    },
    /// Reading the current state failed, or the database is not available.
    #[error("the current state of the database could not be read")]
    Database(#[source] StoreError),
}

/// What was done, and what failed.
#[derive(Debug)]
pub struct Incomplete {
    /// The steps done, as `migrate` returns them on success.
    pub done: Vec<Step>,
    /// At least one.
    pub failed: Vec<MigrateError>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.failed {
            return only.fmt(f);
        }
        write!(f, "{} additions failed:", self.failed.len())?;
        self.failed
            .iter()
            .try_for_each(|error| write!(f, "\n  {}", crate::telemetry::chain(error)))
    }
}

impl std::error::Error for Incomplete {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.failed {
            [only] => only.source(),
            _ => None,
        }
    }
}

/// The result of `migrate` after additions of which some may have failed.
fn outcome(done: Vec<Step>, failed: Vec<MigrateError>) -> Result<Vec<Step>, MigrateError> {
    if failed.is_empty() {
        Ok(done)
    } else {
        Err(MigrateError::Incomplete(Incomplete { done, failed }))
    }
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}

impl MigrateError {
    fn of_step(step: &Step) -> impl FnOnce(sqlx::Error) -> Self {
        let step = step.title.clone();
        move |error| Self::Step {
            step,
            source: error.into(),
        }
    }

    /// Whether the role lacks a right, and nothing says yet what to do.
    fn lacks_a_right(&self) -> bool {
        match self {
            Self::Step { source, .. } | Self::Database(source) => source.lacks_a_right(),
            Self::Incomplete(incomplete) => incomplete.failed.iter().any(Self::lacks_a_right),
            _ => false,
        }
    }

    /// The same error with what to do about that; of several failures, the last one says it.
    fn explained(self, lacking: &[String]) -> Self {
        match self {
            Self::Step { step, source } => Self::Step {
                step,
                source: source.explained(lacking, &[]),
            },
            Self::Database(source) => Self::Database(source.explained(lacking, &[])),
            Self::Incomplete(Incomplete { done, mut failed }) => {
                if let Some(last) = failed.iter().rposition(Self::lacks_a_right) {
                    let error = failed.remove(last).explained(lacking);
                    failed.insert(last, error);
                }
                Self::Incomplete(Incomplete { done, failed })
            }
            other => other,
        }
    }

    fn of_own_tables(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as E;
        match error {
            E::Execute(error) | E::ExecuteMigration(error, _) => Self::Step {
                step: "making the sidecar's own tables".into(),
                source: error.into(),
            },
            E::VersionMismatch(version) => Self::Changed(version),
            other => Self::Step {
                step: "making the sidecar's own tables".into(),
                source: StoreError::Unexpected(other.to_string()),
            },
        }
    }
}

/// An index or a trigger on one of the app's tables.
struct Addition {
    name: &'static str,
    /// Its table, as in SQL.
    table: String,
    /// The whole statement.
    create: String,
    /// For an index: the part after the table's name.
    columns: String,
}

impl Addition {
    /// `more`: placeholders of this template alone.
    fn new(
        name: &'static str,
        table: &TableName,
        template: &str,
        app: &AppSchema,
        more: &[(&'static str, String)],
    ) -> Self {
        let session = &app.session;
        let event = app.event.iter().flat_map(|event| {
            [
                ("{event.table}", event.table.to_string()),
                ("{event.user_id}", event.user_id.to_string()),
                ("{event.metadata}", event.metadata.to_string()),
                ("{event.timestamp}", event.timestamp.to_string()),
                ("{event.event_type}", event.event_type.to_string()),
            ]
        });
        let names = [("{session.table}", session.table.to_string())];
        let names = event.chain(names).chain(more.iter().cloned());
        let create = names.fold(template.trim_end().to_owned(), |sql, (placeholder, name)| {
            sql.replace(placeholder, &name)
        });
        let table = table.to_string();
        let columns = create.split_once(&format!(" ON {table} "));
        let columns = columns.map(|(_, columns)| columns.to_owned());
        Self {
            name,
            columns: columns.unwrap_or_default(),
            table,
            create,
        }
    }

    fn step(&self, what: &str) -> Step {
        Step::new(format!("{what} {}", self.name), self.create.as_str())
    }
}

/// The additions that both databases have: those of which the app has the columns.
fn additions(
    app: &AppSchema,
    event_community: &str,
    event_visitor: &str,
    session_user: &str,
) -> Vec<Addition> {
    // A view has no indexes: those of the table under it are the app's.
    let event = app.event.as_ref().filter(|event| !event.is_view);
    let of_events = |name, template| event.map(|event| Addition::new(name, &event.table, template, app, &[]));
    let event_community = of_events(EVENT_INDEXES[0], event_community);
    let event_visitor = of_events(EVENT_INDEXES[1], event_visitor);
    let session_user = app.session.latest(app.referred()).map(|latest| {
        let names = [
            ("{session.user_id}", latest.user.to_string()),
            ("{session.started_at}", latest.order.to_string()),
        ];
        let table = &app.session.table;
        Addition::new("headcount_session_user", table, session_user, app, &names)
    });
    [event_community, event_visitor, session_user]
        .into_iter()
        .flatten()
        .collect()
}

/// One file of `migrations/`: version, what it makes, its statements. Listed by hand: sqlx's macro that reads the
/// folder compiles both database drivers a second time.
type Own = (i64, &'static str, &'static str);

/// The migrations of the sidecar's own tables; `applied` is the table in which sqlx keeps what was applied.
fn migrator(own: &[Own], applied: &'static str) -> Migrator {
    let own = own.iter().map(|&(version, description, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    });
    Migrator {
        ignore_missing: true, // of a newer version, after going back to this one
        table_name: Cow::Borrowed(applied),
        ..Migrator::with_migrations(own.collect())
    }
}

/// Applies pending migrations. `begun`: the table that records them exists.
async fn own_migrations<C: Migrate>(
    connection: &mut C,
    migrator: &Migrator,
    begun: bool,
    dry_run: bool,
) -> Result<Vec<Step>, MigrateError> {
    let applied = if begun {
        connection
            .list_applied_migrations(&migrator.table_name)
            .await
            .map_err(MigrateError::of_own_tables)?
    } else {
        Vec::new()
    };
    let pending = pending(migrator, &applied)?;
    if !dry_run && !pending.is_empty() {
        migrator
            .run_direct(None, connection, false)
            .await
            .map_err(MigrateError::of_own_tables)?;
    }
    Ok(pending)
}

/// The pending migrations; an error if an applied one has changed since.
fn pending(migrator: &Migrator, applied: &[AppliedMigration]) -> Result<Vec<Step>, MigrateError> {
    let mut steps = Vec::new();
    for migration in migrator.iter() {
        match applied
            .iter()
            .find(|applied| applied.version == migration.version)
        {
            Some(applied) if applied.checksum != migration.checksum => {
                return Err(MigrateError::Changed(migration.version));
            }
            Some(_) => {}
            None => steps.push(Step::new(
                format!("migration {} ({})", migration.version, migration.description),
                migration.sql.as_str(),
            )),
        }
    }
    Ok(steps)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Own, postgres, sqlite};

    #[test]
    fn every_file_of_the_folder_is_listed() {
        for (folder, own) in [("postgres", postgres::OWN), ("sqlite", sqlite::OWN)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("migrations")
                .join(folder);
            let mut files: Vec<_> = std::fs::read_dir(path)
                .expect("the folder")
                .map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"))
                .collect();
            files.sort();
            let listed: Vec<_> = own
                .iter()
                .map(|(version, description, _): &Own| format!("{version:04}_{description}.sql"))
                .collect();
            assert_eq!(files, listed, "{folder}");
        }
    }
}
