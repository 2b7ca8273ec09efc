//! State of one request, carried from phase to phase.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::Utc;
use http::HeaderValue;

use super::client_ip::ClientIp;
use super::metrics::{NoRoute, RouteLabel};
use super::progress::Progress;
use super::request_id::RequestId;
use super::upstream::Address;
use crate::api::ApiPath;
use crate::auth::KeyFound;
use crate::recorder::RequestFacts;
use crate::shutdown::InFlightGuard;
use crate::widget::{Page, PageBody};

/// How far the widget is put into the response of an exchange.
pub(super) enum Injection {
    /// It is not.
    None,
    /// The response may be a page that gets it.
    Candidate(Page),
    /// The response is one. Behind a lock, because Pingora shares contexts.
    Body(Mutex<Box<PageBody>>),
}

/// State of one exchange. Made when the request's head is complete.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that do not depend on each other"
)]
pub struct Ctx {
    /// Start of the request, for durations.
    pub(super) started: Instant,
    /// What its page view needs of the request.
    pub(super) facts: RequestFacts,
    /// The client's address, and the proxies that the request came through.
    pub(super) client: ClientIp,
    /// The header with the ids of the sidecars that it has passed, this one included.
    pub(super) hops: HeaderValue,
    /// Whether it came over TLS.
    pub(super) tls: bool,
    /// Identifies the exchange in the app's log and in ours, where no trusted proxy sends an id.
    pub(super) request_id: RequestId,
    /// The answer is a `WebSocket` or an event stream: silence is normal.
    pub(super) tunnel: bool,
    /// Whether the request to the app asks for an upgrade.
    pub(super) upgrade: bool,
    /// The server of the latest attempt, with what is known of its health.
    pub(super) server: Option<Arc<Address>>,
    /// Servers tried so far.
    pub(super) attempts: usize,
    /// Bytes of the request body so far.
    pub(super) body_bytes: u64,
    /// Whether the response gets the widget.
    pub(super) injection: Injection,
    /// Whether the page view has been decided (V7).
    pub(super) decided: bool,
    /// The path, if it is the API's; `None` if it is the app's.
    pub(super) api_path: Option<ApiPath>,
    /// The key with which a server asks the API.
    pub(super) key: KeyFound,
    /// Label of the request metrics, where it is not the matched route.
    pub(super) no_route: NoRoute,
    /// State of this exchange, shared with the client's socket and the front.
    pub(super) progress: Arc<Progress>,
    /// The client waits for the app before it sends its body, and may be silent for as long as that takes.
    pub(super) waits_for_the_app: bool,
    /// The answer's whole body has been passed on.
    pub(super) body_ended: bool,
    /// Status of a response that is not written here.
    pub(super) status: Option<u16>,
    /// Makes shutdown wait.
    _in_flight: InFlightGuard,
}

impl Ctx {
    /// `progress` until the client's socket is known, whose own takes its place.
    pub(super) fn new(in_flight: InFlightGuard, progress: Arc<Progress>) -> Self {
        let at = Utc::now();
        Self {
            started: Instant::now(),
            facts: RequestFacts::new(at),
            client: ClientIp::default(),
            hops: HeaderValue::from_static(""),
            tls: false,
            request_id: RequestId::new(at),
            tunnel: false,
            upgrade: false,
            server: None,
            attempts: 0,
            body_bytes: 0,
            injection: Injection::None,
            decided: false,
            api_path: None,
            key: KeyFound::None,
            no_route: NoRoute::Unmatched,
            progress,
            waits_for_the_app: false,
            body_ended: false,
            status: None,
            _in_flight: in_flight,
        }
    }

    /// Value of the `route` label.
    pub(super) fn label(&self) -> RouteLabel<'_> {
        match (self.no_route, &self.facts.route) {
            (NoRoute::Unmatched, Some(found)) => RouteLabel::Route(&found.route),
            (no_route, _) => RouteLabel::None(no_route),
        }
    }
}
