//! The connection pool of the app's database, with timeouts and the cached live schema.
//! It also handles broken connections. Both databases share it; their statements are elsewhere.
//!
//! Concurrency: everything here is shared by reference. Each operation runs on a connection of its own; the schema
//! is loaded by one task at a time.

mod idle_policy;
mod live_schema;

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{ConnectOptions as _, Connection, Pool};
use tokio::runtime::Handle;
use tokio::time::timeout;

use idle_policy::{IdleAction, IdlePolicy};

use super::error::timed_out;
use super::operations::{Backend, Runs, StoreOperation};
use super::schema::SchemaProblem;
use super::schema::right::grant;
use super::schema::{AppSchema, Requirements};
use super::{DatabaseState, StoreError};
use crate::config::Config;
use crate::key_type::AppKeys;

/// Where an operation waits longer than this for a connection, the server is looked at.
const PATIENCE: Duration = Duration::from_millis(500);

/// Waits that come closer together are logged as one.
const WAITS_APART: Duration = Duration::from_secs(60);

/// Pool, limits, and the schema as last read.
pub(super) struct Connections<B: Backend> {
    pool: Pool<B>,
    /// Longest time of one operation once it has a connection.
    limit: Duration,
    idle_policy: Arc<IdlePolicy>,
    wanted: Requirements,
    state: Arc<DatabaseState>,
    /// When an operation last waited long for a connection.
    last_wait: std::sync::Mutex<Option<Instant>>,
}

impl<B: Backend> Connections<B> {
    /// Opens nothing: connections are made on first use. Must be called on a tokio runtime.
    pub(super) fn new(options: <B::Connection as sqlx::Connection>::Options, config: &Config) -> Self {
        let database = &config.database;
        let idle_policy = Arc::new(IdlePolicy::default());
        let hook = Arc::clone(&idle_policy);
        let pool = PoolOptions::<B>::new()
            .max_connections(database.max_connections.max(1))
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
            last_wait: std::sync::Mutex::default(),
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
        self.run_any(&mut running, O::WRITES).await?;
        match running.output {
            Some(output) => Ok(output),
            None => unreachable!("an operation that succeeds has an output"),
        }
    }

    async fn run_any(&self, operation: &mut dyn AnyOperation<B>, writes: bool) -> Result<(), StoreError> {
        let outcome = match self.attempt(operation, writes).await {
            Err(error) if !writes && (error.lost_connection() || error.stale_statements()) => {
                self.attempt(operation, writes).await
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
            let mut lease = self.lease().await?;
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
            let is_of_the_role = |problem: &&SchemaProblem| problem.is_of_the_role();
            let of_role = resolved.problems.iter().filter(is_of_the_role);
            lacking.extend(of_role.map(ToString::to_string));
            lacking.extend(resolved.forbidden_ledger().map(|problem| problem.to_string()));
            policies = resolved.policies();
        }
        error.explained(&lacking, &policies)
    }

    /// Shares the state with other pools of the same database, instead of one of its own.
    pub(super) fn share(&mut self, state: Arc<DatabaseState>) {
        self.state = state;
    }

    /// Notes whether page views were written that the counters lack; whether that was so before.
    pub(super) fn lacks_counts(&self, now: bool) -> bool {
        self.state.lacks_counts.swap(now, Ordering::Relaxed)
    }

    /// What is shared with other pools of the same database.
    pub(super) fn state(&self) -> Arc<DatabaseState> {
        Arc::clone(&self.state)
    }

    /// An error of connecting.
    fn not_connected(&self, error: sqlx::Error) -> StoreError {
        not_connected::<B>(error, &self.pool.connect_options())
    }

    async fn attempt(&self, operation: &mut dyn AnyOperation<B>, writes: bool) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        if writes && self.within_limit(lease.connection.ping()).await.is_err() {
            self.idle_policy.mark_broken();
            drop(lease); // its place in the pool may be the only one
            lease = self.lease().await?;
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

    async fn lease(&self) -> Result<ConnectionInUse<B>, StoreError> {
        let mut acquired = pin!(self.pool.acquire());
        let connection = if let Ok(acquired) = timeout(PATIENCE, &mut acquired).await {
            acquired
        } else {
            self.state.check_database.notify_one();
            let acquired = acquired.await;
            if acquired.is_ok() {
                self.waited();
            }
            acquired
        };
        let connection = connection.map_err(|error| {
            self.state.check_database.notify_one();
            self.not_connected(error)
        })?;
        Ok(self.leased(connection))
    }

    /// An operation has waited long for a connection, and got one. Logged once in a while: they wait all at a time.
    fn waited(&self) {
        let mut last = self.last_wait.lock().unwrap_or_else(PoisonError::into_inner);
        if last
            .replace(Instant::now())
            .is_none_or(|last| last.elapsed() > WAITS_APART)
        {
            tracing::warn!(
                "work has waited for a connection to the database: it did not answer, or is slow, or more than the {} \
                 connections of one pool (database.max_connections) are needed",
                self.pool.options().get_max_connections()
            );
        }
    }

    fn leased(&self, connection: PoolConnection<B>) -> ConnectionInUse<B> {
        ConnectionInUse {
            connection,
            limit: self.limit,
            clean: false,
        }
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

/// A connection in use. Unless its operation ended in good order it is closed, not reused: after a timeout, or
/// when the caller was cancelled, the server may still send part of an answer on it.
struct ConnectionInUse<B: Backend> {
    connection: PoolConnection<B>,
    limit: Duration,
    clean: bool,
}

impl<B: Backend> Drop for ConnectionInUse<B> {
    fn drop(&mut self) {
        if self.clean
            && let Ok(runtime) = Handle::try_current()
        {
            // The pool tests a connection that is returned. Without a limit it would wait for a hung server for
            // ever, and each such connection would cost one place in the pool.
            runtime.spawn(timeout(self.limit, self.connection.return_to_pool()));
        } else {
            self.connection.close_on_drop();
        }
    }
}
