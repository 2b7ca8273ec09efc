//! The `Store` on a SQL database: the one implementation, for Postgres and SQLite alike.

mod counters;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Connection;

use super::connections::Connections;
use super::event_types;
use super::jwt_sessions::FindJwtSessions;
use super::operations::{
    Apply, Backend, Context, FindCommunity, FindSessions, FindSlug, FindUsers, ForgetOld, LookAtEvents,
    LookAtSessions, MakePartitions, MarkedOf, MissingParts, PastVisitors, ReadKeys, Rules, Runs, StatsOf,
    StoreOperation, Visitors, is_tried,
};
use super::schema::{Mark, ResolvedSchema};
use super::{
    Applied, DatabaseState, Inspection, PastAsked, PastPlace, PastVisitor, PastWindow, SessionFound,
    SessionsFound, Stats, Store, StoreError, VisitorRow,
};
use crate::batch::{Batch, BatchKey};
use crate::browser_session::{Unusable, Visibility};
use crate::config::{self, Config, PageViews};
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

    /// Sets which of the sessions' users the app hides, and leaves out those whose accounts it has disabled.
    async fn with_marks(
        &self,
        mut found: <FindSessions<'_> as StoreOperation>::Output,
    ) -> Result<<FindSessions<'_> as StoreOperation>::Output, StoreError> {
        if self.rules.hidden.is_none() && !self.rules.disabled {
            return Ok(found);
        }
        let sessions = found
            .iter()
            .filter_map(|(_, session)| session.as_ref().ok()?.as_ref().ok());
        let users: Vec<UserId> = sessions.map(|session| session.user_id.clone()).collect();
        let hidden = self.hidden(&users).await?;
        let disabled = self.disabled(&users).await?;
        for (_, session) in &mut found {
            let Ok(Ok(known)) = session else { continue };
            if disabled.contains(&known.user_id) {
                *session = Ok(Err(Unusable::Disabled));
            } else {
                known.visibility = hidden.get(&known.user_id).copied().unwrap_or_default();
            }
        }
        Ok(found)
    }

    /// Those of the users whose accounts are disabled, or gone: all but those that are there and active.
    async fn disabled(&self, users: &[UserId]) -> Result<HashSet<UserId>, StoreError> {
        if !self.rules.disabled || users.is_empty() {
            return Ok(HashSet::new());
        }
        let mark = Mark::Active;
        let active = self.connections.run(&MarkedOf { mark, users }).await?;
        let mut disabled: HashSet<UserId> = users.iter().cloned().collect();
        for user in &active {
            disabled.remove(user);
        }
        Ok(disabled)
    }

    /// What some live sessions look like.
    pub(super) async fn session_remarks(&self, session: &config::Session) -> Result<Vec<String>, StoreError> {
        let now = Utc::now();
        self.connections.run(&LookAtSessions { session, now }).await
    }

    /// The sessions of tokens, by the operation that finds them.
    async fn sessions_of<O>(&self, tokens: &[&SessionToken], find: &O) -> Result<SessionsFound, StoreError>
    where
        O: StoreOperation<Output = Vec<(usize, Result<SessionFound, sqlx::Error>)>>,
        B: Runs<O>,
    {
        if tokens.is_empty() {
            return Ok(SessionsFound::new());
        }
        let found = match self.connections.run(find).await {
            // Of several tokens, the caller asks for each alone.
            Err(error) if error.untranslatable() && tokens.len() == 1 => return Ok(SessionsFound::new()),
            outcome => outcome?,
        };
        let found = self.with_marks(found).await?;
        let of = |(place, session): (usize, Result<SessionFound, sqlx::Error>)| {
            Some(((*tokens.get(place)?).clone(), session.map_err(StoreError::from)))
        };
        Ok(found.into_iter().filter_map(of).collect())
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

    /// Makes the partitions that page views lack, where none is the default one; whether it made any.
    async fn make_partitions_of(&self, batch: &Batch) -> bool {
        let rows: Vec<DateTime<Utc>> = batch.views().map(|view| view.view.at).collect();
        let make = MakePartitions {
            database: &self.rules.database,
            now: Utc::now(),
            rows: &rows,
        };
        matches!(self.connections.run(&make).await, Ok(1..))
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
        let tokens = tokens.iter().filter(|token| !has_nul(token.expose_secret()));
        let (jwts, secrets): (Vec<_>, Vec<_>) = tokens.partition(|token| token.claims().is_some());
        let mut found = self
            .sessions_of(&secrets, &FindSessions { tokens: &secrets })
            .await?;
        found.extend(
            self.sessions_of(&jwts, &FindJwtSessions { tokens: &jwts })
                .await?,
        );
        Ok(found)
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
        if batch.parts.is_empty() {
            return Ok(Applied::default());
        }
        let [noted, committing, left_out] = [const { AtomicBool::new(false) }; 3];
        let apply = Apply {
            batch,
            rules: &self.rules,
            noted: &noted,
            committing: &committing,
            left_out: &left_out,
        };
        let mut outcome = self.connections.run(&apply).await;
        if left_out.load(Ordering::Relaxed) {
            if let Ok(applied) = &mut outcome
                && let Ok(schema) = self.connections.renew().await
            {
                // Of what is not tried any more the check of the tables tells, with the remedy.
                applied
                    .left_out
                    .retain(|left_out| schema.app.as_ref().is_some_and(|app| is_tried(app, left_out)));
            }
            self.connections.state().check_tables.notify_one();
        }
        if self.rules.partitions
            && let Err(error) = outcome
        {
            outcome = if error.lacks_partition() && self.make_partitions_of(batch).await {
                self.connections.run(&apply).await
            } else {
                // Whoever may make it, will.
                Err(error.until_there_is_a_partition())
            };
        }
        match (noted.into_inner(), committing.into_inner()) {
            (_, true) => outcome,
            (true, false) => outcome.map_err(StoreError::before_commit),
            (false, false) => outcome.map_err(StoreError::before_noting),
        }
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
        let Some(hidden) = self.rules.hidden.filter(|_| !users.is_empty()) else {
            return Ok(HashMap::new());
        };
        let mark = Mark::Hidden;
        let users = self.connections.run(&MarkedOf { mark, users }).await?;
        Ok(users.into_iter().map(|user| (user, hidden)).collect())
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
