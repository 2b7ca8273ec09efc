//! The connection pool of the app's database, with timeouts and the cached live schema.
//! It also handles broken connections. Both databases share it; their statements are elsewhere.
//!
//! Concurrency: everything here is shared by reference. Each operation runs on a connection of its own; the schema
//! is loaded by one task at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Pool};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::timed_out;
use super::operations::{Backend, Operation, Runs};
use super::schema::{AppSchema, Problems, Requirements, ResolvedSchema, resolve};
use super::{LedgerProblem, StoreError};
use crate::config::Config;
use crate::key_type::AppKeys;

/// Pool, limits, and the schema as last read.
pub(super) struct Connections<B: Backend> {
    pool: Pool<B>,
    /// Longest time of one operation once it has a connection.
    limit: Duration,
    idle_policy: Arc<IdlePolicy>,
    wanted: Requirements,
    /// Empty until first read, and again after a statement found that the tables had changed.
    schema: ArcSwapOption<ResolvedSchema>,
    /// Key types of the last schema that was read; kept while the schema is read again.
    keys: AppKeys,
    loading: Mutex<()>,
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
            schema: ArcSwapOption::empty(),
            keys: AppKeys::default(),
            loading: Mutex::new(()),
        }
    }

    /// Runs one operation. A read whose connection turns out to be dead, or prepared for tables that have
    /// changed since, runs once more on another.
    pub(super) async fn run<O: Operation>(&self, operation: &O) -> Result<O::Output, StoreError>
    where
        B: Runs<O>,
    {
        match self.attempt(operation).await {
            Err(error) if !O::WRITES && (error.lost_connection() || error.stale_statements()) => {
                self.attempt(operation).await
            }
            outcome => outcome,
        }
    }

    async fn attempt<O: Operation>(&self, operation: &O) -> Result<O::Output, StoreError>
    where
        B: Runs<O>,
    {
        let mut lease = self.lease().await?;
        if O::WRITES && self.within_limit(lease.connection.ping()).await.is_err() {
            self.idle_policy.mark_broken();
            drop(lease); // its place in the pool may be the only one
            lease = self.lease().await?;
        }
        let outcome = self
            .within_limit(async {
                if O::WRITES {
                    let app = self.schema(&mut lease.connection, true).await?;
                    return <B as Runs<O>>::run(operation, &app, &mut lease.connection).await;
                }
                let mut reading = B::begin_reading(&mut lease.connection, self.limit).await?;
                let app = self.schema(&mut reading, false).await?;
                <B as Runs<O>>::run(operation, &app, &mut reading).await
            })
            .await;
        self.settle(lease, outcome, O::WRITES)
    }

    /// The types of the app's keys, if they were read.
    pub(super) fn keys(&self) -> AppKeys {
        self.keys.clone()
    }

    /// Reads the schema afresh.
    pub(super) async fn resolved(&self) -> Result<ResolvedSchema, StoreError> {
        let live = self.afresh(async |connection| B::introspect(connection, &self.wanted).await);
        Ok(resolve(&self.wanted, &live.await?))
    }

    /// What is wrong with the ledger, if anything.
    pub(super) async fn ledger(&self) -> Result<Option<LedgerProblem>, StoreError> {
        self.afresh(async |connection| B::ledger(connection).await).await
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
        let mut connection = connection?;
        let asked = async { ask(&mut *B::begin_reading(&mut connection, self.limit).await?).await };
        let outcome = self.within_limit(asked).await;
        // The wait is bounded; the connection is closed when this call ends in any case.
        let _ = timeout(self.limit, connection.close()).await;
        outcome
    }

    /// A trivial round trip, tried twice: the server may have closed an idle connection and still be up.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        match self.ping_one().await {
            Err(error) if error.lost_connection() => self.ping_one().await,
            outcome => outcome,
        }
    }

    async fn ping_one(&self) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        let outcome = self.within_limit(lease.connection.ping()).await;
        self.settle(lease, outcome, false)
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
        Ok(ConnectionInUse {
            connection: self.pool.acquire().await?,
            limit: self.limit,
            clean: false,
        })
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
                    self.schema.store(None);
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

    /// The schema, read on first use. One task reads, the others wait for it (within their own limit).
    async fn schema(
        &self,
        connection: &mut B::Connection,
        writes: bool,
    ) -> Result<Arc<AppSchema>, sqlx::Error> {
        let blocked = |resolved: &ResolvedSchema| {
            writes
                && (resolved.lacks_events
                    || resolved.problems.iter().any(super::SchemaProblem::blocks_writes))
        };
        let resolved = match self.schema.load_full() {
            // A schema with a problem is read again each time: the problem may have been mended.
            Some(resolved) if !blocked(&resolved) => resolved,
            _ => {
                self.schema.store(None);
                self.load(connection, writes).await?
            }
        };
        let problems = |resolved: &ResolvedSchema| {
            sqlx::Error::Configuration(Box::new(Problems(resolved.problems.clone())))
        };
        if blocked(&resolved) {
            return Err(problems(&resolved));
        }
        resolved.app.clone().ok_or_else(|| problems(&resolved))
    }

    /// Reads the schema. A write begins its transaction after this; a read has begun before.
    async fn load(
        &self,
        connection: &mut B::Connection,
        is_writing: bool,
    ) -> Result<Arc<ResolvedSchema>, sqlx::Error> {
        let _one_at_a_time = self.loading.lock().await;
        if let Some(resolved) = self.schema.load_full() {
            return Ok(resolved);
        }
        let live = if is_writing {
            let mut reading = B::begin_reading(connection, self.limit).await?;
            B::introspect(&mut reading, &self.wanted).await?
        } else {
            B::introspect(connection, &self.wanted).await?
        };
        let resolved = Arc::new(resolve(&self.wanted, &live));
        if let Some(app) = &resolved.app {
            self.keys.learn(app.keys());
        }
        self.schema.store(Some(Arc::clone(&resolved)));
        Ok(resolved)
    }
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

