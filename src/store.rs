//! The app's tables behind one small interface: what the sidecar reads and writes there, and nothing else.
//!
//! Two implementations, Postgres and SQLite, pass one contract test suite. Table and column names come from
//! configuration, column types from the live schema at start (`schema`). SQL lives here only.

pub mod postgres;
pub mod schema;
pub mod sqlite;

use std::net::IpAddr;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::auth::BrowserSession;
use crate::ids::{CommunityId, SessionToken, UserId};
use crate::writer::batch::Batch;

/// The app's tables.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The session that a token belongs to, valid or not; `None` when there is no such row. The caller
    /// decides with [`BrowserSession::is_valid_at`].
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError>;

    /// The community with this slug.
    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError>;

    /// Whether a community with this id exists; false also for text that is not of the key's type.
    async fn community_exists(&self, community: &CommunityId) -> Result<bool, StoreError>;

    /// Writes one batch in one transaction, in fixed order: events, `pages_visited`, `last_active`.
    async fn apply(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Profiles with each user's latest valid session, in one query; users that no longer exist are absent.
    /// Any order.
    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError>;

    /// Statistics of one community over the half-open window `[from, to)`.
    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError>;

    /// A trivial round trip.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Ends all connections.
    async fn close(&self);
}

/// What the visitor list shows of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitorRow {
    /// The user.
    pub user_id: UserId,
    /// Name.
    pub username: String,
    /// Picture path as stored; `None` when null or empty.
    pub avatar: Option<String>,
    /// Start of the user's latest valid session, where there is one.
    pub started_at: Option<DateTime<Utc>>,
    /// That session's page counter.
    pub pages_visited: Option<i64>,
}

/// Statistics of one community over one window. Each number is defined here and computed in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Distinct users with a page view in the community in the window (never a sum of daily uniques).
    pub total_visitors: i64,
    /// Page views in the community in the window.
    pub page_views: i64,
    /// Mean length, in seconds, of *site* sessions that started in the window, have ended, and whose user
    /// viewed a page of the community in the window: one row per session, open sessions left out. `None`
    /// when there is none.
    pub avg_session_duration: Option<f64>,
    /// How many sessions that mean is over.
    pub ended_sessions: i64,
}

/// What can go wrong at the app's database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, timed out, or refused for now: worth trying again.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A statement was refused for good, for example by a constraint.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// A row does not have the expected form.
    #[error("unexpected value in {0}")]
    Unexpected(String),
}

/// Address text as both databases take it: IPv4-mapped IPv6 as IPv4, no zone (W4).
pub fn ip_text(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}
