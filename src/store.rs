//! The app's tables behind one small interface: what the sidecar reads and writes there, and nothing else.
//!
//! One implementation, with statements for Postgres and for SQLite, which pass one contract test suite. Table and
//! column names come from configuration, column types from the live schema at start (`schema`). SQL is written
//! here only.

pub mod catalogue;
mod connections;
mod counter_sql;
mod counters;
mod database_state;
mod django;
mod error;
mod event_indexes;
mod event_types;
mod examination;
#[cfg(test)]
pub(crate) mod fake;
mod grants;
mod inspection;
mod jwt_sessions;
mod ledger;
mod migrate;
mod open;
mod operations;
mod past_visitors;
mod postgres;
mod rows;
pub mod schema;
mod session_remarks;
mod session_rows;
mod sql;
mod sqlite;
mod url;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::batch::{Batch, BatchKey};
use crate::browser_session::{BrowserSession, Unusable, Visibility};
use crate::ids::{AccountId, CommunityId, SessionToken, UserId};
use crate::key_type::{AppKeys, KeyTypes};
use crate::routes::PAGE_VIEW;

pub use counters::{
    Comparison, CounterComparisons, CounterStore, Folded, Lease, Omission, PresentComparison, Published,
    Totals,
};
pub use database_state::DatabaseState;
pub use error::{Class, StoreError};
pub use event_types::TypeFault;
pub use examination::{Examination, examine};
pub use grants::LackingRights;
pub use inspection::{Inspection, types_of};
pub use ledger::LedgerProblem;
pub use migrate::{Incomplete, MigrateError, Step, migrate};
pub use open::{
    GrantsError, grants, ignored_parameters, open, open_counters, open_counters_sharing, open_counting,
    place, read_catalogue, session_listener,
};
pub use past_visitors::{GAP, MOST_PAGES, PastAsked, PastPlace, PastSort, PastVisitor, PastWindow};
pub use postgres::{Notification, SessionListener};
pub use schema::SchemaProblem;
pub use url::OpenError;

/// The app's tables.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A handle on the types of the app's keys; empty until the live schema was read.
    fn keys(&self) -> AppKeys;

    /// The types of the app's keys; reads the live schema if that has not been done.
    async fn key_types(&self) -> Result<KeyTypes, StoreError>;

    /// The sessions that these tokens belong to, valid or not, in one query (two for Django's sessions of accounts);
    /// tokens without a row are absent, a row that lets nobody in says why, and a row that cannot be read is an error of
    /// its own. The caller decides with [`BrowserSession::is_valid_at`].
    ///
    /// Tokens of JWTs have another query: the row has the primary key that the JWT names, and is of the user whom it names;
    /// or, where it names no session, there is no row but the user's profile.
    async fn browser_sessions(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError>;

    /// The same, one query per token if a single row made the query for all fail.
    async fn browser_sessions_apart(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
        match (self.browser_sessions(tokens).await, tokens) {
            (Err(error @ (StoreError::Unexpected(_) | StoreError::Refused(_))), [token]) => {
                return Ok(SessionsFound::from([(token.clone(), Err(error))]));
            }
            (Err(StoreError::Unexpected(_) | StoreError::Refused(_)), _) => {}
            (outcome, _) => return outcome,
        }
        self.each_browser_session(tokens).await
    }

    /// The same, one query per token.
    async fn each_browser_session(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
        let mut found = SessionsFound::new();
        for token in tokens {
            match self.browser_sessions(std::slice::from_ref(token)).await {
                Ok(one) => found.extend(one),
                Err(error @ StoreError::Unavailable(_)) => return Err(error),
                Err(error) => drop(found.insert(token.clone(), Err(error))),
            }
        }
        Ok(found)
    }

    /// The session of one token.
    async fn browser_session(&self, token: &SessionToken) -> Result<Option<BrowserSession>, StoreError> {
        let mut found = self.browser_sessions(std::slice::from_ref(token)).await?;
        Ok(found.remove(token).transpose()?.and_then(Result::ok))
    }

    /// The users of these accounts, in one query; accounts without a profile are absent. Where
    /// `schema.profile.columns.account` is not set, an account is its own user, without a query: only ids that cannot be
    /// keys are then absent.
    async fn users_of_accounts(
        &self,
        accounts: &[AccountId],
    ) -> Result<HashMap<AccountId, UserId>, StoreError>;

    /// The community with this slug.
    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError>;

    /// The community of a row of another table, by the name of its lookup and the row's key; none also for text that
    /// cannot be such a key.
    async fn community_by_lookup(&self, lookup: &str, key: &str) -> Result<Option<CommunityId>, StoreError>;

    /// The slug of a community; none where it has none.
    async fn community_slug(&self, community: &CommunityId) -> Result<Option<String>, StoreError>;

    /// The community with this key, in the spelling of its row where the database takes several for equal; none also
    /// for text that is not a key in its one form (`042`, a `uuid` in capitals).
    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError>;

    /// Writes one batch in one transaction, in fixed order: ledger, events, `pages_visited`, `last_active`.
    /// Parts that the ledger has already are left out, so a batch may be tried again after any failure, in the
    /// same parts: if the answer to its COMMIT was lost, it is still written once (W6). After
    /// [`StoreError::Refused`] and [`StoreError::Undone`] nothing of it is written, and no earlier try of it is
    /// under way. While the live schema has a problem that would fail every row, the answer is `Unavailable`.
    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError>;

    /// The parts that the ledger lacks: nothing of them is in the tables.
    async fn missing_parts(&self, parts: &[BatchKey]) -> Result<HashSet<BatchKey>, StoreError>;

    /// Deletes old entries from the ledger, a bounded number of rows; returns how many. They must be old by the
    /// database's clock and at `now`.
    async fn forget_old_parts(&self, now: DateTime<Utc>) -> Result<u64, StoreError>;

    /// Makes the partitions of our own event table that will soon be needed, where it has partitions and the role may;
    /// returns how many. Page views do not wait for them: a default partition takes what no other does.
    async fn make_partitions(&self, _now: DateTime<Utc>) -> Result<usize, StoreError> {
        Ok(0)
    }

    /// Those of the users whom the app hides, in one query; none where the configuration names no such column.
    async fn hidden(&self, _users: &[UserId]) -> Result<HashMap<UserId, Visibility>, StoreError> {
        Ok(HashMap::new())
    }

    /// Profiles with each user's latest valid session, in one query; users that no longer exist and those whom
    /// the app hides are absent. Any order.
    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError>;

    /// Statistics of one community over the half-open window `[from, to)`.
    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError>;

    /// Who was in a community, and what they did there; those whom the app hides, and those without a profile, too.
    async fn past_visitors(
        &self,
        _window: &PastWindow,
        _asked: &PastAsked,
    ) -> Result<Vec<PastVisitor>, StoreError> {
        Ok(Vec::new())
    }

    /// Looks at the live database, over a connection of its own: where no server is it fails at once. Compares tables and
    /// ledger with the configuration, and asks which of these event types the event table does not take (those of routes:
    /// [`types_of`]). Nothing of the answer is remembered from before. The first time, the schema that it reads is kept for
    /// the other operations.
    ///
    /// Where all takes longer than `limit`, or the connection breaks, the answer is what was found by then, if the tables were
    /// read: the rest says why it is not known.
    async fn inspect(&self, _types: &[Arc<str>], _limit: Option<Duration>) -> Result<Inspection, StoreError> {
        Ok(Inspection::default())
    }

    /// The event types that count as page views, in alphabetical order: at least one.
    fn counted_event_types(&self) -> Vec<Arc<str>> {
        vec![PAGE_VIEW.into()]
    }

    /// What is shared with other pools of the same database.
    fn state(&self) -> Arc<DatabaseState> {
        Arc::default()
    }

    /// A trivial round trip, on a connection of its own where none is free: a server that is not there is found at once.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How often a connection was found broken, or connected to a server that takes no writes.
    fn lost_connections(&self) -> u64;

    /// Closes all connections.
    async fn close(&self);
}

