//! Live counts: pushes counts the moment they change, over `WebSocket`s and event streams (step 6, serve).
//!
//! Changes come from presence, whichever sidecar made them ([`Presence::subscribe`]). One `hub` turns them into at
//! most a few updates a second per community and leaves each in the subscribers' mailboxes; a connection's own
//! task (`connection`, `websocket`, `events`) sends what is in its mailbox. One `keeper` pings, checks and counts
//! heartbeats for all. So a connection costs a socket, a small task and a mailbox, and no timer.
//!
//! | pure | |
//! |---|---|
//! | `topic` | which count is newer, and when to send it |
//! | `slots` | the latest value per subscriber |
//! | `schedule` | when a connection is pinged, checked, given up |
//! | `message` `close` | the messages, and why connections end |
//! | `credit` | how much may be unacknowledged |
//!
//! A [`Door`] decides what a caller may subscribe to; sockets and HTTP are the proxy's. Invariant: nothing here
//! waits for a client except that client's own task.

mod caps;
mod close;
mod connection;
mod credit;
mod door;
mod events;
mod hub;
mod keeper;
mod mailbox;
pub(crate) mod message;
mod metered;
mod metrics;
mod schedule;
mod seats;
mod slots;
mod topic;
mod websocket;

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::auth::Authenticator;
use crate::browser_session::BrowserSession;
use crate::config;
use crate::ids::{CommunityId, SessionToken};
use crate::key_type::AppKeys;
use crate::presence::Presence;
use crate::presence::moment::Clock;
use crate::presence::worker::PresenceHandle;
use crate::tasks::{Task, Tasks};

pub use caps::Full;
pub use connection::Connection;
pub use door::{Denied, Door};
pub use message::Framing;
pub use metrics::Metrics;

use caps::{Caps, Places};
use close::Close;
use hub::Hub;
use mailbox::Mailbox;
use metrics::KindLabel;
use schedule::{Times, patience, ticks, ticks_within};
use seats::{Owner, Seat, Seats, Waits};

/// Most communities on one connection.
pub const MAX_COMMUNITIES: usize = 100;

/// All live connections. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    settings: config::Live,
    hub: Hub,
    seats: Seats,
    places: Places,
    authenticator: Arc<Authenticator>,
    presence: Option<PresenceHandle>,
    clock: Clock,
    keys: AppKeys,
    metrics: Arc<Metrics>,
}

/// Dependencies of [`Live`].
pub struct Parts {
    /// Source of changes and counts.
    pub presence: Arc<dyn Presence>,
    /// Sink of heartbeats; `None` where presence is not recorded.
    pub touches: Option<PresenceHandle>,
    /// Checks whether sessions are still valid.
    pub authenticator: Arc<Authenticator>,
    /// The clock for the expiry of sessions.
    pub clock: Clock,
    /// Spelling of community ids.
    pub keys: AppKeys,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Runs the tasks that all connections share.
    pub tasks: Tasks,
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `WebSocket`.
    WebSocket,
    /// Server-Sent Events.
    Events(Framing),
}

impl Kind {
    /// The metric label.
    fn label(self) -> KindLabel {
        match self {
            Self::WebSocket => KindLabel::WebSocket,
            Self::Events(_) => KindLabel::Events,
        }
    }
}

/// A request for a live connection by a caller who may have it.
pub struct Wanted {
    /// The protocol.
    pub kind: Kind,
    /// The communities; not empty, each once.
    pub communities: Vec<CommunityId>,
    /// Communities asked for that do not exist or that the caller may not see.
    pub unknown: Vec<String>,
    /// Whether the connection belongs to a page of its one community, so that it is a heartbeat (P11).
    pub is_page: bool,
    /// The visitor: session and token.
    pub owner: Option<(Arc<BrowserSession>, SessionToken)>,
    /// The client IP.
    pub address: Option<IpAddr>,
    /// Decides what else the caller may subscribe to.
    pub door: Arc<dyn Door>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A limit is reached.
    Full(Full),
    /// The process is ending.
    Draining,
    /// No snapshot in time: presence is away.
    Unavailable,
}

