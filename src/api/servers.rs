//! Servers that ask with a key (`[[api.key]]`): what a key may ask, how often, and what each answer says of that.
//!
//! [`Operation::for_servers`](super::Operation::for_servers) says what each operation needs. It is decided here, before an
//! operation begins; which communities a key may ask about, [`Gate`](super::access::Gate) decides.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::caller::Caller;
use super::live;
use super::metrics::{KeyOutcome, KeyRequests, ReportOutcome};
use super::origin::{self, RequestOrigin};
use super::paths::{ForServers, Operation};
use super::problem::Problem;
use super::{Api, ApiPath, ApiState};
use crate::auth::{KeyFound, Quota, ServerKey};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// A server's request, as far as its key decides about it.
pub(super) struct Asked {
    /// Why it is not answered.
    pub(super) refused: Option<Problem>,
    /// The key, and what it may still ask; `None` where it is not accepted.
    key: Option<(ServerKey, Quota)>,
}

impl Api {
    /// The key of a request, where its path is one that needs one or a session.
    pub fn key_of(&self, path: &ApiPath, headers: &HeaderMap, at: DateTime<Utc>) -> KeyFound {
        match &self.shared.api_keys {
            Some(keys) if path.operation.for_servers() != ForServers::Anybody => {
                keys.in_authorization(headers, at)
            }
            _ => KeyFound::None,
        }
    }
}

impl ApiState {
    /// What becomes of a server's request; `None` where it is no server's. Each counts, whatever becomes of it.
    pub(super) fn asked(&self, operation: Operation, request: &Parts, caller: &Caller) -> Option<Asked> {
        let asked = match &caller.key {
            KeyFound::None => return None,
            KeyFound::Refused => Asked {
                refused: Some(Problem::UnknownKey),
                key: None,
            },
            KeyFound::Key(key) => {
                let quota = key.ask((self.clock)());
                Asked {
                    refused: self.refused(operation, request, caller, key, &quota),
                    key: Some((key.clone(), quota)),
                }
            }
        };
        match (&asked.refused, operation) {
            (Some(problem), Operation::Live | Operation::LiveOfMany) => {
                self.metrics.live_refused[live::reason(problem)].inc();
            }
            (Some(_), Operation::Visits) => self.metrics.beacons[ReportOutcome::Anonymous].inc(),
            _ => {}
        }
        Some(asked)
    }

    fn refused(
        &self,
        operation: Operation,
        request: &Parts,
        caller: &Caller,
        key: &ServerKey,
        quota: &Quota,
    ) -> Option<Problem> {
        match (quota.exceeded, operation.for_servers()) {
            (Some(wait), _) => Some(Problem::TooOften(seconds(wait).max(1))),
            // Pages of allowed origins may have visitors' cookies, but no server's key.
            _ if origin::from(&request.headers, caller, &[]) == RequestOrigin::Foreign => {
                self.warn_of_foreign(&request.headers, caller);
                Some(Problem::ForeignOrigin)
            }
            (None, ForServers::Scope(scope)) if !key.settings().scopes.contains(&scope) => {
                Some(Problem::OutOfScope(scope))
            }
            (None, ForServers::Nobody) => Some(Problem::NotForServers),
            (None, ForServers::Scope(_))
                if key.settings().communities.is_some() && !operation.names_communities() =>
            {
                Some(Problem::LimitedKey)
            }
            (None, ForServers::Scope(_) | ForServers::Anybody) => None,
        }
    }
}

impl Asked {
    /// Counts the answer, and says in it what the key may still ask.
    pub(super) fn answered(&self, status: StatusCode, requests: &KeyRequests, answer: &mut HeaderMap) {
        let Some((key, quota)) = &self.key else {
            return;
        };
        requests.count(&key.settings().name, KeyOutcome::of(status));
        for (name, value) in [(RATE_LIMIT_POLICY, policy(quota)), (RATE_LIMIT, left(quota))] {
            // Numbers and letters: always a value.
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.insert(name, value);
            }
        }
    }
}

/// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): so many requests in so many seconds.
fn policy(quota: &Quota) -> String {
    format!("\"key\";q={};w={}", quota.burst, seconds(quota.window).max(1))
}

/// `RateLimit`: so many are left, and all of them again in so many seconds.
fn left(quota: &Quota) -> String {
    format!("\"key\";r={};t={}", quota.left, seconds(quota.full_in))
}

/// Whole seconds, of which the last may have begun.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
