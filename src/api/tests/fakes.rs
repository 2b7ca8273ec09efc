//! Fakes for the API's tests: store, presence and backend in memory, which can fail on demand.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode};

use super::support::now;
use crate::api::{BackendCheck, CheckError};
use crate::ids::{CommunityId, UserId};
use crate::key_type::{AppKeys, KeyType, KeyTypes};
use crate::presence::changes::{CountChanges, Subscription};
use crate::presence::{self, Answer, Count, CountStream, PresenceError, Scope, Seen};
use crate::store::fake::Fake;
use crate::store::{PastAsked, PastVisitor, PastWindow, Stats, StoreError, VisitorRow};

/// How a fake misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    #[default]
    Fine,
    Away,
    Broken,
    Hung,
}

/// What statistics were asked of: community, start and end of the window.
pub(super) type StatsCall = (CommunityId, DateTime<Utc>, DateTime<Utc>);

/// The app's tables.
#[derive(Default)]
pub(super) struct FakeStore {
    pub(super) mood: Mutex<Mood>,
    keys: AppKeys,
    communities: Mutex<HashSet<String>>,
    slugs: Mutex<HashMap<String, CommunityId>>,
    profiles: Mutex<HashMap<UserId, VisitorRow>>,
    pub(super) stats: Mutex<Option<Stats>>,
    /// In the order of the answers, whatever that is.
    pub(super) past: Mutex<Vec<PastVisitor>>,
    pub(super) stats_windows: Mutex<Vec<StatsCall>>,
    /// While a test holds this, every call waits.
    pub(super) hold: tokio::sync::Mutex<()>,
    pub(super) existence_lookups: AtomicUsize,
    pub(super) profile_lookups: AtomicUsize,
}

impl FakeStore {
    /// Integers where nothing is said.
    pub(super) fn keys_are(&self, community: KeyType, user: KeyType) {
        self.keys.learn(KeyTypes { community, user });
    }

    pub(super) fn community(&self, id: &str) {
        self.communities.lock().unwrap().insert(id.into());
    }

    pub(super) fn slug(&self, slug: &str, id: &str) {
        self.slugs.lock().unwrap().insert(slug.into(), id.into());
    }

    pub(super) fn profile(&self, user: &str) {
        self.row(VisitorRow {
            user_id: user.into(),
            username: format!("user-{user}"),
            avatar: None,
            started_at: None,
            pages_visited: None,
        });
    }

    pub(super) fn row(&self, row: VisitorRow) {
        self.profiles.lock().unwrap().insert(row.user_id.clone(), row);
    }

