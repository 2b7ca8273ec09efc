//! Entries of the session cache, and how long each is kept.

use std::sync::Arc;
use std::time::Duration;

use tokio::time;

use crate::auth::absence::Absence;
use crate::auth::changes::ChangeNumber;
use crate::auth::outcome::Absent;
use crate::browser_session::{BrowserSession, Unusable};

/// The table's answer for a token.
#[derive(Clone)]
pub(super) struct CacheEntry {
    pub(super) session: Option<Arc<BrowserSession>>,
    /// Why a row identifies no user; `None` if it does, or there is no row.
    pub(super) unusable: Option<Unusable>,
    /// The change number when the read began.
    pub(super) read: ChangeNumber,
    /// The time at which the read began.
    pub(super) read_at: time::Instant,
    /// How long the answer holds, if no session was valid then.
    pub(super) absence: Option<Absence>,
}

impl CacheEntry {
    /// Its session, if that satisfies `counts`.
    pub(super) fn session_if(
        self,
        counts: impl Fn(&BrowserSession) -> bool,
    ) -> Result<Arc<BrowserSession>, Absent> {
        match self.session {
            Some(session) if counts(&session) => Ok(session),
            Some(_) => Err(Absent::Ended),
            None => Err(self.unusable.map_or(Absent::NotFound, Absent::Unusable)),
        }
    }

    /// See [`Absence::first_until`].
    pub(super) fn first_absent_until(&self) -> Option<time::Instant> {
        self.absence.and_then(|absence| absence.first_until())
    }
}

/// Lifetimes of cached sessions and of negative answers. A session that was not valid counts as a negative
/// answer, so that it is read again as soon.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetimes {
    /// `session.cache_ttl`
    pub(super) found: Duration,
    /// `session.negative_ttl`
    pub(super) longest_absence: Duration,
}

impl Lifetimes {
    /// How long an entry is kept from now on.
    pub(super) fn of(self, entry: &CacheEntry) -> Duration {
        match &entry.absence {
            None => self.found,
            Some(absence) => absence.kept(time::Instant::now(), self.longest_absence),
        }
    }
}
