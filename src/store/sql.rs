//! The `Store` on a SQL database: the one implementation, for Postgres and SQLite alike.

mod apply;
mod counters;
mod sessions;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;

use super::connections::Connections;
use super::event_types;
use super::operations::{
    Backend, Context, FindCommunity, FindSlug, FindUsers, ForgetOld, LookAtEvents, MakePartitions,
    MissingParts, PastVisitors, ReadKeys, Rules, StatsOf, Visitors,
};
use super::schema::ResolvedSchema;
use super::{
    Applied, DatabaseState, Inspection, PastAsked, PastPlace, PastVisitor, PastWindow, SessionsFound, Stats,
    Store, StoreError, VisitorRow,
};
use crate::batch::{Batch, BatchKey};
use crate::browser_session::Visibility;
use crate::config::{Config, PageViews};
use crate::ids::{AccountId, CommunityId, SessionToken, UserId};
use crate::key_type::{AppKeys, KeyTypes};
use crate::routes::{CountedTypes, PAGE_VIEW};

/// The app's tables in a SQL database.
pub(super) struct SqlStore<B: Backend> {
    connections: Connections<B>,
    rules: Rules,
}

impl<B: Backend> SqlStore<B> {
    /// Prepares the pool. Opens nothing, so it succeeds while the database is down. Must be called on a
    /// tokio runtime.
    pub(super) fn new(options: <B::Connection as Connection>::Options, config: &Config) -> Self {
        Self {
            connections: Connections::new(options, config),
            rules: Rules::new(config),
        }
    }

    /// What operations on counters know.
    fn counter_context(&self) -> Context<'_> {
        Context {
            database: &self.rules.database,
            until_ours: self.until_ours(),
            writes_presence: self.rules.writes_presence,
            types: self.rules.counted.get(),
        }
    }

    /// Counts the event types that `counted` names.
    pub(super) fn counting(mut self, counted: CountedTypes) -> Self {
        self.rules.counted = counted;
        self
    }

    /// For the counters, with the state that other pools of the same database have.
    pub(super) fn of_counters(mut self, state: Arc<DatabaseState>) -> Self {
        self.connections.of_counters(state);
        self
    }

    /// Whether the app's views count only until the sidecar's first in a community.
    fn until_ours(&self) -> bool {
        self.rules.events && self.rules.page_views == PageViews::Ours
    }

    /// The error of whoever reads page views where there is no event table.
    fn lacks_events(&self) -> StoreError {
        if self.rules.events {
            StoreError::Unavailable(sqlx::Error::Configuration(
                "the event table is not as configured".into(),
            ))
        } else {
            StoreError::NoEvents
        }
    }

    /// What there is to say of the events that routes write: of their types in the last day.
    pub(super) async fn event_notes(&self, own: &[Arc<str>]) -> Result<Vec<String>, StoreError> {
        let mut notes = Vec::new();
        let types: Vec<_> = own.iter().cloned().chain([PAGE_VIEW.into()]).collect();
        let since = Utc::now() - TimeDelta::days(1);
        let types = &types;
        let counts = self.connections.run(&LookAtEvents { types, since }).await?;
        notes.extend(event_types::notes(&counts, own, self.rules.own_events));
        Ok(notes)
    }

    /// Reads the schema afresh.
    pub(super) async fn resolved(&self) -> Result<ResolvedSchema, StoreError> {
        self.connections.resolved().await
    }
}

#[async_trait]
impl<B: Backend> Store for SqlStore<B> {
    fn keys(&self) -> AppKeys {
        self.connections.keys()
    }

    async fn key_types(&self) -> Result<KeyTypes, StoreError> {
        match self.connections.keys().get() {
            Some(types) => Ok(types),
            None => self.connections.run(&ReadKeys).await,
        }
    }

    async fn browser_sessions(&self, tokens: &[SessionToken]) -> Result<SessionsFound, StoreError> {
        self.sessions(tokens).await
    }

