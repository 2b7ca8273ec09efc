//! The live schema as operations use it: read on first use, kept, and read again where it may have changed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Connections;
use crate::store::error::timed_out;
use crate::store::inspection::{self, Inspection};
use crate::store::ledger::problem_of;
use crate::store::operations::{Backend, FaultyIndexes, FaultyTypes, Runs};
use crate::store::schema::{AppSchema, ResolvedSchema, SchemaProblems, resolve};
use crate::store::{LackingRights, SchemaProblem, StoreError};

/// Longest time in which the schema is read for operations: those of all pools wait for it meanwhile, whatever time the
/// statements of the pool may take that reads it.
pub(super) const LOADING: Duration = Duration::from_secs(5);

const NOT_ASKED: &str = "the database did not answer in time, so that it was not asked for all";

impl<B: Backend> Connections<B> {
    /// Reads the schema afresh.
    pub(in crate::store) async fn resolved(&self) -> Result<ResolvedSchema, StoreError> {
        let live = self.afresh(async |connection| B::introspect(connection, &self.wanted).await);
        Ok(resolve(&self.wanted, &live.await?))
    }

    /// Reads the schema afresh, for the operations that follow where it differs from the one before.
    pub(in crate::store) async fn renew(&self) -> Result<Arc<ResolvedSchema>, StoreError> {
        let resolved = Arc::new(self.resolved().await?);
        self.state.renew(&resolved);
        Ok(resolved)
    }

    /// Looks at everything anew, for at most `limit`: what was found by then is the answer, if the tables were read.
    /// Operations use the schema that it reads, where it differs from the one before.
    pub(in crate::store) async fn inspect(
        &self,
        types: &[Arc<str>],
        limit: Option<Duration>,
    ) -> Result<Inspection, StoreError> {
        let mut found = None;
        let looking = self.afresh(async |connection| {
            let live = B::introspect(connection, &self.wanted).await?;
            let resolved = Arc::new(resolve(&self.wanted, &live));
            self.state.renew(&resolved);
            let found = found.insert(Inspection {
                tables: inspection::problems(&resolved, &self.wanted),
                lacking: LackingRights::of(&resolved),
                ledger: Err(timed_out(NOT_ASKED)),
                faulty_types: Err(timed_out(NOT_ASKED)),
                indexes: inspection::unindexed(&resolved),
            });
            self.look_at_the_rest(found, &resolved, types, connection).await;
            Ok(())
        });
        let looked = match limit {
            Some(limit) => timeout(limit, looking)
                .await
                .unwrap_or_else(|_| Err(timed_out("the time for a look at the database is over"))),
            None => looking.await,
        };
        match (found, looked) {
            (Some(found), _) => Ok(found),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(timed_out(NOT_ASKED)),
        }
    }

    /// What is looked at once the tables are read, each as soon as it is known.
    async fn look_at_the_rest(
        &self,
        found: &mut Inspection,
        resolved: &ResolvedSchema,
        types: &[Arc<str>],
        connection: &mut B::Connection,
    ) {
        found.ledger = match &resolved.ledger {
            None if self.wanted.writes => {
                let version = B::ledger_version(connection).await;
                version.map(problem_of).map_err(StoreError::from)
            }
            problem => Ok(problem.clone()),
        };
        found.faulty_types = Ok(Vec::new());
        let Some(app) = &resolved.app else { return };
        if !types.is_empty() {
            found.faulty_types = Err(timed_out(NOT_ASKED));
            let faulty = <B as Runs<FaultyTypes<'_>>>::run(&FaultyTypes { types }, app, connection).await;
            found.faulty_types = faulty.map_err(StoreError::from);
        }
        // Advice only: it is given where it is known.
        let wanted = FaultyIndexes {
            visits: self.wanted.visits_index,
        };
        let indexes = <B as Runs<FaultyIndexes>>::run(&wanted, app, connection).await;
        found.indexes.extend(indexes.unwrap_or_default());
    }