    async fn mood(&self) -> Result<(), StoreError> {
        let mood = *self.mood.lock().unwrap();
        let _held = self.hold.lock().await;
        match mood {
            Mood::Fine => Ok(()),
            Mood::Away => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
            Mood::Broken => Err(StoreError::Unexpected("the secret column".into())),
            Mood::Hung => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Fake for FakeStore {
    fn known_keys(&self) -> AppKeys {
        if self.keys.get().is_none() {
            self.keys_are(KeyType::BIGINT, KeyType::BIGINT);
        }
        self.keys.clone()
    }

    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        self.existence_lookups.fetch_add(1, Ordering::Relaxed);
        self.mood().await?;
        let exists = self.communities.lock().unwrap().contains(key.as_str());
        Ok(exists.then(|| key.clone()))
    }

    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        self.mood().await?;
        Ok(self.slugs.lock().unwrap().get(slug).cloned())
    }

    async fn community_slug(&self, community: &CommunityId) -> Result<Option<String>, StoreError> {
        self.mood().await?;
        let slugs = self.slugs.lock().unwrap();
        let mut slugs = slugs.iter();
        Ok(slugs
            .find(|(_, id)| *id == community)
            .map(|(slug, _)| slug.clone()))
    }

    async fn visitors(&self, users: &[UserId]) -> Result<Vec<VisitorRow>, StoreError> {
        self.profile_lookups.fetch_add(1, Ordering::Relaxed);
        self.mood().await?;
        let profiles = self.profiles.lock().unwrap();
        // Any order: here the reverse of what was asked.
        Ok(users
            .iter()
            .rev()
            .filter_map(|user| profiles.get(user).cloned())
            .collect())
    }

    async fn past_visitors(&self, _: &PastWindow, asked: &PastAsked) -> Result<Vec<PastVisitor>, StoreError> {
        self.mood().await?;
        let past = self.past.lock().unwrap();
        Ok(match asked {
            PastAsked::One(user) => past
                .iter()
                .filter(|visitor| visitor.user_id == *user)
                .cloned()
                .collect(),
            PastAsked::Page { after, limit, .. } => {
                let is_before = |visitor: &&PastVisitor| {
                    after.as_ref().is_some_and(|after| after.user != visitor.user_id)
                };
                let skipped = past.iter().take_while(is_before).count();
                let from = skipped + usize::from(after.is_some());
                past.iter().skip(from).take(*limit).cloned().collect()
            }
        })
    }

    async fn stats(
        &self,
        community: &CommunityId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Stats, StoreError> {
        self.stats_windows
            .lock()
            .unwrap()
            .push((community.clone(), from, to));
        self.mood().await?;
        Ok(self.stats.lock().unwrap().clone().unwrap_or_default())
    }
}

/// Who is where.
#[derive(Default)]
pub(super) struct FakePresence {
    pub(super) mood: Mutex<Mood>,
    /// Whether counts and lists are from memory.
    pub(super) stale_counts: AtomicBool,
    pub(super) stale_lists: AtomicBool,
    seen: Mutex<HashMap<Scope, Vec<Seen>>>,
    changes: CountChanges,
}

impl FakePresence {
    /// Keeps each community latest first, ties by user id descending.
    pub(super) fn seen(&self, scope: impl Into<Scope>, user: &str, at: DateTime<Utc>) {
        let mut seen = self.seen.lock().unwrap();
        let seen = seen.entry(scope.into()).or_default();
        let entry = Seen {
            user: user.into(),
            last_seen: DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap(),
        };
        let place = seen.partition_point(|other| key(other) > key(&entry));
        seen.insert(place, entry);
    }

    fn mood(&self) -> Result<(), PresenceError> {
        match *self.mood.lock().unwrap() {
            Mood::Fine | Mood::Hung => Ok(()),
            Mood::Away => Err(PresenceError::Unavailable(
                std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            )),
            Mood::Broken => Err(PresenceError::Unexpected("the secret key".into())),
        }
    }
}

fn key(seen: &Seen) -> (DateTime<Utc>, &str) {
    (seen.last_seen, seen.user.as_str())
}

#[async_trait]
impl presence::fake::Fake for FakePresence {
    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let count = move |scope| {
            let seen = self.seen.lock().unwrap();
            let count = Count {
                current: seen.get(&scope).map_or(0, |seen| seen.len() as u64),
                seq: 1,
                as_of: now(),
            };
            let stale = self.stale_counts.load(Ordering::Relaxed);
            (scope, self.mood().map(|()| Answer { value: count, stale }))
        };
        stream::iter(scopes.into_iter().map(count)).boxed()
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        self.mood()?;
        let seen = self.seen.lock().unwrap();
        let seen = seen.get(scope).map_or(&[][..], Vec::as_slice);
        let start = after.map_or(0, |after| seen.partition_point(|other| key(other) >= key(after)));
        Ok(Answer {
            value: seen[start..].iter().take(limit).cloned().collect(),
            stale: self.stale_lists.load(Ordering::Relaxed),
        })
    }

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        self.mood()?;
        let seen = self.seen.lock().unwrap();
        let seen = seen.get(scope).map_or(&[][..], Vec::as_slice).iter();
        Ok(Answer {
            value: seen.filter(|seen| users.contains(&seen.user)).cloned().collect(),
            stale: self.stale_lists.load(Ordering::Relaxed),
        })
    }

    fn subscribe(&self) -> Subscription {
        self.changes.subscribe()
    }
}

/// What the app says about who may see what. Without a rule: 200 to everybody.
#[derive(Default)]
pub(super) struct FakeBackend {
    /// Status by path; `None` for a backend that cannot be reached.
    pub(super) rules: Mutex<HashMap<String, Option<StatusCode>>>,
    /// Callers with this cookie are let in everywhere.
    pub(super) master_cookie: Mutex<Option<&'static str>>,
    pub(super) asked: Mutex<Vec<String>>,
    /// While a test holds this, every call waits.
    pub(super) hold: tokio::sync::Mutex<()>,
    pub(super) in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
}

impl FakeBackend {
    pub(super) fn says(&self, path: &str, status: impl Into<Option<StatusCode>>) {
        self.rules.lock().unwrap().insert(path.into(), status.into());
    }

    pub(super) fn times_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl BackendCheck for FakeBackend {
    async fn may_see(&self, path: &str, headers: &HeaderMap) -> Result<StatusCode, CheckError> {
        self.asked.lock().unwrap().push(path.to_owned());
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let held = self.hold.lock().await;
        tokio::task::yield_now().await;
        drop(held);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let master = *self.master_cookie.lock().unwrap();
        if let (Some(master), Some(cookie)) = (master, headers.get("cookie"))
            && cookie == master
        {
            return Ok(StatusCode::OK);
        }
        let rule = self.rules.lock().unwrap().get(path).copied();
        rule.unwrap_or(Some(StatusCode::OK))
            .ok_or(CheckError::Timeout(Duration::ZERO))
    }
}
