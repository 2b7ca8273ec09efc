//! What all live connections share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::deadlines::Times;
use super::hub::Hub;
use super::metrics::Metrics;
use super::registry::ConnectionRegistry;
use crate::auth::Authenticator;
use crate::config;
use crate::key_type::AppKeys;
use crate::presence::moment::Clock;
use crate::presence::worker::PresenceHandle;
use crate::retry::widely_jittered;

/// See the fields.
pub(super) struct LiveState {
    pub(super) settings: config::Live,
    pub(super) times: Times,
    pub(super) hub: Hub,
    pub(super) registry: Arc<ConnectionRegistry>,
    pub(super) authenticator: Arc<Authenticator>,
    /// Where heartbeats go, if connections are heartbeats.
    pub(super) presence: Option<PresenceHandle>,
    pub(super) clock: Clock,
    pub(super) keys: AppKeys,
    pub(super) metrics: Arc<Metrics>,
    pub(super) checks: Checks,
}

/// Limits of the checks at a time. A periodic check never delays that of a session that has changed.
pub(super) struct Checks {
    /// Of sessions that have changed. Most sessions are in the authenticator's cache, the others share a statement.
    pub(super) changed: Semaphore,
    /// Of sessions, periodically.
    pub(super) periodic: Semaphore,
    /// Of access.
    pub(super) access: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            changed: Semaphore::new(64),
            periodic: Semaphore::new(64),
            access: Arc::new(Semaphore::new(12)),
        }
    }
}

impl LiveState {
    /// How long a client should wait before it reconnects; jittered, so that clients do not all do so at once (L2).
    pub(super) fn retry_after(&self) -> Duration {
        widely_jittered(self.settings.retry)
    }
}
