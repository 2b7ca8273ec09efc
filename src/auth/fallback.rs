//! Sessions kept beyond their time in the cache, for recording while the session table cannot be queried.
//!
//! Not a second cache: it is not used while the table can be queried. It keeps as many sessions as the cache, each
//! until it expires; a new answer of the table replaces the kept one.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;

use super::changes::ChangeNumber;
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;

/// The latest valid sessions of tokens.
pub(super) struct FallbackSessions {
    sessions: Cache<SessionToken, FallbackSession>,
}

#[derive(Clone)]
pub(super) struct FallbackSession {
    pub(super) session: Arc<BrowserSession>,
    /// The change number before it was read.
    pub(super) read: ChangeNumber,
    /// When it expires, by the time at which it was read; `None` in a time beyond what can be told.
    until: Option<Instant>,
}

impl FallbackSessions {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            sessions: Cache::new(capacity),
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
        self.sessions.remove(token);
    }

    /// Whether anything is kept of a token.
    pub(super) fn knows(&self, token: &SessionToken) -> bool {
        self.get(token).is_some()
    }

    /// What is kept of a token.
    pub(super) fn get(&self, token: &SessionToken) -> Option<FallbackSession> {
        let kept = self.sessions.get(token)?;
        kept.until
            .is_none_or(|until| Instant::now() < until)
            .then_some(kept)
    }
}
