//! Step 5a, record: who is here now.
//!
//! A user is present in a community for `window` after the last touch. One score per member (P1), one
//! member per user (P12). Two implementations, in memory and in Redis, pass one contract test suite.

pub mod keys;
pub mod memory;
pub mod redis;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::ids::{CommunityId, UserId};

/// Who is here now, behind one small interface.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Users were just seen in a community. One call per community; each user counts once.
    async fn touch(&self, community: &CommunityId, users: &[UserId]) -> Result<Count, PresenceError>;

    /// How many users are present in each community, in the order asked. Never writes (P2).
    async fn counts(&self, communities: &[CommunityId]) -> Result<Vec<Count>, PresenceError>;

    /// One page of the users present, latest first, ties by user id descending. `after` is the last entry of
    /// the page before. Users touched while a client pages may show on an earlier page than the client is
    /// on; nobody who stays untouched is left out or shown twice. Never writes (P2).
    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Vec<Seen>, PresenceError>;

    /// Forgets users whose window has passed, and returns the counts that changed by it.
    async fn sweep(&self) -> Result<Vec<CountChange>, PresenceError>;

    /// A trivial round trip.
    async fn ping(&self) -> Result<(), PresenceError>;
}

/// An absolute count with its place in the community's history (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Users present.
    pub current: u64,
    /// Grows with each change of the count; 0 for a community never touched.
    pub seq: u64,
    /// When this was true, by the presence store's clock (P3).
    pub as_of: DateTime<Utc>,
}

/// A count that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountChange {
    /// Where.
    pub community: CommunityId,
    /// The new count.
    pub count: Count,
}

/// One user present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// Last touch, milliseconds precision.
    pub last_seen: DateTime<Utc>,
}

/// What can go wrong with presence.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Not reachable or too slow.
    #[error("presence is not available")]
    Unavailable(#[source] ::redis::RedisError),
    /// The store answered something that is not of the expected form.
    #[error("unexpected answer from the presence store: {0}")]
    Unexpected(String),
}
