//! Metrics of the API.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use prometheus::Opts;
use prometheus::core::{AtomicU64, GenericCounterVec};

use super::paths::Operation;
use crate::metrics::{
    Counters, Family, LabelValue as _, Metric, Registry, StatusClass, label_values, metrics,
};

metrics! {
    /// Metrics of the API.
    pub struct Metrics {
        /// Requests to the visitors API, by operation and status class
        requests: Family<Counters<StatusClass>, Operation> = "api_requests_total",
        /// Requests to the visitors API with an API key, by key and outcome
        key_requests: KeyRequests = "api_key_requests_total",
        /// Live connections that were refused, by reason
        live_refused: Counters<LiveRefusal> = "live_refused_total",
        /// Page views reported by pages, by outcome
        beacons: Counters<ReportOutcome> = "beacons_total",
    }
}

label_values! {
    /// Why a live connection is refused.
    pub enum LiveRefusal as "reason" {
        /// Too many connections of one address.
        Address => "address",
        /// A fault of the sidecar.
        Error => "error",
        /// Too many connections.
        LimitReached => "full",
        /// A server's key that is not accepted, is not for it, or asks too often.
        Key => "key",
        /// No such community, or one that the caller may not see.
        NotFound => "not_found",
        /// A page of another origin.
        Origin => "origin",
        /// The request is faulty.
        Request => "request",
        /// No valid session.
        Session => "session",
        /// Presence or the database cannot answer.
        Unavailable => "unavailable",
        /// Too many connections of one user.
        User => "user",
    }
}

label_values! {
    /// What became of a page view that a page reported.
    pub enum ReportOutcome as "outcome" {
        /// It was handed to the recorder.
        Accepted => "accepted",
        /// It came without a session token.
        Anonymous => "anonymous",
        /// The report is faulty.
        Malformed => "malformed",
        /// It is no page view.
        NotCounted => "not_counted",
        /// It came from a page of another origin.
        Origin => "origin",
        /// The report is too long.
        TooLarge => "too_large",
        /// There were too many of one visitor.
        TooMany => "too_many",
    }
}

label_values! {
    /// What became of a request with a key.
    pub(super) enum KeyOutcome as "outcome" {
        /// It was answered.
        Answered => "answered",
        /// It cannot be understood.
        Malformed => "malformed",
        /// The key is not for it, or it comes from a page of another origin.
        Forbidden => "forbidden",
        /// No such community, or not one of the key's.
        NotFound => "not_found",
        /// The key asks too often, or has too many live connections.
        TooMany => "too_many",
        /// It cannot be answered now.
        Failed => "failed",
    }
}

impl KeyOutcome {
    pub(super) fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::TOO_MANY_REQUESTS => Self::TooMany,
            status if status.is_client_error() => Self::Malformed,
            status if status.is_server_error() => Self::Failed,
            _ => Self::Answered,
        }
    }
}

/// Requests by key and outcome: as many keys as are configured at a time.
#[derive(Debug)]
pub struct KeyRequests {
    counters: GenericCounterVec<AtomicU64>,
    names: Mutex<Vec<String>>,
}

impl Metric for KeyRequests {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        Self {
            counters: registry.add(GenericCounterVec::new(opts, &["key", KeyOutcome::LABEL])),
            names: Mutex::default(),
        }
    }
}

impl KeyRequests {
    /// Counts a request.
    pub(super) fn count(&self, key: &str, outcome: KeyOutcome) {
        self.counters.with_label_values(&[key, outcome.label()]).inc();
    }

    /// From now on these keys are counted, from zero, and no others are shown.
    pub(super) fn keep(&self, keys: Vec<String>) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for outcome in KeyOutcome::ALL {
            for gone in names.iter().filter(|name| !keys.contains(name)) {
                // It is there.
                let _ = self.counters.remove_label_values(&[gone, outcome.label()]);
            }
            for key in &keys {
                let _ = self.counters.with_label_values(&[key, outcome.label()]);
            }
        }
        *names = keys;
    }
}