    /// The schema, read on first use. One task reads, the others wait for it (within their own limit).
    pub(super) async fn schema(
        &self,
        connection: &mut B::Connection,
        writes: bool,
    ) -> Result<Arc<AppSchema>, sqlx::Error> {
        let problems = |resolved: &ResolvedSchema| {
            sqlx::Error::Configuration(Box::new(SchemaProblems(resolved.problems.clone())))
        };
        let resolved = self.resolved_by(connection, writes).await?;
        if writes && is_blocked(&resolved) {
            return Err(problems(&resolved));
        }
        resolved.app.clone().ok_or_else(|| problems(&resolved))
    }

    /// The schema with its problems, read where it must be.
    pub(super) async fn resolved_by(
        &self,
        connection: &mut B::Connection,
        writes: bool,
    ) -> Result<Arc<ResolvedSchema>, sqlx::Error> {
        match self.state.schema.load_full() {
            // A schema with a problem is read again each time: the problem may have been mended.
            Some(resolved) if !(writes && (is_blocked(&resolved) || is_due(&resolved))) => Ok(resolved),
            _ => {
                self.state.forget_schema();
                self.load(connection, writes).await
            }
        }
    }

    /// Reads the schema, within [`LOADING`]. A write begins its transaction after this; a read has begun before.
    async fn load(
        &self,
        connection: &mut B::Connection,
        is_writing: bool,
    ) -> Result<Arc<ResolvedSchema>, sqlx::Error> {
        let _one_at_a_time = self.state.loading.lock().await;
        if let Some(resolved) = self.state.schema.load_full() {
            return Ok(resolved);
        }
        let reading = async {
            if is_writing {
                let mut reading = B::begin_reading(connection, self.limit).await?;
                B::introspect(&mut reading, &self.wanted).await
            } else {
                B::introspect(connection, &self.wanted).await
            }
        };
        let live = timeout(self.loading, reading).await;
        let too_long = |_| {
            let what = format!("the tables could not be looked at within {:?}", self.loading);
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, what))
        };
        let live = live.map_err(too_long)??;
        let resolved = Arc::new(resolve(&self.wanted, &live));
        self.state.keep(&resolved);
        Ok(resolved)
    }
}

/// Whether no page view can be written.
fn is_blocked(resolved: &ResolvedSchema) -> bool {
    resolved.lacks_events || resolved.problems.iter().any(SchemaProblem::blocks_writes)
}

/// Whether what could not be updated is to be tried again.
fn is_due(resolved: &ResolvedSchema) -> bool {
    resolved.app.as_ref().is_some_and(|app| app.left_out.is_due())
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{Connection as _, Executor as _, Sqlite, SqliteConnection};

    use super::*;
    use crate::config::Config;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A lock keeps the schema from being read for as long as the statements of the pool may take.
    #[tokio::test]
    async fn d12_a_schema_that_cannot_be_read_is_not_waited_for_as_long_as_a_statement_may_take() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("db.sqlite3"))
            .create_if_missing(true)
            .busy_timeout(HOUR);
        let mut holder = SqliteConnection::connect_with(&options).await.expect("a file");
        holder.execute("CREATE TABLE any (a)").await.expect("a table");
        let mut config = Config::default();
        config.database.statement_timeout = HOUR;
        let mut connections = Connections::<Sqlite>::new(options, &config);
        assert_eq!(connections.loading, LOADING);
        connections.loading = Duration::from_millis(50);
        let mut lease = connections.lease("a test").await.expect("a connection");
        holder.execute("BEGIN EXCLUSIVE").await.expect("the lock");
        let error = connections
            .schema(&mut lease.connection, false)
            .await
            .expect_err("it is locked");
        assert!(error.to_string().contains("within 50ms"), "{error}");
        holder.execute("ROLLBACK").await.expect("it ends");
    }
}