impl Live {
    /// Starts the tasks that all connections share.
    pub fn start(
        settings: &config::Live,
        record: &config::Record,
        session: &config::Session,
        connections: usize,
        parts: Parts,
    ) -> Self {
        let Parts {
            presence,
            touches,
            authenticator,
            clock,
            keys,
            metrics,
            tasks,
        } = parts;
        let times = Times {
            ping_every: ticks(settings.ping_interval),
            pong_within: ticks_within(settings.pong_timeout),
            write_within: ticks_within(settings.write_timeout),
            // The period without change notifications. Mostly answered by the authenticator's cache, whose entries
            // live for `cache_ttl`: a change is noticed within that and a tenth.
            check_every: ticks(session.cache_ttl / 10),
            access_every: ticks(settings.access_check_interval),
            beat_every: ticks(record.window / 3),
            session_within: patience(session.cache_ttl),
            access_within: patience(settings.access_check_interval),
        };
        let caps = Caps {
            // The site comes first: long-lived connections must leave a quarter of all connections to requests.
            total: settings.max_connections.min(connections - connections / 4),
            per_user: settings.max_per_user.get(),
            per_address: settings.max_per_address.get(),
        };
        let live = Arc::new(Inner {
            hub: Hub::new(
                settings.min_interval,
                settings.resync_interval,
                keys.clone(),
                Arc::clone(&metrics),
            ),
            seats: Seats::new(times),
            places: Places::new(caps),
            presence: touches.filter(|_| settings.heartbeat),
            settings: settings.clone(),
            authenticator,
            clock,
            keys,
            metrics,
        });
        tasks.keep(Task::LiveFeed, {
            let (live, presence) = (Arc::clone(&live), Arc::clone(&presence));
            let mut is_again = false;
            move || {
                let (live, presence) = (Arc::clone(&live), Arc::clone(&presence));
                let is_again = std::mem::replace(&mut is_again, true);
                async move { live.hub.listen(&*presence, is_again).await }
            }
        });
        tasks.keep(Task::LiveCounts, {
            let live = Arc::clone(&live);
            let mut is_again = false;
            move || {
                let (live, presence) = (Arc::clone(&live), Arc::clone(&presence));
                let is_again = std::mem::replace(&mut is_again, true);
                async move { live.hub.read(&*presence, is_again).await }
            }
        });
        keeper::start(&live, &tasks);
        Self(live)
    }

    /// An event stream for a client that gets no connection now: the reason, and when to reconnect, not much
    /// sooner than `wait` from now.
    pub fn not_now(&self, wait: Duration) -> String {
        let wait = self.0.settings.retry.max(wait);
        message::last_event(Close::Unavailable, jittered(wait))
    }

    /// Opens a connection, once there is a snapshot of each of its communities, at most `limit` later. It counts
    /// from now on, and must be [run](Connection::run).
    ///
    /// # Errors
    /// Why not.
    pub async fn open(&self, wanted: Wanted, limit: Duration) -> Result<Connection, Refused> {
        let live = &self.0;
        let user = wanted.owner.as_ref().map(|(session, _)| session.user_id.clone());
        let place = live.places.take(user, wanted.address).map_err(Refused::Full)?;
        let mailbox = Arc::new(Mailbox::default());
        mailbox.with_slots(|slots| {
            for community in &wanted.communities {
                slots.add(community.clone());
            }
        });
        let page = wanted.communities.first().filter(|_| wanted.is_page).cloned();
        let owner = wanted.owner.map(|(session, token)| Owner { session, token });
        let seat = Seat {
            kind: wanted.kind,
            mailbox: Arc::clone(&mailbox),
            owner,
            door: Arc::clone(&wanted.door),
            page,
            schedule: live.seats.schedule(rand::random_range(0.0..1.0)),
            waits: Waits::default(),
            verified: (live.seats.tick(), live.seats.tick()),
        };
        let id = live.seats.add(seat).ok_or(Refused::Draining)?;
        let connection = Connection::new(
            Arc::clone(live),
            id,
            wanted.kind,
            mailbox,
            wanted.unknown,
            wanted.door,
            place,
        );
        connection.listen_to(&wanted.communities);
        let complete = poll_fn(|context| connection.mailbox.poll_complete(context));
        timeout(limit, complete).await.map_err(|_| Refused::Unavailable)?;
        Ok(connection)
    }

    /// Tells all connections to end, refuses new ones, and waits until all have ended, at most `limit`. Returns
    /// how many are left.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.0.seats.drain();
        let _ = timeout(limit, self.0.seats.emptied()).await;
        self.0.seats.len()
    }
}

impl Inner {
    /// How long a client should wait before it reconnects.
    fn retry_after(&self) -> Duration {
        jittered(self.settings.retry)
    }
}

/// Jittered, so that clients do not all reconnect at once (L2).
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..1.5))
}

#[cfg(test)]
mod tests;
