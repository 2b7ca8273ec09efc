//! Connections that operations have: how one is got from the pool, what is said where that takes long, and what becomes of it.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use tokio::runtime::Handle;
use tokio::time::timeout;

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
            // One that is being made is not in use.
            let is_full = self.in_use.load(Ordering::Relaxed) >= connections;
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
        self.in_use.fetch_add(1, Ordering::Relaxed);
        ConnectionInUse {
            connection,
            limit: self.limit,
            clean: false,
            in_use: Arc::clone(&self.in_use),
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
    in_use: Arc<AtomicU32>,
}

impl<B: Backend> Drop for ConnectionInUse<B> {
    fn drop(&mut self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
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
