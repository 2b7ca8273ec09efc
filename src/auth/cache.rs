//! Session cache: bounded, with a short lifetime, in front of the session table.
//!
//! Random cookies do not become database load (I1): malformed ones never get here, negative answers are cached, and the
//! lookups in flight are bounded. Many requests with one new cookie make one lookup (I2). A cached session is checked
//! again at each use (I3), and queried again when it may have changed since it was read (I4): a change does not search
//! for entries; each entry is checked at its next use. What a JWT says by itself is in `claims`.

mod claims;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::broadcast;
use tokio::time;

use self::claims::within_jwt;
use super::absence::Absence;
use super::changes::{ChangeNumber, SessionChanges};
use super::fallback::FallbackSessions;
use super::limiter::Limiter;
use super::lookups::{Lookups, Priority};
use super::metrics::{Evicted, Lookup, Metrics};
use crate::browser_session::{BrowserSession, SessionChange, Unusable};
use crate::config;
use crate::ids::{SessionToken, TokenFingerprint};
use crate::key_type::AppKeys;
use crate::reload::KeyFile;
use crate::status::Component;
use crate::store::{Store, StoreError};

/// Most reads for one lookup, where the session changes while it is read.
const READS: usize = 3;
/// How many changes a subscriber may lag behind before it has to assume that all sessions changed.
const SUBSCRIBERS_BACKLOG: usize = 1024;

/// Finds the browser session of a session token.
pub struct Authenticator {
    cache: Cache<SessionToken, Entry>,
    fallback: FallbackSessions,
    changes: SessionChanges,
    subscribers: broadcast::Sender<SessionChange>,
    lookups: Arc<Lookups>,
    limiter: Limiter,
    /// `session.negative_ttl`
    longest_absence: Duration,
    /// The keys of JWTs: one that was verified with a key that is gone has no session.
    jwt_keys: Option<Arc<KeyFile>>,
    /// Whether the users of JWTs are looked up.
    looks_up_users: bool,
    /// The types of the app's keys.
    keys: AppKeys,
    /// Down while the latest lookup failed.
    table: Component,
    metrics: Arc<Metrics>,
}

/// The cached answer for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachedSession {
    /// A valid session.
    Session(Arc<BrowserSession>),
    /// No session.
    NoSession(Absent),
    /// Not in the cache: call [`Authenticator::resolve`].
    Unknown,
}

impl CachedSession {
    /// Whether no query is needed.
    fn is_known(&self) -> bool {
        *self != Self::Unknown
    }

    fn session(self) -> Option<Arc<BrowserSession>> {
        match self {
            Self::Session(session) => Some(session),
            Self::NoSession(_) | Self::Unknown => None,
        }
    }
}

/// Why a token has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The table has no such token.
    NotFound,
    /// Its session is inactive, has ended, or has expired.
    Ended,
    /// Its row lets nobody in.
    Unusable(Unusable),
}

/// The session of a page view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified {
    /// It belongs to this session.
    Session(Arc<BrowserSession>),
    /// It belongs to no valid session.
    NoSession(Absent),
    /// No session so far; its row may appear a moment after its cookie. Query once more at this time.
    NotYet(time::Instant),
}

/// The table's answer for a token.
#[derive(Clone)]
struct Entry {
    session: Option<Arc<BrowserSession>>,
    /// Why there is none though there is a row.
    unusable: Option<Unusable>,
    /// The change number before it was read.
    read: ChangeNumber,
    /// The time at which the read began.
    read_at: time::Instant,
    /// How long this holds, where no session was valid then.
    absence: Option<Absence>,
}

