//! In-flight counters: count requests in flight and open connections, and wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How much later a connection accepted just before the listeners closed may send its request.
const SETTLE: Duration = Duration::from_millis(100);

/// Counts requests in flight, and the connections that may send some.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<RequestCounters>);

#[derive(Debug, Default)]
struct RequestCounters {
    /// Requests now.
    requests: AtomicUsize,
    /// Connections now.
    connections: AtomicUsize,
    /// Requests and connections ever begun.
    begun: AtomicUsize,
    changed: Notify,
}

/// One request in flight, until dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<RequestCounters>);

/// One open connection, until dropped.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<RequestCounters>);

impl InFlight {
    /// Counts one more request, until the guard is dropped.
    pub fn enter(&self) -> InFlightGuard {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        self.0.requests.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(self.0.clone())
    }

    /// Counts one more connection, until the guard is dropped.
    pub fn connect(&self) -> ConnectionGuard {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        self.0.connections.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard(self.0.clone())
    }

    /// Waits until no request is in flight and none has come for a moment (`SETTLE`), at most `grace`. Returns
    /// how many are left.
    pub async fn drained(&self, grace: Duration) -> usize {
        let _ = tokio::time::timeout(grace, self.quiet(RequestCounters::drained)).await;
        self.0.requests.load(Ordering::Acquire)
    }

    /// Waits until no connection is open either, at most `grace`.
    pub async fn emptied(&self, grace: Duration) {
        let _ = tokio::time::timeout(grace, self.quiet(RequestCounters::emptied)).await;
    }

    async fn quiet(&self, is_quiet: impl Fn(&RequestCounters) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if !is_quiet(&self.0) {
                changed.await;
                continue;
            }
            let before = self.0.begun.load(Ordering::Acquire);
            tokio::time::sleep(SETTLE).await;
            if is_quiet(&self.0) && before == self.0.begun.load(Ordering::Acquire) {
                return;
            }
        }
    }
}

impl RequestCounters {
    fn drained(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0
    }

    fn emptied(&self) -> bool {
        self.drained() && self.connections.load(Ordering::Acquire) == 0
    }

    fn one_less(&self, of: &AtomicUsize) {
        if of.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.one_less(&self.0.requests);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.one_less(&self.0.connections);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_the_last_request_and_no_longer_than_the_grace_period() {
        let requests = InFlight::default();
        let first = requests.enter();
        let second = requests.enter();
        assert_eq!(requests.drained(Duration::from_secs(5)).await, 2);
        drop(first);
        let waiting = tokio::spawn({
            let requests = requests.clone();
            async move { requests.drained(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        drop(second);
        assert_eq!(waiting.await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_keeps_only_those_who_wait_for_connections() {
        let requests = InFlight::default();
        let open = requests.connect();
        assert_eq!(requests.drained(Duration::from_secs(3600)).await, 0);
        let waiting = tokio::spawn({
            let requests = requests.clone();
            async move { requests.emptied(Duration::MAX).await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished());
        drop(open);
        waiting.await.unwrap();
    }
}
