//! Metrics of the API.

use super::paths::Operation;
use super::servers::KeyRequests;
use crate::metrics::{Counters, Family, StatusClass, label_values, metrics};

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