    async fn users_of_accounts(
        &self,
        accounts: &[AccountId],
    ) -> Result<HashMap<AccountId, UserId>, StoreError> {
        if accounts.is_empty() {
            return Ok(HashMap::new());
        }
        self.connections.run(&FindUsers { accounts }).await
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        if has_nul(slug) {
            return Ok(None);
        }
        none_if_untranslatable(self.connections.run(&FindCommunity::BySlug(slug)).await)
    }

    async fn community_by_lookup(&self, lookup: &str, key: &str) -> Result<Option<CommunityId>, StoreError> {
        if has_nul(key) {
            return Ok(None);
        }
        none_if_untranslatable(self.connections.run(&FindCommunity::Through(lookup, key)).await)
    }

    async fn community_slug(&self, community: &CommunityId) -> Result<Option<String>, StoreError> {
        none_if_untranslatable(self.connections.run(&FindSlug(community)).await)
    }

    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        none_if_untranslatable(self.connections.run(&FindCommunity::ByKey(key)).await)
    }

    async fn apply(&self, batch: &Batch) -> Result<Applied, StoreError> {
        self.apply_batch(batch).await
    }

    async fn missing_parts(&self, parts: &[BatchKey]) -> Result<HashSet<BatchKey>, StoreError> {
        if parts.is_empty() {
            return Ok(HashSet::new());
        }
        self.connections.run(&MissingParts { parts }).await
    }

    async fn forget_old_parts(&self, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let database = &self.rules.database;
        self.connections.run(&ForgetOld { database, now }).await
    }

    async fn make_partitions(&self, now: DateTime<Utc>) -> Result<usize, StoreError> {
        if !self.rules.partitions {
            return Ok(0);
        }
        let database = &self.rules.database;
        let rows = &[];
        self.connections
            .run(&MakePartitions { database, now, rows })
            .await
    }

    async fn hidden(&self, users: &[UserId]) -> Result<HashMap<UserId, Visibility>, StoreError> {
        self.hidden_of(users).await
    }

    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let now = Utc::now();
        self.connections.run(&Visitors { users, now }).await
    }

    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError> {
        if has_nul(community.as_str()) {
            return Ok(Stats::default());
        }
        let until_ours = self.until_ours();
        let stats = self
            .connections
            .run(&StatsOf {
                community,
                from,
                to,
                until_ours,
                types: self.rules.counted.get(),
            })
            .await?;
        stats.ok_or_else(|| self.lacks_events())
    }

    async fn past_visitors(
        &self,
        window: &PastWindow,
        asked: &PastAsked,
    ) -> Result<Vec<PastVisitor>, StoreError> {
        let user = match asked {
            PastAsked::One(user)
            | PastAsked::Page {
                after: Some(PastPlace { user, .. }),
                ..
            } => Some(user),
            PastAsked::Page { after: None, .. } => None,
        };
        if has_nul(window.community.as_str()) || user.is_some_and(|user| has_nul(user.as_str())) {
            return Ok(Vec::new());
        }
        let operation = PastVisitors {
            window,
            asked,
            until_ours: self.until_ours(),
            types: self.rules.counted.get(),
        };
        let visitors = self.connections.run(&operation).await?;
        visitors.ok_or_else(|| self.lacks_events())
    }

    async fn inspect(&self, types: &[Arc<str>], limit: Option<Duration>) -> Result<Inspection, StoreError> {
        self.connections.inspect(types, limit).await
    }

    fn counted_event_types(&self) -> Vec<Arc<str>> {
        self.rules.counted.get()
    }

    fn state(&self) -> Arc<DatabaseState> {
        self.connections.state()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.connections.ping().await
    }

    fn lost_connections(&self) -> u64 {
        self.connections.lost()
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

/// No row has a text that the database's encoding cannot hold.
fn none_if_untranslatable<T>(found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match found {
        Err(error) if error.untranslatable() => Ok(None),
        found => found,
    }
}

/// W2: no row holds a NUL, and Postgres would refuse to compare.
fn has_nul(text: &str) -> bool {
    text.contains('\0')
}
