//! Connections that operations have: how one is got from the pool, what is said where that takes long, and what becomes of it.

use std::pin::pin;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::slots::PoolSlot;
use super::waits::NoConnection;
use super::{Connections, PATIENCE};
use crate::store::StoreError;
use crate::store::error::no_connection;
use crate::store::operations::Backend;

/// Waits for one reason that come closer together are logged as one.
const WAITS_APART: Duration = Duration::from_secs(60);

impl<B: Backend> Connections<B> {
    /// A connection for `what`, named as an operator knows it.
    pub(super) async fn lease(&self, what: &str) -> Result<ConnectionInUse<B>, StoreError> {
        let (begin, before) = (Instant::now(), self.unanswered());
        let mut acquired = pin!(self.pool.acquire());
        let connection = if let Ok(acquired) = timeout(PATIENCE, &mut acquired).await {
            acquired
        } else {
            let connections = self.pool.options().get_max_connections();
            let is_full = self.slots.are_all_taken(Instant::now());
            self.state.check_database.notify_one();
            let acquired = acquired.await;
            let why = if is_full && self.unanswered() == before {
                let of_counters = self.is_of_counters;
                NoConnection::AllInUse {
                    connections,
                    of_counters,
                }
            } else {
                NoConnection::NoAnswer
            };
            match &acquired {
                Ok(_) => self.waited(why, what, begin.elapsed()),
                Err(sqlx::Error::PoolTimedOut) => {
                    self.state.check_database.notify_one();
                    return Err(no_connection(why.in_vain(what)));
                }
                Err(_) => {}
            }
            acquired
        };
        let connection = connection.map_err(|error| {
            self.state.check_database.notify_one();
            self.not_connected(error)
        })?;
        Ok(self.leased(connection))
    }

    /// How often the database was found not to answer.
    fn unanswered(&self) -> u64 {
        self.state.unanswered.load(Ordering::Relaxed) + self.lost()
    }

    /// An operation has waited long for a connection, and got one. Logged once in a while: they wait all at a time.
    fn waited(&self, why: NoConnection, what: &str, waited: Duration) {
        let mut waits = self.last_waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits[usize::from(why == NoConnection::NoAnswer)]
            .replace(Instant::now())
            .is_none_or(|last| last.elapsed() > WAITS_APART)
        {
            tracing::warn!("{}", why.waited(what, waited));
        }
    }

    pub(super) fn leased(&self, connection: PoolConnection<B>) -> ConnectionInUse<B> {
        ConnectionInUse {
            connection,
            limit: self.limit,
            clean: false,
            slot: Some(self.slots.take()),
        }
    }
}

/// A connection in use. Unless its operation ended in good order it is closed, not reused: after a timeout, or
/// when the caller was cancelled, the server may still send part of an answer on it.
pub(super) struct ConnectionInUse<B: Backend> {
    pub(super) connection: PoolConnection<B>,
    limit: Duration,
    /// Whether the operation ended in good order.
    pub(super) clean: bool,
    slot: Option<PoolSlot>,
}

impl<B: Backend> Drop for ConnectionInUse<B> {
    fn drop(&mut self) {
        if self.clean
            && let Ok(runtime) = Handle::try_current()
        {
            // The pool tests a connection that is returned, which takes a round trip, and only then another operation gets
            // it. Without a limit it would wait for a hung server for ever, and each such connection would cost one
            // place in the pool.
            let returned = timeout(self.limit, self.connection.return_to_pool());
            let slot = self.slot.take();
            runtime.spawn(async move {
                let _ = returned.await;
                drop(slot);
            });
        } else {
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Sqlite;
    use sqlx::sqlite::SqliteConnectOptions;
    use tokio::task::yield_now;

    use super::*;
    use crate::config::Config;

    /// Between two operations on one connection lies a round trip, for which nobody else can have it.
    #[tokio::test]
    async fn d27_a_connection_on_its_way_back_to_the_pool_is_in_use() {
        let mut config = Config::default();
        config.database.max_connections = 1;
        let connections = Connections::<Sqlite>::new(SqliteConnectOptions::new().in_memory(true), &config);
        let mut lease = connections.lease("a test").await.expect("a connection");
        lease.clean = true;
        let taken = || connections.slots.taken_now();
        assert_eq!(taken(), 1);
        drop(lease);
        assert_eq!((connections.pool.num_idle(), taken()), (0, 1));
        while connections.pool.num_idle() == 0 {
            yield_now().await;
        }
        while taken() > 0 {
            yield_now().await;
        }
    }
}
