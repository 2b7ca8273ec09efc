//! The lease: which sidecar writes. It is a row of the database, by whose clock it expires, so that it works through any
//! pooler; each transaction that writes looks at it again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::rounds::unix_now;
use crate::retry::jittered;

/// How long the lease is held without being renewed. With the pause, the time until another has it: less than 10 s.
const TTL: Duration = Duration::from_secs(6);
/// Between two renewals, and two attempts to take it; jittered.
const PAUSE: Duration = Duration::from_secs(2);

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
                    if !self.is_held() {
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
        if self.is_held() {
            tracing::info!("another sidecar may write the counters of communities");
        }
        self.set_held(None);
    }
}
