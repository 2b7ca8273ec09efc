//! The live endpoints: admit callers by the rules of the lists, and open connections.
//! The messages and the end of a connection are handled by [`crate::live`].
//!
//! The result is a head and a [`Connection`], to which the proxy passes the socket.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::request::Parts;
use http::{HeaderName, Response, StatusCode};

use crate::auth::KeyFound;
use crate::browser_session::BrowserSession;
use crate::communities::AskedCommunity;
use crate::config::{Access, CommunityKey};
use crate::ids::{Finer, SessionToken};
use crate::live::message::LiveMessage;
use crate::live::{
    AccessPolicy, AskedScope, Connection, ConnectionRequest, Denied, Framing, LimitReached, Owner, Protocol,
    Refused,
};
use crate::presence::Scope;

use super::caller::Caller;
use super::handshake::{Handshake, PROTOCOL};
use super::metrics::LiveRefusal;
use super::origin::{self, RequestOrigin};
use super::parameters::{CommunityInPath, FinerInPath};
use super::problem::Problem;
use super::problem_responses::{LiveProblems, Problems};
use super::query::{self, AskedKey, LiveOf};
use super::{ApiPath, ApiState, Body, Operation, backend_check, finer};

/// How many are in a community, each time it changes
///
/// With `Accept: text/event-stream` an event stream, with `Upgrade: websocket` a `WebSocket`. Both carry the same
/// JSON messages (`LiveMessage`), each an event's data or a text frame: the count at once, then each time it has
/// changed, at most a few times a second. An event's id is the count's `seq`; a comment now and then keeps the
/// stream alive; `retry` tells how long to wait before reconnecting.
///
/// While the connection is open its user counts as present in the community.
///
/// Over a `WebSocket` the client may ask for more communities, up to 100, and for fewer:
/// `{"type":"subscribe","communities":[42,"x"]}`, `{"type":"unsubscribe","communities":[42]}`. A community that
/// does not exist or that the caller may not see is answered with an `unknown` message.
///
/// A `WebSocket` is closed with 1001 when the server shuts down, 1002, 1003, 1007 or 1009 for what is not the
/// protocol, not text, not UTF-8 or too long, 1013 when access cannot be checked, 4400 for a message that is no
/// request, 4401 when the session has ended, 4404 when no community is left, 4413 for too many communities and
/// 4429 for too many messages or bytes. An event stream says the same in a `close` message and ends.
///
/// Who asks for an event stream is not answered 429 or 503, at which a browser would give up for good, but 200: the
/// stream says when to come back and, in a `close` message, 1013, and ends. A server with a key is answered the status.
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/live",
    tag = "live",
    operation_id = "listen_to_community",
    params(
        CommunityInPath,
        ("heartbeat" = Option<bool>, Query, nullable = false,
            description = "`false` where the page is not one of the community's: the connection does not \
                make its user present"),
    ),
    responses(
        (status = 200, description = "An event stream", content_type = "text/event-stream", body = LiveMessage),
        (status = 101, description = "A `WebSocket`"),
        LiveProblems,
        Problems
    )
)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) fn live() {}

/// How many are at something in a community, each time it changes
///
/// As for the community, of which its user counts as present, too.
#[utoipa::path(
    get,
    path = "/communities/{community}/{scopes}/{scope}/visitors/live",
    tag = "live",
    operation_id = "listen",
    params(
        CommunityInPath,
        FinerInPath,
        ("heartbeat" = Option<bool>, Query, nullable = false,
            description = "`false` where the page is another: the connection does not make its user present"),
    ),
    responses(
        (status = 200, description = "An event stream", content_type = "text/event-stream", body = LiveMessage),
        (status = 101, description = "A `WebSocket`"),
        LiveProblems,
        Problems
    )
)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) fn finer_live() {}

/// How many are on the whole site, or in each of several communities, each time one changes
///
/// As for one community. Without `communities` of the whole site, where its user counts as present while the connection
/// is open. With `communities` no user counts as present by it; communities that do not exist or that the caller may not
/// see are named in an `unknown` message, and if none is left the answer is 404.
#[utoipa::path(
    get,
    path = "/visitors/live",
    tag = "live",
    operation_id = "listen_to_communities",
    params(
        ("communities" = Option<Vec<AskedKey>>, Query, style = Form, explode = false, nullable = false,
            description = "Community keys with commas between them; without it the whole site"),
        ("heartbeat" = Option<bool>, Query, nullable = false,
            description = "Without `communities`: `false` where the connection does not make its user present"),
    ),
    responses(
        (status = 200, description = "An event stream", content_type = "text/event-stream", body = LiveMessage),
        (status = 101, description = "A `WebSocket`"),
        LiveProblems,
        Problems
    )
)]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) fn live_of_many() {}

