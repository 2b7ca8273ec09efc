//! One live connection: opened when there is a snapshot of each community, then run on its socket to its end.

use std::collections::HashSet;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use super::access_policy::AccessPolicy;
use super::asked::AskedScope;
use super::checks::{self, FoundCommunities};
use super::close::{Close, End};
use super::deadlines::{Beginning, Deadlines};
use super::event_stream::EventStream;
use super::message;
use super::registry::{Refused, Registration};
use super::state::LiveState;
use super::subscriber::Subscriber;
use super::transport::{Outgoing, Protocol, Socket, Transport};
use super::websocket::WebSocket;
use crate::auth::ServerKey;
use crate::browser_session::BrowserSession;
use crate::ids::{Finer, SessionToken};
use crate::metrics::IntGauge;
use crate::presence::Scope;

/// Most communities on one connection, each by each of its names.
pub const MAX_COMMUNITIES: usize = 100;

/// A request for a live connection by a caller who may have it.
pub struct ConnectionRequest {
    /// The protocol.
    pub kind: Protocol,
    /// What is counted; not empty, each once by each of its names.
    pub scopes: Vec<AskedScope>,
    /// Communities asked for that do not exist or that the caller may not see.
    pub unknown: Vec<String>,
    /// Whether the connection belongs to a page of its one scope, so that it is a heartbeat (P11).
    pub is_page: bool,
    /// Whose it is; `None` where anybody may have it.
    pub owner: Option<Owner>,
    /// The client IP.
    pub address: Option<IpAddr>,
    /// Decides what else the caller may subscribe to.
    pub access_policy: Arc<dyn AccessPolicy>,
}

/// An admitted connection. Dropping it ends it. Boxed, as it is passed on several times before it is run.
pub struct Connection {
    pub(super) state: Arc<LiveState>,
    registration: Registration,
    kind: Protocol,
    /// When session and access were verified.
    opened: Instant,
    pub(super) owner: Option<Owner>,
    /// What the page that the connection belongs to is of, if it is a heartbeat (P11).
    pub(super) page: Option<Scope>,
    /// Sent once, at the beginning.
    unknown: Vec<String>,
    pub(super) access_policy: Arc<dyn AccessPolicy>,
    /// How it ended; `None` if it was never run.
    end: Option<End>,
}

/// Whose a connection is: it ends with what they have shown (I5).
pub enum Owner {
    /// A visitor, and the token, which is given to the authenticator only.
    Visitor(Arc<BrowserSession>, SessionToken),
    /// A server, which is present nowhere.
    Server(ServerKey),
}

impl Owner {
    /// The visitor's session, as last checked.
    pub(super) fn session(&self) -> Option<&Arc<BrowserSession>> {
        match self {
            Self::Visitor(session, _) => Some(session),
            Self::Server(_) => None,
        }
    }
}

impl Connection {
    /// Registers the connection and subscribes it; waits at most `limit` until there is a snapshot of each scope.
    pub(super) async fn open(
        state: &Arc<LiveState>,
        wanted: ConnectionRequest,
        limit: Duration,
    ) -> Result<Box<Self>, Refused> {
        let owner = wanted.owner;
        let session = owner.as_ref().and_then(Owner::session);
        let registration = state
            .registry
            .register(session.map(|session| &**session), wanted.address)?;
        if let Some(Owner::Server(_)) = owner {
            registration.is_a_servers();
        }
        let connection = Box::new(Self {
            state: Arc::clone(state),
            registration,
            kind: wanted.kind,
            opened: Instant::now(),
            owner,
            page: wanted
                .scopes
                .first()
                .filter(|_| wanted.is_page)
                .map(|page| page.scope.clone()),
            unknown: wanted.unknown,
            access_policy: wanted.access_policy,
            end: None,
        });
        for asked in &wanted.scopes {
            state.hub.subscribe(connection.subscriber(), asked);
        }
        let complete = poll_fn(|context| connection.subscriber().poll_complete(context));
        timeout(limit, complete).await.map_err(|_| Refused::Unavailable)?;
        Ok(connection)
    }

    /// Its protocol.
    pub fn kind(&self) -> Protocol {
        self.kind
    }

    /// Writes `head`, the rest of the response's head, to the socket, and serves the connection until either side
    /// ends it. A `WebSocket`'s head must be written as a whole within the time for a write; that of an event stream is
    /// written with what follows. `early` was read from the socket already.
    #[expect(private_bounds, reason = "a short name for four bounds")]
    pub async fn run<S: Socket>(mut self: Box<Self>, mut socket: S, head: Bytes, early: Vec<u8>) {
        self.gauge().inc();
        // The default until the end is known.
        self.end = Some(End::Gone);
        let end = match self.kind {
            Protocol::WebSocket => {
                match timeout(self.state.times.write_within, socket.write_all(&head)).await {
                    Ok(Ok(())) => {
                        let mut socket = WebSocket::new(socket, early).await;
                        self.serve(&mut socket).await
                    }
                    Ok(Err(_)) => End::Gone,
                    Err(_) => End::Stuck,
                }
            }
            Protocol::Events(framing) => {
                let mut stream = EventStream::new(socket, framing, head, self.state.retry_after());
                self.serve(&mut stream).await
            }
        };
        self.end = Some(end);
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        let beginning = Beginning {
            now: Instant::now(),
            verified: self.opened,
            expires_in: self.owner.as_ref().map(|owner| match owner {
                Owner::Visitor(session, _) => self.expires_in(session),
                Owner::Server(key) => key.lasts((self.state.clock)()).unwrap_or_default(),
            }),
            checks_access: self.access_policy.needs_recheck(),
            must_answer: self.kind == Protocol::WebSocket,
            spread: rand::random_range(0.0..1.0),
        };
        Deadlines::new(&self.state.times, beginning)
    }

