//! Edge state: counters of refused and failed requests, and warnings that are logged once per process.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_proxy::Session;

use super::client_ip::ClientIp;
use super::failures::FailureLog;
use super::headers::not_understood;
use super::hops;
use super::limits::Refusal;
use super::metrics::Metrics;
use super::progress::Progress;
use super::refusals::Refusals;
use super::untrusted_proxy::UntrustedProxy;

/// Longest part of a client's text that is logged, in characters.
const MAX_LOGGED: usize = 64;

/// State of the edge, one for all listeners.
pub struct Edge {
    /// Counts refused requests.
    pub refusals: Arc<Refusals>,
    /// Counts requests that the app did not answer.
    pub(super) failures: FailureLog,
    /// This process' id in `X-Headcount-Hops`.
    id: String,
    /// The header of a request that has passed no other sidecar.
    first_hop: HeaderValue,
    no_progress: Arc<Progress>,
    warned_of_a_value: AtomicBool,
    warned_of_an_underscore: AtomicBool,
    untrusted_proxy: UntrustedProxy,
}

impl Edge {
    /// No refusals, no warnings so far.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let id = hops::new_id();
        Self {
            refusals: Arc::new(Refusals::new(metrics.clone())),
            failures: FailureLog::new(metrics),
            // Hexadecimal digits are a header's value.
            first_hop: HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("")),
            id,
            no_progress: Arc::default(),
            warned_of_a_value: AtomicBool::new(false),
            warned_of_an_underscore: AtomicBool::new(false),
            untrusted_proxy: UntrustedProxy::default(),
        }
    }

    /// Shared by all exchanges until their heads are complete and each has its connection's own: no phase changes it.
    pub(super) fn no_progress(&self) -> Arc<Progress> {
        Arc::clone(&self.no_progress)
    }

    /// The header with the ids of the sidecars that the request has passed, with this one.
    ///
    /// # Errors
    /// It has passed this one before, or too many.
    pub(super) fn pass(&self, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
        match hops::passed(headers, &self.id).ok_or(Refusal::Loop)? {
            Cow::Borrowed(_) => Ok(self.first_hop.clone()),
            Cow::Owned(passed) => HeaderValue::try_from(passed).map_err(|_| Refusal::Loop),
        }
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, session: &Session, refusal: Refusal) {
        let peer = session.client_addr().and_then(|address| address.as_inet());
        self.refusals.count(refusal, peer.map(std::net::SocketAddr::ip));
    }

    /// Logs, once per process, when headers are changed or not used that an operator may miss.
    pub(super) fn notice(&self, headers: &HeaderMap, client: &ClientIp) {
        self.untrusted_proxy.notice(headers, client);
        if client.peer_trusted
            && !self.warned_of_a_value.load(Ordering::Relaxed)
            && let Some((header, value)) = not_understood(headers, client)
            && !self.warned_of_a_value.swap(true, Ordering::Relaxed)
        {
            let value: String = value.chars().take(MAX_LOGGED).collect();
            tracing::warn!(
                header = header.as_str(),
                value,
                "a trusted proxy sends a value that is not understood; it is not passed on, and the other values for the \
                 scheme, host or port are used (logged once)"
            );
        }
    }

    /// Logs, once per process, that a header was dropped for the `_` in its name.
    pub(super) fn notice_dropped(&self, name: &HeaderName) {
        if !self.warned_of_an_underscore.load(Ordering::Relaxed)
            && !self.warned_of_an_underscore.swap(true, Ordering::Relaxed)
        {
            let header: String = name.as_str().chars().take(MAX_LOGGED).collect();
            tracing::info!(
                header,
                "headers with a \"_\" in their names are dropped; limits.underscore_headers = true keeps them (logged once)"
            );
        }
    }
}