/// Answers a handshake of either protocol, for one community or many.
pub(super) async fn answer(
    shared: &Arc<ApiState>,
    path: &ApiPath,
    request: &Parts,
    caller: Caller,
) -> Result<Response<Body>, Problem> {
    let opened = shared.open_live(path, request, caller).await;
    opened.map_err(|Rejected(reason, problem)| {
        shared.metrics.live_refused[reason].inc();
        problem
    })
}

/// A refused connection: the metric's reason, and the answer.
struct Rejected(LiveRefusal, Problem);

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self(reason(&problem), problem)
    }
}

/// The metric's reason of a refusal.
pub(super) fn reason(problem: &Problem) -> LiveRefusal {
    match problem {
        Problem::Unauthorized | Problem::NotYetAuthorized => LiveRefusal::Session,
        Problem::UnknownKey | Problem::OutOfScope(_) | Problem::LimitedKey | Problem::TooOften(_) => {
            LiveRefusal::Key
        }
        Problem::NotFound => LiveRefusal::NotFound,
        Problem::ForeignOrigin => LiveRefusal::Origin,
        Problem::Unavailable => LiveRefusal::Unavailable,
        Problem::Internal => LiveRefusal::Error,
        _ => LiveRefusal::Request,
    }
}

impl From<Refused> for Rejected {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::LimitReached(LimitReached::Total) => {
                Self(LiveRefusal::LimitReached, Problem::Unavailable)
            }
            Refused::LimitReached(LimitReached::User) => Self(LiveRefusal::User, Problem::TooMany),
            Refused::LimitReached(LimitReached::Address) => Self(LiveRefusal::Address, Problem::TooMany),
            Refused::Draining | Refused::Unavailable => Self(LiveRefusal::Unavailable, Problem::Unavailable),
        }
    }
}

impl ApiState {
    /// Browsers send the origin of a handshake; one from another origin is refused (I6).
    fn check_origin(&self, headers: &HeaderMap, caller: &Caller) -> Result<(), Problem> {
        match origin::from(headers, caller, self.cors.allowed()) {
            RequestOrigin::Foreign => {
                self.warn_of_foreign(headers, caller);
                Err(Problem::ForeignOrigin)
            }
            RequestOrigin::Own | RequestOrigin::Unsaid => Ok(()),
        }
    }

    async fn open_live(
        self: &Arc<Self>,
        path: &ApiPath,
        request: &Parts,
        caller: Caller,
    ) -> Result<Response<Body>, Rejected> {
        let handshake = Handshake::read(&request.method, request.version, &request.headers)?;
        let query = request.uri.query();
        let of = match path.operation {
            Operation::LiveOfMany => query::live_of(query)?,
            _ => LiveOf::Communities(path.community.iter().cloned().collect()),
        };
        let is_page = match (&of, path.operation) {
            (LiveOf::Site(is_page), _) => *is_page,
            (LiveOf::Communities(_), Operation::LiveOfMany) => false,
            (LiveOf::Communities(_), _) => query::heartbeat(query)?,
        };
        let is_page = is_page && !self.intake.is_bots(&request.headers);
        let finer = match path.operation {
            Operation::FinerLive => Some(finer::asked(path)?.clone()),
            _ => None,
        };
        self.check_origin(&request.headers, &caller)?;
        let live = self.live.as_ref().ok_or(Problem::Unavailable)?;
        let (scopes, unknown) = match of {
            LiveOf::Site(_) => {
                self.gate.site(&caller)?;
                (vec![Scope::Site.into()], Vec::new())
            }
            LiveOf::Communities(asked) => self.visible_scopes(&caller, asked, finer).await?,
        };
        let session = caller.session_at((self.clock)()).is_some();
        let access_policy = self.access_policy(&caller);
        let owner = match caller.key {
            KeyFound::Key(key) => Some(Owner::Server(key)),
            KeyFound::None | KeyFound::Refused => {
                let visitor = caller.session.filter(|_| session).zip(caller.token);
                visitor.map(|(session, token)| Owner::Visitor(session, token))
            }
        };
        let wanted = ConnectionRequest {
            kind: handshake.kind,
            scopes,
            unknown,
            is_page,
            owner,
            address: caller.address,
            access_policy,
        };
        let connection = live.open(wanted, self.settings.timeout * 4 / 5).await?;
        Ok(opened(handshake, connection))
    }

