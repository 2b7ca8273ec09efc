//! Session cache: bounded, with a short lifetime, in front of the session table.
//!
//! Random cookies do not become database load (I1): malformed ones never get here, negative answers are cached, and the
//! lookups in flight are bounded. Many requests with one new cookie make one lookup (I2). A cached session is checked
//! again at each use (I3), and queried again when it may have changed since it was read (I4): a change does not search
//! for entries; each entry is checked at its next use.
//!
//! `query` asks the table, `entry` is what is cached, `invalidation` takes changes of sessions, `claims` answers for JWTs that
//! need no query.

mod claims;
mod entry;
mod invalidation;
mod query;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::broadcast;
use tokio::time;

use self::claims::within_jwt;
use self::entry::{CacheEntry, Lifetimes};
use super::changes::SessionChanges;
use super::fallback::FallbackSessions;
use super::limiter::Limiter;
use super::lookups::Lookups;
use super::metrics::{LookupOutcome, Metrics};
use super::outcome::{CachedSession, Identified};
use crate::browser_session::{BrowserSession, SessionChange};
use crate::config;
use crate::ids::SessionToken;
use crate::key_type::AppKeys;
use crate::reload::KeyFile;
use crate::shared_results::SharedResults;
use crate::status::Component;
use crate::store::{Store, StoreError};

/// How many changes a subscriber may lag behind before it has to assume that all sessions changed.
const SUBSCRIBERS_BACKLOG: usize = 1024;

/// Finds the browser session of a session token.
pub struct Authenticator {
    cache: SharedResults<SessionToken, CacheEntry, Arc<StoreError>>,
    fallback: FallbackSessions,
    changes: SessionChanges,
    subscribers: broadcast::Sender<SessionChange>,
    lookups: Arc<Lookups>,
    limiter: Limiter,
    /// `session.negative_ttl`
    longest_absence: Duration,
    /// The keys of JWTs: a JWT that was verified with a key that has been removed has no session.
    jwt_keys: Option<Arc<KeyFile>>,
    /// Whether the users of JWTs are looked up.
    looks_up_users: bool,
    /// The types of the app's keys.
    keys: AppKeys,
    /// Down while the latest lookup failed.
    table: Component,
    metrics: Arc<Metrics>,
}

impl Authenticator {
    /// An empty cache in front of `store`.
    pub fn new(session: &config::Session, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        let lifetimes = Lifetimes {
            found: session.cache_ttl,
            longest_absence: session.negative_ttl,
        };
        Self {
            cache: SharedResults::with_ttl_of(session.cache_capacity, move |entry| lifetimes.of(entry)),
            fallback: FallbackSessions::new(session.cache_capacity),
            changes: SessionChanges::new(session.cache_capacity),
            subscribers: broadcast::Sender::new(SUBSCRIBERS_BACKLOG),
            keys: store.keys(),
            lookups: Lookups::new(store, session.max_lookups),
            limiter: Limiter::new(),
            longest_absence: session.negative_ttl,
            jwt_keys: None,
            looks_up_users: false,
            table: Component::default(),
            metrics,
        }
    }

    /// The cached answer for a token that came with a page view at `at`. Never waits for I/O. As with
    /// [`Authenticator::resolve_past`], a session that has ended since counts; a token whose session may still appear
    /// is unknown.
    pub fn cached(&self, token: &SessionToken, at: DateTime<Utc>) -> CachedSession {
        self.known(token, at, true)
    }

    /// The cached answer of [`Authenticator::resolve`]. Never waits for I/O.
    pub fn cached_now(&self, token: &SessionToken, now: DateTime<Utc>) -> CachedSession {
        self.known(token, now, false)
    }

    fn known(&self, token: &SessionToken, at: DateTime<Utc>, is_view: bool) -> CachedSession {
        let claimed = self.claimed(token, at);
        if claimed.is_known() {
            return claimed;
        }
        let Some(entry) = self.cache.known(token) else {
            return CachedSession::Unknown;
        };
        let may_wait = is_view && entry.first_absent_until().is_some();
        if may_wait || !self.holds(token, &entry, at) {
            return CachedSession::Unknown;
        }
        self.count(LookupOutcome::Cached);
        let counts = if is_view {
            BrowserSession::was_valid_at
        } else {
            BrowserSession::is_valid_at
        };
        match entry
            .session_if(|session| counts(session, at))
            .and_then(|session| within_jwt(token, session, at))
        {
            Ok(session) => CachedSession::Session(session),
            Err(absent) => CachedSession::NoSession(absent),
        }
    }

