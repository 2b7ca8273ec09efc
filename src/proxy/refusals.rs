//! Refused requests: a counter for each reason, and a line in the log. For each reason there is at most one warning a
//! minute; further lines are at `debug`.

use std::net::IpAddr;
use std::sync::Arc;

use super::limits::Refusal;
use super::metrics::{Metrics, NoRoute};
use super::warnings::Warnings;
use crate::metrics::LabelValue as _;

/// Counts and logs refused requests.
pub struct Refusals {
    metrics: Arc<Metrics>,
    warnings: Warnings<Refusal>,
}

impl Refusals {
    /// No refusals so far.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            warnings: Warnings::default(),
        }
    }

    /// Counts a refused request of `client`.
    pub(super) fn count(&self, refusal: Refusal, client: Option<IpAddr>) {
        let (reason, status, hint) = (refusal.label(), refusal.status(), refusal.hint());
        let client = client.map(|ip| ip.to_string()).unwrap_or_default();
        if let Some(more) = self.warnings.due(refusal) {
            let more = (more > 0).then_some(more);
            tracing::warn!(reason, status, client, more, "a request was refused: {hint}");
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
}