    /// For how much longer a session lasts.
    pub(super) fn expires_in(&self, session: &BrowserSession) -> Duration {
        let left = session.expires_at - (self.state.clock)();
        left.to_std().unwrap_or_default()
    }

    /// The session of its visitor, as last checked.
    pub(super) fn session(&self) -> Option<Arc<BrowserSession>> {
        self.owner.as_ref().and_then(Owner::session).cloned()
    }

    pub(super) fn subscriber(&self) -> &Arc<Subscriber> {
        &self.registration.subscriber
    }

    /// Queues the snapshots, and the unknown communities; returns the number of values.
    pub(super) fn greet(&mut self, transport: &mut impl Transport) -> Result<u64, End> {
        let mut values = 0;
        while let Some(update) = self.subscriber().take() {
            transport.send(Outgoing::Value(&update))?;
            values += 1;
        }
        let unknown = std::mem::take(&mut self.unknown);
        self.tell_unknown(transport, unknown.iter().map(|asked| (asked.as_str(), None)))?;
        Ok(values)
    }

    /// Queues that these communities, or something finer in them, do not exist, or that the client may not see them.
    pub(super) fn tell_unknown<'a>(
        &self,
        transport: &mut impl Transport,
        unknown: impl Iterator<Item = (&'a str, Option<&'a Finer>)>,
    ) -> Result<(), End> {
        for (asked, finer) in unknown {
            let message = message::unknown(asked, finer, &self.state.keys);
            transport.send(Outgoing::Json(message))?;
        }
        Ok(())
    }

    /// Looks up communities that the client subscribes to; those that it has already by the same name are left out.
    pub(super) fn subscribe(
        &self,
        asked: Vec<String>,
    ) -> Result<impl Future<Output = Result<FoundCommunities, Close>> + use<>, Close> {
        let subscriptions = self.subscriber().subscriptions();
        let before = subscriptions.len();
        // Each id once, whatever the spelling.
        let mut unknown = HashSet::new();
        let mut known: HashSet<AskedScope> = subscriptions.into_iter().collect();
        let is_new = |asked: &String| match self.community(asked) {
            Some(named) => known.insert(named),
            None => unknown.insert(asked.clone()),
        };
        let asked: Vec<String> = asked.into_iter().filter(is_new).collect();
        if before + asked.len() > MAX_COMMUNITIES {
            return Err(Close::TooMany);
        }
        let session = self.session();
        Ok(checks::request(Arc::clone(&self.access_policy), session, asked))
    }

    /// Subscribes to communities that were looked up; returns those that there are not.
    pub(super) fn subscribed(&self, found: FoundCommunities) -> Result<Vec<String>, Close> {
        let mut unknown = Vec::new();
        for (asked, community) in found {
            match community {
                None => unknown.push(asked),
                Some(community) => self.state.hub.subscribe(self.subscriber(), &community.into()),
            }
        }
        if !unknown.is_empty() && self.subscriber().is_idle() {
            return Err(Close::Unknown);
        }
        Ok(unknown)
    }

    /// The community that the client names, by that name: a subscribed one by its slug, or else, where it may, by its id, in
    /// any of its spellings.
    pub(super) fn community(&self, named: &str) -> Option<AskedScope> {
        let mut subscriptions = self.subscriber().subscriptions().into_iter();
        let by_slug = subscriptions
            .find(|asked| matches!(asked.scope, Scope::Community(_)) && asked.slug.as_deref() == Some(named));
        by_slug.or_else(|| {
            let takes_ids = self.access_policy.takes_ids();
            takes_ids.then(|| Scope::Community(self.state.keys.community(named)).into())
        })
    }

    /// Unsubscribes from a community by one of its names, but not from what is finer in it.
    pub(super) fn unsubscribe(&mut self, asked: &AskedScope) {
        self.state.hub.unsubscribe(self.subscriber(), asked);
        if self.page.as_ref() == Some(&asked.scope) && !self.subscriber().has(&asked.scope) {
            self.page = None;
        }
    }

    /// Unsubscribes from these scopes; returns what the client had asked for.
    pub(super) fn lose(&mut self, scopes: &[Scope]) -> Vec<AskedScope> {
        let mut lost = self.subscriber().subscriptions();
        lost.retain(|asked| scopes.contains(&asked.scope));
        for asked in &lost {
            self.unsubscribe(asked);
        }
        lost
    }

    /// Renews the session. A token that now belongs to another session ends the connection.
    pub(super) fn renew(&mut self, session: Arc<BrowserSession>) -> Result<(), Close> {
        let Some(Owner::Visitor(before, _)) = &mut self.owner else {
            return Ok(());
        };
        if (&before.id, &before.user_id) != (&session.id, &session.user_id) {
            return Err(Close::SessionEnded);
        }
        *before = session;
        Ok(())
    }

    /// Counts sent values.
    pub(super) fn count_sent(&self, values: u64) {
        self.state.metrics.messages[self.kind.label()].inc_by(values);
    }

    fn gauge(&self) -> &IntGauge {
        &self.state.metrics.connections[self.kind.label()]
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for asked in self.subscriber().subscriptions() {
            self.state.hub.unsubscribe(self.subscriber(), &asked);
        }
        if let Some(end) = self.end {
            self.gauge().dec();
            self.state.metrics.closed[end.label()].inc();
        }
    }
}