/// Sessions by their tokens.
pub type SessionsFound = HashMap<SessionToken, Result<SessionFound, StoreError>>;

/// The session of a row, or why the row lets nobody in.
pub type SessionFound = Result<BrowserSession, Unusable>;

/// Result of `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// Views written by this call.
    pub views: usize,
    /// Parts that an earlier try had written without its answer arriving.
    pub known_parts: usize,
    /// What could not be updated beside the events, and why; the events are written.
    pub left_out: Vec<String>,
}

/// What the visitor list shows of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisitorRow {
    /// The user.
    pub user_id: UserId,
    /// User name.
    pub username: String,
    /// Picture path as stored; `None` when null or empty.
    pub avatar: Option<String>,
    /// Start of the user's latest valid session, where there is one.
    pub started_at: Option<DateTime<Utc>>,
    /// That session's page counter.
    pub pages_visited: Option<i64>,
}

/// Statistics of one community over one window, by default of one without views. Each number is defined here and
/// computed in one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Distinct users with one of the `page_views` (never a sum of daily uniques, and never above their number).
    pub total_visitors: i64,
    /// Rows of the counted event types of the community in the window: the sidecar's (`metadata.source`), and the app's from
    /// before the sidecar's first of that community, so that a view which both record counts once and older views
    /// still count. With `api.page_views = "all"`, or `record.events` off, all of them.
    pub page_views: i64,
    /// Mean length, in seconds, of *site* sessions that started and ended in the window, and whose user viewed a
    /// page of the community in the window: one row per session. Left out are open sessions and those whose end lies
    /// before their start or behind the window. `None` when there is none.
    pub avg_session_duration: Option<f64>,
    /// Number of sessions in that mean.
    pub ended_sessions: i64,
    /// The same, only for sessions in which the user viewed a page of the community: between start and end, as
    /// events do not name their session.
    pub avg_community_session_duration: Option<f64>,
    /// Number of sessions in that mean.
    pub ended_community_sessions: i64,
}

/// Address text as both databases take it: IPv4-mapped IPv6 as IPv4, no zone (W4).
pub fn ip_text(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}
