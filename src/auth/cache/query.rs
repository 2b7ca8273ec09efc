//! Current answers: from the cache while they hold, else from the session table, read again where the session changes
//! meanwhile.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::task::yield_now;
use tokio::time;

use super::Authenticator;
use super::entry::CacheEntry;
use crate::auth::absence::Absence;
use crate::auth::lookups::Priority;
use crate::auth::metrics::LookupOutcome;
use crate::browser_session::Unusable;
use crate::ids::SessionToken;
use crate::store::StoreError;

/// Most reads for one lookup, where the session changes while it is read.
const READS: usize = 3;
/// Most lookups for one answer, where the session has changed by the time that they are answered.
const LOOKUPS: usize = 3;

impl Authenticator {
    /// The current answer for a token, queried again where it may have changed.
    pub(super) async fn asked(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
    ) -> Result<CacheEntry, Arc<StoreError>> {
        let (mut before, mut asked) = (None, 1);
        loop {
            let (entry, is_fresh) = self.entry(token, now, from, before.as_ref()).await?;
            // A cached entry that no longer holds, or a new one that a change has overtaken. What another task has asked
            // since is as new.
            let stands = if is_fresh || before.is_some() {
                !self.is_outdated(token, &entry)
            } else {
                self.holds(token, &entry, now)
            };
            if stands || asked == LOOKUPS {
                return Ok(entry);
            }
            if before.is_some() && !is_fresh {
                // Another task has told this one the same old answer, and may be yet to put it into its place, where it can be
                // forgotten. One turn is enough on one thread, and nearly always on several.
                yield_now().await;
            }
            // Another task may have queried again already.
            self.cache
                .forget_if(token, |entry| !self.holds(token, entry, now));
            (before, asked) = (Some(entry), asked + 1);
        }
    }

    /// The cached entry, else a new one from the table, and whether it was just read. `before` is the previous entry.
    async fn entry(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
        before: Option<&CacheEntry>,
    ) -> Result<(CacheEntry, bool), Arc<StoreError>> {
        let mut is_fresh = false;
        let looked_up = self.cache.get(token, async {
            is_fresh = true;
            self.look_up(token, now, from, before).await
        });
        let entry = looked_up
            .await
            .inspect_err(|_| self.count(LookupOutcome::Unavailable))?;
        if !is_fresh && self.holds(token, &entry, now) {
            self.count(LookupOutcome::Cached);
        }
        Ok((entry, is_fresh))
    }

    async fn look_up(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
        from: Option<IpAddr>,
        before: Option<&CacheEntry>,
    ) -> Result<CacheEntry, Arc<StoreError>> {
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
        before: Option<&CacheEntry>,
    ) -> Result<CacheEntry, Arc<StoreError>> {
        let (read, read_at) = (self.changes.now(), time::Instant::now());
        let result = self.lookups.ask(token, rank).await;
        self.log_change(result.as_ref().err().map(|error| &**error));
        let found = result?;
        self.count(match &found {
            Some(Ok(_)) => LookupOutcome::Found,
            Some(Err(Unusable::Anonymous)) => LookupOutcome::Anonymous,
            Some(Err(Unusable::NoProfile)) => LookupOutcome::NoProfile,
            Some(Err(Unusable::Disabled)) => LookupOutcome::Disabled,
            Some(Err(Unusable::Unreadable)) => LookupOutcome::Unreadable,
            None => LookupOutcome::Nobody,
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
        Ok(CacheEntry {
            session,
            unusable,
            read,
            read_at,
            absence,
        })
    }

    /// Whether an entry may still be used. Not after a change, nor where the session was valid and has expired by now:
    /// its expiry may have been extended, which is not notified.
    pub(super) fn holds(&self, token: &SessionToken, entry: &CacheEntry, now: DateTime<Utc>) -> bool {
        let is_over = match (&entry.absence, &entry.session) {
            (Some(absence), _) => absence.is_over(time::Instant::now()),
            (None, Some(session)) => !session.is_valid_at(now),
            (None, None) => false,
        };
        !is_over && !self.is_outdated(token, entry)
    }

    /// Whether the session may have changed, or appeared, since it was read.
    fn is_outdated(&self, token: &SessionToken, entry: &CacheEntry) -> bool {
        match &entry.session {
            Some(session) => !self.changes.none_since(session, entry.read),
            None => self.changes.may_have_appeared(token, entry.read),
        }
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
}
