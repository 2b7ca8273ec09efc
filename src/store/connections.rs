//! The connection pool of the app's database, with timeouts and the cached live schema.
//! It also handles broken connections. Both databases share it; their statements are elsewhere.
//!
//! Concurrency: everything here is shared by reference. Each operation runs on a connection of its own; the schema
//! is loaded by one task at a time.

mod idle_policy;
mod in_use;
mod live_schema;
mod slots;
mod waits;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::pool::PoolOptions;
use sqlx::{ConnectOptions as _, Connection, Pool};
use tokio::time::timeout;

use idle_policy::{IdleAction, IdlePolicy};
use in_use::ConnectionInUse;
use slots::PoolSlots;

use super::error::timed_out;
use super::operations::{Backend, Runs, StoreOperation};
use super::schema::SchemaProblem;
use super::schema::right::grant;
use super::schema::{AppSchema, Requirements};
use super::{DatabaseState, LackingRights, StoreError};
use crate::config::Config;
use crate::key_type::AppKeys;

/// Where an operation waits longer than this for a connection, the server is looked at.
const PATIENCE: Duration = Duration::from_millis(500);

/// Pool, limits, and the schema as last read.
pub(super) struct Connections<B: Backend> {
    pool: Pool<B>,
    /// Longest time of one operation once it has a connection.
    limit: Duration,
    idle_policy: Arc<IdlePolicy>,
    wanted: Requirements,
    state: Arc<DatabaseState>,
    /// When an operation last waited long for a connection: as all were in use, and as the database did not answer.
    last_waits: std::sync::Mutex<[Option<Instant>; 2]>,
    /// Its size is not configured.
    is_of_counters: bool,
    /// Those that operations have.
    slots: Arc<PoolSlots>,
    /// [`live_schema::LOADING`].
    loading: Duration,
}

impl<B: Backend> Connections<B> {
    /// Opens nothing: connections are made on first use. Must be called on a tokio runtime.
    pub(super) fn new(options: <B::Connection as sqlx::Connection>::Options, config: &Config) -> Self {
        let database = &config.database;
        let idle_policy = Arc::new(IdlePolicy::default());
        let hook = Arc::clone(&idle_policy);
        let max_connections = database.max_connections.max(1);
        let pool = PoolOptions::<B>::new()
            .max_connections(max_connections)
            .acquire_timeout(database.acquire_timeout)
            // It would cost a round trip on each use; `IdlePolicy` tests only where there is reason to.
            .test_before_acquire(false)
            .before_acquire(move |connection, state| {
                let verdict = hook.of(state.idle_for);
                Box::pin(async move {
                    if verdict == IdleAction::Test {
                        connection.ping().await?;
                    }
                    Ok(verdict != IdleAction::Replace)
                })
            })
            .connect_lazy_with(options);
        Self {
            pool,
            limit: database.statement_timeout,
            idle_policy,
            wanted: Requirements::new(config, B::OWN_EVENTS),
            state: Arc::default(),
            last_waits: std::sync::Mutex::default(),
            is_of_counters: false,
            slots: PoolSlots::new(max_connections),
            loading: live_schema::LOADING,
        }
    }

    /// Runs one operation. A read whose connection turns out to be dead, or prepared for tables that have
    /// changed since, runs once more on another.
    pub(super) async fn run<O: StoreOperation>(&self, operation: &O) -> Result<O::Output, StoreError>
    where
        B: Runs<O>,
    {
        let mut running = RunningOperation {
            operation,
            output: None,
        };
        self.run_any(&mut running, O::WRITES, O::WHAT).await?;
        match running.output {
            Some(output) => Ok(output),
            None => unreachable!("an operation that succeeds has an output"),
        }
    }

    async fn run_any(
        &self,
        operation: &mut dyn AnyOperation<B>,
        writes: bool,
        what: &str,
    ) -> Result<(), StoreError> {
        let outcome = match self.attempt(operation, writes, what).await {
            Err(error) if !writes && (error.lost_connection() || error.stale_statements()) => {
                self.attempt(operation, writes, what).await
            }
            outcome => outcome,
        };
        match outcome {
            Err(error) if error.lacks_a_right() => Err(self.explained(error).await),
            outcome => outcome,
        }
    }

    /// The error of a role that lacks a right, with the statements that give it. The schema that is read for this is the
    /// next operation's.
    async fn explained(&self, error: StoreError) -> StoreError {
        let read = async {
            let mut lease = self.lease("a look at the tables").await?;
            let outcome = self
                .within_limit(async {
                    let mut reading = B::begin_reading(&mut lease.connection, self.limit).await?;
                    self.resolved_by(&mut reading, false).await
                })
                .await;
            self.settle(lease, outcome, false)
        };
        let (mut lacking, mut policies) = (Vec::new(), Vec::new());
        if let Ok(resolved) = read.await {
            let is_a_policy =
                |problem: &&SchemaProblem| problem.is_of_the_role() && !problem.is_a_lacking_right();
            lacking.extend(
                resolved
                    .problems
                    .iter()
                    .filter(is_a_policy)
                    .map(ToString::to_string),
            );
            lacking.extend(LackingRights::of(&resolved).sentence());
            policies = resolved.policies();
        }
        error.explained(&lacking, &policies)
    }

    /// The pool is that of the counters, and shares the state with other pools of the same database, instead of one of its
    /// own.
    pub(super) fn of_counters(&mut self, state: Arc<DatabaseState>) {
        (self.state, self.is_of_counters) = (state, true);
    }

    /// What is shared with other pools of the same database.
    pub(super) fn state(&self) -> Arc<DatabaseState> {
        Arc::clone(&self.state)
    }