impl Authenticator {
    /// An empty cache in front of `store`.
    pub fn new(session: &config::Session, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        let cache = Cache::builder()
            .max_capacity(session.cache_capacity)
            .expire_after(Lifetimes {
                found: session.cache_ttl,
                longest_absence: session.negative_ttl,
            })
            .build();
        Self {
            cache,
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
    pub async fn cached(&self, token: &SessionToken, at: DateTime<Utc>) -> CachedSession {
        self.known(token, at, true).await
    }

    /// What [`Authenticator::resolve`] would return, as far as it is cached. Never waits for I/O.
    pub async fn cached_now(&self, token: &SessionToken, now: DateTime<Utc>) -> CachedSession {
        self.known(token, now, false).await
    }

    async fn known(&self, token: &SessionToken, at: DateTime<Utc>, is_view: bool) -> CachedSession {
        let claimed = self.claimed(token, at);
        if claimed.is_known() {
            return claimed;
        }
        let Some(entry) = self.cache.get(token).await else {
            return CachedSession::Unknown;
        };
        let may_wait = is_view && entry.first_absent_until().is_some();
        if may_wait || !self.holds(token, &entry, at) {
            return CachedSession::Unknown;
        }
        self.count(Lookup::Cached);
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
        let Entry { session, read_at, .. } = self.asked(token, now, None).await?;
        let session = session.filter(|session| session.is_valid_at(now));
        let session = session.and_then(|session| within_jwt(token, session, now).ok());
        Ok(session.map(|session| (session, read_at)))
    }

    /// Whether a session may soon appear for a token that has none: it is new, and its row is still expected. Never
    /// waits for I/O.
    pub async fn may_appear(&self, token: &SessionToken) -> bool {
        let entry = self.cache.get(token).await;
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

    /// The current answer for a token, queried again where it may have changed.
    async fn asked(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
    ) -> Result<Entry, Arc<StoreError>> {
        let (entry, is_fresh) = self.entry(token, now, from, None).await?;
        // A cached entry that no longer holds, or a new one that a change has overtaken.
        let stands = if is_fresh {
            !self.is_outdated(token, &entry)
        } else {
            self.holds(token, &entry, now)
        };
        if stands {
            return Ok(entry);
        }
        // Another task may have queried again already.
        let there = self.cache.get(token).await;
        if there.is_some_and(|entry| !self.holds(token, &entry, now)) {
            self.cache.invalidate(token).await;
        }
        let (entry, _) = self.entry(token, now, from, Some(&entry)).await?;
        Ok(entry)
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
            self.fallback.forget(token);
            return None;
        }
        let session = Some(kept.session).filter(|session| session.is_valid_at(at))?;
        let session = within_jwt(token, session, at).ok()?;
        self.count(Lookup::Remembered);
        Some(session)
    }

    /// Takes a notified change: answers that were read before it are no longer used.
    pub fn changed(&self, change: SessionChange) {
        let reason = match &change {
            SessionChange::Of(id) if self.changes.changed(id) => Evicted::Changed,
            // The caches treat all as changed; subscribers still get this session's id.
            SessionChange::Of(_) => Evicted::Overflow,
            SessionChange::OfAny => {
                self.changes.all_changed();
                Evicted::AllChanged
            }
        };
        self.metrics.evictions[reason].inc();
        self.publish(change);
    }

    /// A session of a token with this fingerprint may exist now: its row was inserted, or the app has set the token as
    /// a cookie. A negative answer for it is no longer used.
    pub fn appeared(&self, fingerprint: TokenFingerprint) {
        self.changes.appeared(fingerprint);
        self.metrics.evictions[Evicted::Appeared].inc();
    }

    /// Drops a cached negative answer for a token, so that the table is queried again.
    pub(crate) async fn forget_absence(&self, token: &SessionToken) {
        let entry = self.cache.get(token).await;
        if entry.is_some_and(|entry| entry.absence.is_some()) {
            self.cache.invalidate(token).await;
        }
    }

    /// Notifications arrive from now on, and did not before: sessions that were read until now are no longer used.
    /// Negative answers stay: a change makes no new tokens, and a flood of random ones must not be looked up again
    /// (I1).
    pub fn listening(&self) {
        self.changes.listening();
        self.metrics.evictions[Evicted::Gap].inc();
        self.publish(SessionChange::OfAny);
    }

    /// Changes of sessions from now on, for connections that must not outlive theirs. A change is in the cache before
    /// it is sent: [`Authenticator::resolve`] returns the new state. A receiver that lags (`Lagged`) has to take it for
    /// [`SessionChange::OfAny`].
    pub fn subscribe(&self) -> broadcast::Receiver<SessionChange> {
        self.subscribers.subscribe()
    }

    /// Counts a value that cannot be a token: it needs no lookup (I1).
    pub fn count_malformed(&self) {
        self.count(Lookup::Malformed);
    }

    /// The cached entry, else a new one from the table, and whether it was just read. `before` is the previous entry.
    async fn entry(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
        before: Option<&Entry>,
    ) -> Result<(Entry, bool), Arc<StoreError>> {
        let entry = self.cache.entry_by_ref(token);
        let looked_up = entry
            .or_try_insert_with(self.look_up(token, now, from, before))
            .await;
        let entry = looked_up.map_err(|error: Arc<Arc<StoreError>>| {
            self.count(Lookup::Unavailable);
            Arc::clone(&*error)
        })?;
        let is_fresh = entry.is_fresh();
        let entry = entry.into_value();
        if !is_fresh && self.holds(token, &entry, now) {
            self.count(Lookup::Cached);
        }
        Ok((entry, is_fresh))
    }

    async fn look_up(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
        before: Option<&Entry>,
    ) -> Result<Entry, Arc<StoreError>> {
        let rank = if before.is_some_and(|before| before.session.is_some()) || self.fallback.knows(token) {
            Priority::Known
        } else if self.limiter.allows(from) {
            Priority::New
        } else {
            Priority::Suspect
        };
        let mut reads = 1;
        loop {
            let entry = self.read(token, now, rank, before).await?;
            // A change came meanwhile, before or after the row was read.
            if reads == READS || !self.is_outdated(token, &entry) {
                return Ok(entry);
            }
            reads += 1;
        }
    }

    async fn read(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        rank: Priority,
        before: Option<&Entry>,
    ) -> Result<Entry, Arc<StoreError>> {
        let (read, read_at) = (self.changes.now(), time::Instant::now());
        let result = self.lookups.ask(token, rank).await;
        self.log_change(result.as_ref().err().map(|error| &**error));
        let found = result?;
        self.count(match &found {
            Some(Ok(_)) => Lookup::Found,
            Some(Err(Unusable::Anonymous)) => Lookup::Anonymous,
            Some(Err(Unusable::NoProfile)) => Lookup::NoProfile,
            Some(Err(Unusable::Disabled)) => Lookup::Disabled,
            Some(Err(Unusable::Unreadable)) => Lookup::Unreadable,
            None => Lookup::Nobody,
        });
        let unusable = found.as_ref().and_then(|found| found.as_ref().err().copied());
        let session = found.and_then(Result::ok).map(Arc::new);
        self.fallback.update(token, session.as_ref(), read, now);
        let is_valid = session.as_ref().is_some_and(|session| session.is_valid_at(now));
        let absence = (!is_valid).then(|| {
            let is_settled = session.is_some() || rank != Priority::New;
            // After a change, the wait for the row starts anew.
            let before = before.filter(|before| !self.is_outdated(token, before));
            let before = before.and_then(|before| before.absence);
            Absence::found(before, is_settled, time::Instant::now(), self.longest_absence)
        });
        Ok(Entry {
            session,
            unusable,
            read,
            read_at,
            absence,
        })
    }

    /// Whether an entry may still be used. Not after a change, nor where the session was valid and has expired by now:
    /// its expiry may have been extended, which is not notified.
    fn holds(&self, token: &SessionToken, entry: &Entry, now: DateTime<Utc>) -> bool {
        let is_over = match (&entry.absence, &entry.session) {
            (Some(absence), _) => absence.is_over(time::Instant::now()),
            (None, Some(session)) => !session.is_valid_at(now),
            (None, None) => false,
        };
        !is_over && !self.is_outdated(token, entry)
    }

    /// Whether the session may have changed, or appeared, since it was read.
    fn is_outdated(&self, token: &SessionToken, entry: &Entry) -> bool {
        match &entry.session {
            Some(session) => !self.changes.none_since(session, entry.read),
            None => self.changes.may_have_appeared(token, entry.read),
        }
    }

    fn publish(&self, change: SessionChange) {
        // An error means that there are no subscribers.
        let _ = self.subscribers.send(change);
    }

    fn log_change(&self, error: Option<&StoreError>) {
        match error {
            Some(error) => self.table.down(error.chain(), |error| {
                tracing::warn!(
                    %error,
                    "sessions cannot be looked up; page views of visitors without a remembered session wait"
                );
            }),
            None => self
                .table
                .up(|_| tracing::info!("sessions can be looked up again")),
        }
    }

    fn count(&self, outcome: Lookup) {
        self.metrics.lookups[outcome].inc();
    }
}

impl Entry {
    /// Its session, if that satisfies `counts`.
    fn session_if(self, counts: impl Fn(&BrowserSession) -> bool) -> Result<Arc<BrowserSession>, Absent> {
        match self.session {
            Some(session) if counts(&session) => Ok(session),
            Some(_) => Err(Absent::Ended),
            None => Err(self.unusable.map_or(Absent::NotFound, Absent::Unusable)),
        }
    }

    /// See [`Absence::first_until`].
    fn first_absent_until(&self) -> Option<time::Instant> {
        self.absence.and_then(|absence| absence.first_until())
    }
}

/// Lifetimes of cached sessions and of negative answers. A session that was not valid is a negative answer: if it
/// becomes valid after all, that is noticed as soon.
struct Lifetimes {
    found: Duration,
    longest_absence: Duration,
}

impl Expiry<SessionToken, Entry> for Lifetimes {
    fn expire_after_create(&self, _: &SessionToken, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(match &entry.absence {
            None => self.found,
            Some(absence) => absence.kept(time::Instant::now(), self.longest_absence),
        })
    }
}

#[cfg(test)]
mod tests;