/// Decides whether idle connections must be tested or replaced, from what happened since they were last used.
#[derive(Debug)]
struct IdlePolicy {
    origin: Instant,
    /// When a connection last broke (a restart, a failover): other idle ones may be dead too, and each is tested
    /// once, when it is next taken. Milliseconds after `origin`, plus one; 0: never.
    broken_at: AtomicU64,
    /// When a connection was last found unusable for good: read-only after a failover, or with statements prepared
    /// for tables that have changed. Other idle ones are alike, and each is replaced. Same unit.
    unusable_at: AtomicU64,
    /// How often either happened.
    times: AtomicU64,
}

/// What to do with an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdleAction {
    Use,
    Test,
    Replace,
}

impl Default for IdlePolicy {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            broken_at: AtomicU64::new(0),
            unusable_at: AtomicU64::new(0),
            times: AtomicU64::new(0),
        }
    }
}

impl IdlePolicy {
    fn mark_broken(&self) {
        self.broken_at.store(self.now() + 1, Ordering::Release);
        self.times.fetch_add(1, Ordering::Release);
    }

    fn mark_unusable(&self) {
        self.unusable_at.store(self.now() + 1, Ordering::Release);
        self.times.fetch_add(1, Ordering::Release);
    }

    fn of(&self, idle_for: Duration) -> IdleAction {
        let since_before = |moment: &AtomicU64| match moment.load(Ordering::Acquire) {
            0 => false,
            moment => millis(idle_for) + moment > self.now(),
        };
        if since_before(&self.unusable_at) {
            IdleAction::Replace
        } else if since_before(&self.broken_at) {
            IdleAction::Test
        } else {
            IdleAction::Use
        }
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_idle_since_before_the_break_are_doubted() {
        let minute_ago = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        let idle_policy = |broken_at, unusable_at| IdlePolicy {
            origin: minute_ago,
            broken_at: AtomicU64::new(broken_at),
            unusable_at: AtomicU64::new(unusable_at),
            times: AtomicU64::new(0),
        };
        let (longer, shorter) = (Duration::from_secs(61), Duration::from_secs(1));
        assert_eq!(idle_policy(0, 0).of(longer), IdleAction::Use);
        assert_eq!(idle_policy(1, 0).of(longer), IdleAction::Test);
        assert_eq!(idle_policy(1, 0).of(shorter), IdleAction::Use);
        assert_eq!(idle_policy(1, 1).of(longer), IdleAction::Replace);
        assert_eq!(idle_policy(1, 1).of(shorter), IdleAction::Use);
    }
}