    /// An error of connecting.
    fn not_connected(&self, error: sqlx::Error) -> StoreError {
        not_connected::<B>(error, &self.pool.connect_options())
    }

    async fn attempt(
        &self,
        operation: &mut dyn AnyOperation<B>,
        writes: bool,
        what: &str,
    ) -> Result<(), StoreError> {
        let mut lease = self.lease(what).await?;
        if writes && self.within_limit(lease.connection.ping()).await.is_err() {
            self.idle_policy.mark_broken();
            drop(lease); // its place in the pool may be the only one
            lease = self.lease(what).await?;
        }
        let outcome = self
            .within_limit(async {
                if writes {
                    let app = self.schema(&mut lease.connection, true).await?;
                    return operation.run(&app, &mut lease.connection).await;
                }
                let mut reading = B::begin_reading(&mut lease.connection, self.limit).await?;
                let app = self.schema(&mut reading, false).await?;
                operation.run(&app, &mut reading).await
            })
            .await;
        self.settle(lease, outcome, writes)
    }

    /// The types of the app's keys, if they were read.
    pub(super) fn keys(&self) -> AppKeys {
        self.state.keys.clone()
    }

    /// Runs a request over a connection made for it. A pool would hide the reason for a failure: where no
    /// connection can be made, it retries until its time is over.
    async fn afresh<T>(
        &self,
        ask: impl AsyncFnOnce(&mut B::Connection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let options = self.pool.connect_options();
        let limit = self.pool.options().get_acquire_timeout();
        let Ok(connection) = timeout(limit, options.connect()).await else {
            return Err(timed_out("no connection within database.acquire_timeout"));
        };
        let mut connection = connection.map_err(|error| self.not_connected(error))?;
        let asked = async { ask(&mut *B::begin_reading(&mut connection, self.limit).await?).await };
        let outcome = self.within_limit(asked).await;
        // The wait is bounded; the connection is closed when this call ends in any case.
        let _ = timeout(self.limit, connection.close()).await;
        outcome
    }

    /// A trivial round trip. The pool is not waited for: it has no connection while all are busy, and goes on trying to
    /// connect where no server is.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut pinged = pin!(self.ping_once());
        let unanswered = || self.state.unanswered.fetch_add(1, Ordering::Relaxed);
        // Whoever calls may wait no longer than that, so that it is noted meanwhile.
        let Ok(outcome) = timeout(PATIENCE, &mut pinged).await else {
            unanswered();
            return pinged.await;
        };
        if outcome.is_err() {
            unanswered();
        }
        outcome
    }

    async fn ping_once(&self) -> Result<(), StoreError> {
        if self.pool.is_closed() {
            return Err(sqlx::Error::PoolClosed.into());
        }
        if let Some(connection) = self.pool.try_acquire() {
            let mut lease = self.leased(connection);
            let outcome = self.within_limit(lease.connection.ping()).await;
            lease.clean = outcome.is_ok();
            if lease.clean {
                return Ok(());
            }
            // The server may have closed an idle connection and still be up. The others are alike.
            self.idle_policy.mark_broken();
        }
        self.afresh(async |connection| connection.ping().await).await
    }

    /// How often a connection was found broken, or of no use for writing.
    pub(super) fn lost(&self) -> u64 {
        self.idle_policy.times.load(Ordering::Acquire)
    }

    /// Closes all connections; those in use get the time of one operation to come back.
    pub(super) async fn close(&self) {
        // Connections that are left end with the process.
        let _ = timeout(self.limit, self.pool.close()).await;
    }

    async fn within_limit<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match timeout(self.limit, work).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(timed_out("no answer within database.statement_timeout")),
        }
    }

    /// Decides whether to keep the connection and the cached schema.
    fn settle<T>(
        &self,
        mut lease: ConnectionInUse<B>,
        outcome: Result<T, StoreError>,
        wrote: bool,
    ) -> Result<T, StoreError> {
        match &outcome {
            Ok(_) => lease.clean = true,
            Err(error) => {
                if error.stale_schema() {
                    self.state.forget_schema();
                    self.state.check_tables.notify_one();
                }
                if error.unreachable() {
                    self.state.check_database.notify_one();
                }
                if error.stale_statements() || error.read_only() {
                    self.idle_policy.mark_unusable();
                } else if error.unreachable() {
                    self.idle_policy.mark_broken();
                } else {
                    // After a COMMIT that failed the driver may not know the connection's state.
                    lease.clean = !wrote;
                }
            }
        }
        outcome
    }
}

/// An operation, whatever its type and its output's: what is done around it is compiled once for each database, and not
/// for each of the operations.
trait AnyOperation<B: Backend>: Send {
    /// Runs it, and keeps the output.
    fn run<'c>(
        &'c mut self,
        app: &'c AppSchema,
        connection: &'c mut B::Connection,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>>;
}

/// An operation, and its output once it has run.
struct RunningOperation<'a, O: StoreOperation> {
    operation: &'a O,
    output: Option<O::Output>,
}

impl<B: Backend + Runs<O>, O: StoreOperation> AnyOperation<B> for RunningOperation<'_, O> {
    fn run<'c>(
        &'c mut self,
        app: &'c AppSchema,
        connection: &'c mut B::Connection,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        Box::pin(async move {
            self.output = Some(<B as Runs<O>>::run(self.operation, app, connection).await?);
            Ok(())
        })
    }
}

/// An error of connecting, with the GRANT for a role that may not.
pub(super) fn not_connected<B: Backend>(
    error: sqlx::Error,
    options: &<B::Connection as Connection>::Options,
) -> StoreError {
    let right = B::right_to_connect(options);
    let grant = right.map(|(right, role)| grant(&right, &role));
    StoreError::from(error).explained(grant.as_slice(), &[])
}
