//! Step 6, live: counts pushed the moment they change, over `WebSocket`s and event streams.
//!
//! Changes come from presence, whoever made them ([`Presence::subscribe`]). One `hub` turns them into at most a few
//! tellings a second per community and leaves each in the mailboxes of those who listen; a connection's own
//! task (`connection`, `websocket`, `events`) sends what it finds there. One `keeper` pings, checks and counts
//! heartbeats for all. So a connection costs a socket, a small task and a mailbox, and no timer.
//!
//! | pure | |
//! |---|---|
//! | `topic` | which count is newer, and when to tell it |
//! | `slots` | the latest value per subscriber |
//! | `schedule` | when a connection is pinged, checked, given up |
//! | `message` `close` | what is said, and why connections end |
//! | [`bucket`] `credit` | how often and how much, and how much without an answer |
//!
//! Who may listen is decided by a [`Door`]; sockets and HTTP are the proxy's. Invariant: nothing here waits for
//! a client except that client's own task.

pub mod bucket;
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

use crate::auth::{Authenticator, BrowserSession};
use crate::config;
use crate::ids::{CommunityId, SessionToken};
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::presence::memory::Clock;
use crate::presence::worker::PresenceHandle;
use crate::tasks::{Task, Tasks};

pub use caps::Full;
pub(crate) use caps::network;
pub use close::ENDS;
pub use connection::Connection;
pub use door::{Denied, Door};
pub use hub::RESYNCS;
pub use message::Framing;

use caps::{Caps, Places};
use close::Close;
use hub::Hub;
use mailbox::Mailbox;
use schedule::{Times, patience, ticks, ticks_within};
use seats::{Owner, Seat, Seats, Waits};

/// Communities on one connection.
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
    metrics: Arc<Metrics>,
}

/// What [`Live`] works with.
pub struct Parts {
    /// Where changes and counts come from.
    pub presence: Arc<dyn Presence>,
    /// Where heartbeats go; `None` where presence is not recorded.
    pub touches: Option<PresenceHandle>,
    /// Whether sessions still hold.
    pub authenticator: Arc<Authenticator>,
    /// By which sessions expire.
    pub clock: Clock,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where the tasks are started that all connections share.
    pub tasks: Tasks,
}

/// How a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `WebSocket`.
    WebSocket,
    /// Server-Sent Events.
    Events(Framing),
}

impl Kind {
    /// The metric label.
    fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Events(_) => "events",
        }
    }
}

/// Values of the `kind` label.
pub const KINDS: [&str; 2] = ["websocket", "events"];

/// What somebody who may listen wants.
pub struct Wanted {
    /// How.
    pub kind: Kind,
    /// To what; not empty, each once.
    pub communities: Vec<CommunityId>,
    /// What was asked for besides, and is not there for this caller.
    pub unknown: Vec<String>,
    /// Whether the connection belongs to a page of its one community, so that it is a heartbeat (P11).
    pub is_page: bool,
    /// Whose it is: the session and its token.
    pub owner: Option<(Arc<BrowserSession>, SessionToken)>,
    /// Where from.
    pub address: Option<IpAddr>,
    /// What else it may listen to.
    pub door: Arc<dyn Door>,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many.
    Full(Full),
    /// The process is ending.
    Draining,
    /// No snapshot in time: presence is away.
    Unavailable,
}

impl Live {
    /// Starts what all connections share.
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
            metrics,
            tasks,
        } = parts;
        let times = Times {
            ping_every: ticks(settings.ping_interval),
            pong_within: ticks_within(settings.pong_timeout),
            write_within: ticks_within(settings.write_timeout),
            // Where nobody tells of sessions that end. Mostly answered by the authenticator's cache, whose
            // entries live for `cache_ttl`: noticed within that and a tenth.
            check_every: ticks(session.cache_ttl / 10),
            access_every: ticks(settings.access_check_interval),
            beat_every: ticks(record.window / 3),
            session_within: patience(session.cache_ttl),
            access_within: patience(settings.access_check_interval),
        };
        let caps = Caps {
            // The site comes first: connections that stay must not use up those that come and go.
            total: settings.max_connections.min(connections - connections / 4),
            per_user: settings.max_per_user.get(),
            per_address: settings.max_per_address.get(),
        };
        let live = Arc::new(Inner {
            hub: Hub::new(
                settings.min_interval,
                settings.resync_interval,
                Arc::clone(&metrics),
            ),
            seats: Seats::new(times),
            places: Places::new(caps),
            presence: touches.filter(|_| settings.heartbeat),
            settings: settings.clone(),
            authenticator,
            clock,
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

    /// An event stream for whoever gets no connection now: why, and when to come back, not much sooner than `wait`
    /// from now.
    pub fn not_now(&self, wait: Duration) -> String {
        let wait = self.0.settings.retry.max(wait);
        message::last_event(Close::Unavailable, jittered(wait))
    }

    /// A new connection, once there is a snapshot of each of its communities, at most `limit` later. It counts
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

    /// Tells all connections to go, lets no more in, and waits until they have gone, at most `limit`. How many
    /// are left.
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

/// Each another time (L2).
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.5..1.5))
}

#[cfg(test)]
mod tests;
