//! Live counts: pushes counts the moment they change, over `WebSocket`s and event streams (step 6, serve).
//!
//! - [`Connection`]: one client. Its own task (`serving`) waits for its client, its `subscriber`, its lookups
//!   (`checks`) and its `deadlines` at once, and ends it. `transport` is the protocol that it speaks: `websocket` or
//!   `event_stream`.
//! - `hub`: which connections subscribe to which community (`topic`: its latest count, and when to push it). Presence
//!   tells it of changes, whichever sidecar made them ([`Presence::subscribe`]).
//! - `registry`: all connections, their limits, and which belong to a session that has changed.
//! - `subscriber`: what hub and registry leave for a connection's task: the latest value for each of its subscriptions
//!   (`asked`), never a queue, and signals.
//!
//! An [`AccessPolicy`] decides what a caller may subscribe to; sockets and HTTP are the proxy's. Invariant: nothing here waits
//! for a client except that client's own task.

mod access_policy;
mod asked;
mod checks;
mod close;
mod connection;
mod credit;
mod deadlines;
mod event_stream;
mod hub;
pub(crate) mod message;
mod metered;
mod metrics;
mod registry;
mod serving;
mod session_changes;
mod state;
mod subscriber;
mod topic;
mod transport;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::auth::{ApiKeys, Authenticator};
use crate::config;
use crate::key_type::AppKeys;
use crate::presence::Presence;
use crate::presence::moment::Clock;
use crate::presence::worker::PresenceHandle;
use crate::retry::widely_jittered;
use crate::tasks::{Task, Tasks};

pub use access_policy::{AccessPolicy, Denied};
pub use asked::AskedScope;
pub use connection::{Connection, ConnectionRequest, MAX_COMMUNITIES, Owner};
pub use message::Framing;
pub use metrics::Metrics;
pub use registry::{LimitReached, Refused};
pub use transport::Protocol;

use close::Close;
use deadlines::{Times, bounded, validity};
use hub::Hub;
use registry::{ConnectionLimits, ConnectionRegistry};
use state::{Checks, LiveState};

/// All live connections. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<LiveState>);

/// Dependencies of [`Live`].
pub struct Parts {
    /// Source of changes and counts.
    pub presence: Arc<dyn Presence>,
    /// Sink of heartbeats; `None` where presence is not recorded.
    pub touches: Option<PresenceHandle>,
    /// Checks whether sessions are still valid.
    pub authenticator: Arc<Authenticator>,
    /// The keys of servers, where they have some.
    pub api_keys: Option<Arc<ApiKeys>>,
    /// The clock for the expiry of sessions.
    pub clock: Clock,
    /// Spelling of community ids.
    pub keys: AppKeys,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Runs the tasks that all connections share.
    pub tasks: Tasks,
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
            api_keys,
            clock,
            keys,
            metrics,
            tasks,
        } = parts;
        let hub = Hub::new(
            settings.min_interval,
            settings.resync_interval,
            keys.clone(),
            Arc::clone(&metrics),
        );
        let state = Arc::new(LiveState {
            settings: settings.clone(),
            times: times(settings, record, session),
            hub,
            registry: ConnectionRegistry::new(limits(settings, connections)),
            authenticator,
            presence: touches.filter(|_| settings.heartbeat),
            clock,
            keys,
            metrics,
            checks: Checks::default(),
        });
        keep_hub_current(&state, presence, &tasks);
        session_changes::watch(&state, &tasks);
        if let Some(api_keys) = api_keys {
            let registry = Arc::clone(&state.registry);
            api_keys.observe(move |_| registry.keys_changed());
        }
        Self(state)
    }

    /// An event stream for a client that gets no connection now: the reason, and when to reconnect, not much
    /// sooner than `wait` from now.
    pub fn not_now(&self, wait: Duration) -> String {
        let wait = self.0.settings.retry.max(wait);
        message::last_event(Close::Unavailable, widely_jittered(wait))
    }

    /// Opens a connection, once there is a snapshot of each of its communities, at most `limit` later. It counts
    /// from now on, and must be [run](Connection::run).
    ///
    /// # Errors
    /// Why not.
    pub async fn open(&self, wanted: ConnectionRequest, limit: Duration) -> Result<Box<Connection>, Refused> {
        Connection::open(&self.0, wanted, limit).await
    }

    /// Tells all connections to end, refuses new ones, and waits until all have ended, at most `limit`. Returns
    /// how many are left.
    pub async fn drain(&self, limit: Duration) -> usize {
        let registry = &self.0.registry;
        registry.drain();
        let _ = timeout(limit, registry.emptied()).await;
        registry.len()
    }
}

fn times(settings: &config::Live, record: &config::Record, session: &config::Session) -> Times {
    Times {
        ping_every: bounded(settings.ping_interval),
        pong_within: bounded(settings.pong_timeout),
        write_within: bounded(settings.write_timeout),
        // The period without change notifications. Mostly answered by the authenticator's cache, whose entries
        // live for `cache_ttl`: a change is noticed within that and a tenth.
        check_every: bounded(session.cache_ttl / 10),
        access_every: bounded(settings.access_check_interval),
        beat_every: bounded(record.window / 3),
        session_within: validity(session.cache_ttl),
        access_within: validity(settings.access_check_interval),
    }
}

/// Limits, where the process may have `connections` of any kind.
fn limits(settings: &config::Live, connections: usize) -> ConnectionLimits {
    ConnectionLimits {
        // The site comes first: long-lived connections must leave a quarter of all connections to requests.
        total: settings.max_connections.min(connections - connections / 4),
        per_user: settings.max_per_user.get(),
        per_address: settings.max_per_address.get(),
    }
}

/// Starts the tasks by which the hub hears of changes and reads counts.
fn keep_hub_current(state: &Arc<LiveState>, presence: Arc<dyn Presence>, tasks: &Tasks) {
    tasks.keep(Task::LiveFeed, {
        let (state, presence) = (Arc::clone(state), Arc::clone(&presence));
        let mut is_again = false;
        move || {
            let (state, presence) = (Arc::clone(&state), Arc::clone(&presence));
            let is_again = std::mem::replace(&mut is_again, true);
            async move { state.hub.listen(&*presence, is_again).await }
        }
    });
    tasks.keep(Task::LiveCounts, {
        let state = Arc::clone(state);
        let mut is_again = false;
        move || {
            let (state, presence) = (Arc::clone(&state), Arc::clone(&presence));
            let is_again = std::mem::replace(&mut is_again, true);
            async move { state.hub.read(&*presence, is_again).await }
        }
    });
}

#[cfg(test)]
mod tests;