    /// The communities asked for that the caller may see, or something `finer` in each, and those that the caller may not.
    async fn visible_scopes(
        &self,
        caller: &Caller,
        asked: Vec<String>,
        finer: Option<Finer>,
    ) -> Result<(Vec<AskedScope>, Vec<String>), Problem> {
        let admitted = self.visible(caller, asked.clone(), finer.as_ref()).await?;
        let (mut communities, mut unknown) = (Vec::new(), Vec::new());
        for (asked, community) in asked.into_iter().zip(admitted) {
            match community {
                Some(community) if communities.contains(&community) => {}
                Some(community) => communities.push(community),
                None => unknown.push(asked),
            }
        }
        if communities.is_empty() {
            return Err(Problem::NotFound);
        }
        let scopes = communities.into_iter().map(|community| AskedScope {
            scope: Scope::of(community.id, finer.clone()),
            slug: community.slug,
        });
        Ok((scopes.collect(), unknown))
    }

    /// Decides later what the caller may see.
    pub(super) fn access_policy(self: &Arc<Self>, caller: &Caller) -> Arc<dyn AccessPolicy> {
        Arc::new(LiveCaller {
            shared: Arc::clone(self),
            headers: if self.settings.access == Access::Backend && !caller.key.is_some() {
                backend_check::passed_on(&caller.headers)
            } else {
                HeaderMap::new()
            },
            token: caller.token.clone(),
            key: caller.key.clone(),
        })
    }
}

/// The connection with the head that starts it, including the framing of the body.
fn opened(handshake: Handshake, connection: Box<Connection>) -> Response<Body> {
    let mut response = Response::new(Body::Live(connection));
    let mut set = |name: HeaderName, value| response.headers_mut().insert(name, value);
    set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set(VARY, HeaderValue::from_static("Cookie, Accept"));
    match handshake.kind {
        Protocol::WebSocket => {
            set(UPGRADE, HeaderValue::from_static("websocket"));
            set(CONNECTION, HeaderValue::from_static("Upgrade"));
            if let Some(accept) = handshake.accept {
                set(SEC_WEBSOCKET_ACCEPT, accept);
            }
            if handshake.speaks_protocol {
                set(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
            }
        }
        Protocol::Events(framing) => {
            set(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            set(CONNECTION, HeaderValue::from_static("close"));
            if framing == Framing::Chunked {
                set(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            // Otherwise nginx buffers events.
            set(
                HeaderName::from_static("x-accel-buffering"),
                HeaderValue::from_static("no"),
            );
        }
    }
    if handshake.kind == Protocol::WebSocket {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    }
    response
}

/// An admitted caller, who may subscribe to more.
struct LiveCaller {
    shared: Arc<ApiState>,
    /// Headers for the backend check; empty if there is none.
    headers: HeaderMap,
    token: Option<SessionToken>,
    key: KeyFound,
}

impl LiveCaller {
    fn caller(&self, session: Option<Arc<BrowserSession>>) -> Caller {
        Caller {
            session,
            headers: self.headers.clone(),
            token: self.token.clone(),
            key: self.key.clone(),
            ..Caller::default()
        }
    }

    async fn in_time<T>(&self, checked: impl Future<Output = Result<T, Problem>>) -> Result<T, Denied> {
        match tokio::time::timeout(self.shared.settings.timeout, checked).await {
            Ok(Ok(checked)) => Ok(checked),
            Ok(Err(Problem::Unauthorized | Problem::UnknownKey)) => Err(Denied::NoSession),
            Ok(Err(_)) | Err(_) => Err(Denied::Unavailable),
        }
    }
}

#[async_trait]
impl AccessPolicy for LiveCaller {
    async fn admit(
        &self,
        session: Option<Arc<BrowserSession>>,
        asked: &[String],
    ) -> Result<Vec<Option<AskedCommunity>>, Denied> {
        let caller = self.caller(session);
        self.in_time(self.shared.visible(&caller, asked.to_vec(), None))
            .await
    }

    async fn still_admits(
        &self,
        session: Option<Arc<BrowserSession>>,
        scopes: &[Scope],
        open_page: Option<&Scope>,
    ) -> Result<Vec<bool>, Denied> {
        let caller = self.caller(session);
        let checked = self.shared.still_visible(&caller, scopes, open_page);
        self.in_time(checked).await
    }

    fn takes_ids(&self) -> bool {
        self.shared.settings.community_key != CommunityKey::Slug
    }

    fn needs_recheck(&self) -> bool {
        let access = self.shared.settings.access;
        !self.key.is_some() && matches!(access, Access::Backend | Access::Visited)
    }
}
