//! The lease: which sidecar writes. It is a row of the database, by whose clock it expires, so that it works through any
//! pooler; each transaction that writes looks at it again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::rounds::unix_now;
use crate::retry::jittered;

/// How long the lease is held without being renewed. With the pause, the time until another has it: less than 10 s.
const TTL: Duration = Duration::from_secs(6);
/// Between two renewals, and two attempts to take it; jittered.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether this process has the lease; if so, when its first round may begin. A handle.
#[derive(Clone, Default)]
pub(super) struct HeldLease(watch::Sender<Option<Instant>>);

impl HeldLease {
    pub(super) fn is_held(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Notes that the lease is held, with the time of the first round, or not held.
    pub(super) fn set(&self, first_round: Option<Instant>) {
        self.0.send_if_modified(|held| {
            let changes = held.is_some() != first_round.is_some();
            if changes {
                *held = first_round;
            }
            changes
        });
    }

    /// Waits until this process has the lease no more.
    pub(super) async fn lost(&self) {
        let mut held = self.0.subscribe();
        // The sender is here, so that this only ends with a change.
        let _ = held.wait_for(Option::is_none).await;
    }

    /// Waits until this process has the lease; when its first round may begin.
    pub(super) async fn held(&self) -> Instant {
        let mut held = self.0.subscribe();
        loop {
            if let Some(first) = *held.borrow_and_update() {
                return first;
            }
            // The sender is here, so that this only ends with a change.
            let _ = held.changed().await;
        }
    }
}

impl Shared {
    pub(super) async fn keep_lease(&self) {
        // One that waits for another's sockets may never serve, and knows nobody who is there.
        self.serves.started().await;
        // Where nobody ever writes, that is late, too.
        if self.metrics.last_write.get() <= 0.0 {
            self.metrics.last_write.set(unix_now());
        }
        let mut renewed = Instant::now();
        while !self.ending.load(Ordering::Relaxed) {
            let asked = Instant::now();
            match timeout(PAUSE, self.store.take_lease(self.holder, TTL)).await {
                Ok(Ok(Some(lease))) => {
                    renewed = asked;
                    if !self.lease.is_held() {
                        tracing::info!("this sidecar writes the counters of communities");
                        let pause = lease
                            .since_round
                            .map_or(Duration::ZERO, |since| self.config.interval.saturating_sub(since));
                        self.set_held(Some(Instant::now() + pause));
                    }
                }
                // Another may be able to write what this one cannot.
                Ok(Err(error)) if error.is_of_the_configuration() => self.lose(),
                // While the database cannot be asked, nobody can take it either. Rounds report the failure.
                Ok(Err(_)) | Err(_) if renewed.elapsed() < TTL => {}
                Ok(_) | Err(_) => self.lose(),
            }
            sleep(jittered(PAUSE)).await;
        }
        // Until the process ends.
        std::future::pending::<()>().await;
    }

    fn lose(&self) {
        if self.lease.is_held() {
            tracing::info!("another sidecar may write the counters of communities");
        }
        self.set_held(None);
    }

    fn set_held(&self, first_round: Option<Instant>) {
        self.metrics.lease_held.set(first_round.is_some().into());
        self.lease.set(first_round);
    }
}
