//! Sessions kept beyond their time in the cache, for recording while the session table cannot be queried.
//!
//! Not a second cache: it is not used while the table can be queried. It has room for as many sessions as the cache, and keeps
//! each until it expires; a new answer of the table replaces the kept one.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};

use super::changes::ChangeNumber;
use crate::browser_session::BrowserSession;
use crate::expiring_cache::{Ends, ExpiringCache};
use crate::ids::SessionToken;

/// The latest valid sessions of tokens.
pub(super) struct FallbackSessions {
    sessions: ExpiringCache<SessionToken, FallbackSession>,
}

#[derive(Clone)]
pub(super) struct FallbackSession {
    pub(super) session: Arc<BrowserSession>,
    /// The change number before it was read.
    pub(super) read: ChangeNumber,
    /// When it expires, by the time at which it was read; `None` in a time beyond what can be told.
    until: Option<Instant>,
}

impl Ends for FallbackSession {
    fn counts_now() -> impl Fn(&Self) -> bool + Send {
        let now = Instant::now();
        move |kept| kept.until.is_none_or(|until| now < until)
    }
}

impl FallbackSessions {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            sessions: ExpiringCache::new(capacity),
        }
    }

    /// Keeps the table's answer for a token at `now`.
    pub(super) fn update(
        &self,
        token: &SessionToken,
        found: Option<&Arc<BrowserSession>>,
        read: ChangeNumber,
        now: DateTime<Utc>,
    ) {
        match found.filter(|session| session.is_valid_at(now)) {
            Some(session) => {
                let left = (session.expires_at - now).to_std().unwrap_or_default();
                let (session, until) = (session.clone(), Instant::now().checked_add(left));
                self.sessions
                    .insert(token.clone(), FallbackSession { session, read, until });
            }
            None => self.forget(token),
        }
    }

    pub(super) fn forget(&self, token: &SessionToken) {
        self.sessions.remove_if(token, |_| true);
    }

    /// Forgets what was read at this number, or earlier: not what another task has read since.
    pub(super) fn forget_outdated(&self, token: &SessionToken, read: ChangeNumber) {
        self.sessions.remove_if(token, |kept| kept.read <= read);
    }

    /// Whether anything is kept of a token.
    pub(super) fn knows(&self, token: &SessionToken) -> bool {
        self.get(token).is_some()
    }

    /// What is kept of a token.
    pub(super) fn get(&self, token: &SessionToken) -> Option<FallbackSession> {
        self.sessions.get(token)
    }
}