    /// The session a token belongs to at `now`, from the cache or the table. Concurrent calls for one token
    /// share one lookup; the number of lookups in flight is bounded.
    ///
    /// # Errors
    /// The table could not be queried. Nothing is cached then.
    pub async fn resolve(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<BrowserSession>>, Arc<StoreError>> {
        self.resolve_from(token, now, None).await
    }

    /// The same for a token that comes from an address: where an address brings many new tokens, these are looked up
    /// last.
    ///
    /// # Errors
    /// The table could not be queried.
    pub async fn resolve_from(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
    ) -> Result<Option<Arc<BrowserSession>>, Arc<StoreError>> {
        let claimed = self.claimed(token, now);
        if claimed.is_known() {
            return Ok(claimed.session());
        }
        let session = self.asked(token, now, from).await?.session;
        let session = session.filter(|session| session.is_valid_at(now));
        Ok(session.and_then(|session| within_jwt(token, session, now).ok()))
    }

    /// The same, with the time of the query.
    ///
    /// # Errors
    /// The table could not be queried.
    pub async fn verified(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
    ) -> Result<Option<(Arc<BrowserSession>, time::Instant)>, Arc<StoreError>> {
        let claimed = self.claimed(token, now);
        if claimed.is_known() {
            return Ok(claimed.session().map(|session| (session, time::Instant::now())));
        }
        let CacheEntry { session, read_at, .. } = self.asked(token, now, None).await?;
        let session = session.filter(|session| session.is_valid_at(now));
        let session = session.and_then(|session| within_jwt(token, session, now).ok());
        Ok(session.map(|session| (session, read_at)))
    }

    /// Whether a session may soon appear for a token that has none: it is new, and its row is still expected. Never
    /// waits for I/O.
    pub fn may_appear(&self, token: &SessionToken) -> bool {
        let entry = self.cache.known(token);
        let absence = entry.and_then(|entry| entry.absence);
        absence.is_some_and(|absence| absence.may_still_appear())
    }

    /// The session a token belonged to when it came with a page view at `at`; otherwise as [`Authenticator::resolve`].
    /// The view belongs to that session (V6), even if it has ended before the response: an end is noticed at once.
    ///
    /// Once per token the answer is [`Identified::NotYet`], where the row may appear after the view.
    ///
    /// # Errors
    /// The table could not be queried.
    pub async fn resolve_past(
        &self,
        token: &SessionToken,
        at: DateTime<Utc>,
        from: Option<IpAddr>,
    ) -> Result<Identified, Arc<StoreError>> {
        match self.claimed(token, at) {
            CachedSession::Session(session) => return Ok(Identified::Session(session)),
            CachedSession::NoSession(absent) => return Ok(Identified::NoSession(absent)),
            CachedSession::Unknown => {}
        }
        let entry = self.asked(token, at, from).await?;
        if let Some(until) = entry.first_absent_until() {
            return Ok(Identified::NotYet(until));
        }
        let session = entry.session_if(|session| session.was_valid_at(at));
        Ok(match session.and_then(|session| within_jwt(token, session, at)) {
            Ok(session) => Identified::Session(session),
            Err(absent) => Identified::NoSession(absent),
        })
    }

    /// Whether a session was found for a token before.
    pub fn is_known(&self, token: &SessionToken) -> bool {
        // The app has signed a JWT.
        token.claims().is_some() || self.fallback.knows(token)
    }

    /// Whether the table answers promptly, so that views can wait for it in memory.
    pub fn answers(&self) -> bool {
        !self.is_away() && self.lookups.are_prompt()
    }

    /// Whether the latest query of the table failed. False while it is only slow.
    pub fn is_away(&self) -> bool {
        self.table.is_down()
    }

    /// The session that a token last belonged to, if it was valid at `at` as far as is known: however old the answer
    /// is, but never past the session's expiry. For recording only, while the table cannot be queried; answers to
    /// clients need a current one. Never waits.
    ///
    /// A session that is known to have changed is not returned. One whose change may have been missed is: nothing newer
    /// is known while the table cannot be queried.
    pub fn last_known_session(&self, token: &SessionToken, at: DateTime<Utc>) -> Option<Arc<BrowserSession>> {
        let claimed = self.claimed(token, at);
        if claimed.is_known() {
            return claimed.session();
        }
        let kept = self.fallback.get(token)?;
        if !self.changes.none_heard(&kept.session, kept.read) {
            self.fallback.forget_outdated(token, kept.read);
            return None;
        }
        let session = Some(kept.session).filter(|session| session.is_valid_at(at))?;
        let session = within_jwt(token, session, at).ok()?;
        self.count(LookupOutcome::Remembered);
        Some(session)
    }

    /// Counts a value that cannot be a token: it needs no lookup (I1).
    pub fn count_malformed(&self) {
        self.count(LookupOutcome::Malformed);
    }

    fn count(&self, outcome: LookupOutcome) {
        self.metrics.lookups[outcome].inc();
    }
}

#[cfg(test)]
mod tests;
