//! Requests that the app did not answer, or not to the end: a counter for each reason, and a line in the log. For each
//! reason there is at most one warning a minute; further lines are at `debug`. Which server failed, and since when, is
//! [`super::upstream`]'s.

use std::sync::Arc;

use pingora_core::{ErrorSource, ErrorType};

use super::failure::UpstreamFailure;
use super::metrics::Metrics;
use super::request_id::RequestId;
use super::warnings::Warnings;
use crate::metrics::LabelValue as _;

/// Counts and logs failed requests.
pub(super) struct FailureLog {
    metrics: Arc<Metrics>,
    warnings: Warnings<UpstreamFailure>,
}

impl FailureLog {
    /// No failures so far.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            warnings: Warnings::default(),
        }
    }

    /// Counts a failure. The error's own text may quote headers, so only its kind is logged.
    pub(super) fn count(&self, status: u16, kind: &ErrorType, source: &ErrorSource, request_id: RequestId) {
        let failure = UpstreamFailure::of(status, kind, source);
        self.metrics.upstream_failures[failure].inc();
        let (reason, kind, source) = (failure.label(), kind.as_str(), source.as_str());
        if let Some(more) = self.warnings.due(failure) {
            let more = (more > 0).then_some(more);
            tracing::warn!(
                status,
                kind,
                source,
                reason,
                more,
                %request_id,
                "a request could not be proxied"
            );
        } else {
            tracing::debug!(
                status,
                kind,
                source,
                reason,
                %request_id,
                "a request could not be proxied"
            );
        }
    }
}
