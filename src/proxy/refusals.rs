//! Refused requests: a counter for each reason, and a line in the log. For each reason there is at most one warning a
//! minute; further lines are at `debug`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::limits::Refusal;
use super::metrics::{Metrics, NoRoute};
use crate::metrics::LabelValue as _;

/// Seconds between two warnings of one reason.
const BETWEEN_WARNINGS: u64 = 60;

/// Counts and logs refused requests.
pub struct Refusals {
    metrics: Arc<Metrics>,
    start: Instant,
    /// For each reason, the time of the last warning, in seconds of this struct's age plus [`BETWEEN_WARNINGS`].
    warned: [AtomicU64; Refusal::ALL.len()],
}

impl Refusals {
    /// No refusals so far.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            start: Instant::now(),
            warned: Default::default(),
        }
    }

    /// Counts a refused request of `client`.
    pub(super) fn count(&self, refusal: Refusal, client: Option<IpAddr>) {
        let (reason, status, hint) = (refusal.label(), refusal.status(), refusal.hint());
        let client = client.map(|ip| ip.to_string()).unwrap_or_default();
        if self.may_warn(refusal) {
            tracing::warn!(reason, status, client, "a request was refused: {hint}");
        } else {
            tracing::debug!(reason, status, client, "a request was refused: {hint}");
        }
        self.metrics.requests_refused[refusal].inc();
    }

    /// The same for a request that reaches none of the proxy's phases: it is counted as a request here.
    pub(super) fn count_early(&self, refusal: Refusal, client: Option<IpAddr>) {
        self.count(refusal, client);
        let requests = &self.metrics.requests;
        requests.of(NoRoute::Refused.label(), refusal.status()).inc();
    }

    fn may_warn(&self, refusal: Refusal) -> bool {
        let now = self.start.elapsed().as_secs() + BETWEEN_WARNINGS;
        let Some(warned) = self.warned.get(refusal.index()) else {
            return true;
        };
        let last = warned.load(Ordering::Relaxed);
        now - last >= BETWEEN_WARNINGS
            && warned
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_warned_of_once_a_minute() {
        let refusals = Refusals::new(Arc::default());
        assert!(refusals.may_warn(Refusal::Host));
        assert!(!refusals.may_warn(Refusal::Host));
        assert!(refusals.may_warn(Refusal::Path));
    }
}
