//! Sessions kept beyond their time in the cache, for recording while the session table cannot be queried.
//!
//! Not a second cache: it is not used while the table can be queried. It keeps as many sessions as the cache, each
//! until it expires; a new answer of the table replaces the kept one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use moka::Expiry;
use moka::sync::Cache;

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
    /// Time from when it was read until it expires.
    left: Duration,
}

impl FallbackSessions {
    pub(super) fn new(capacity: u64) -> Self {
        let sessions = Cache::builder()
            .max_capacity(capacity)
            .expire_after(UntilExpired)
            .build();
        Self { sessions }
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
                let session = session.clone();
                self.sessions
                    .insert(token.clone(), FallbackSession { session, read, left });
            }
            None => self.forget(token),
        }
    }

    pub(super) fn forget(&self, token: &SessionToken) {
        self.sessions.invalidate(token);
    }

    /// Whether anything is kept of a token.
    pub(super) fn knows(&self, token: &SessionToken) -> bool {
        self.sessions.contains_key(token)
    }

    /// What is kept of a token.
    pub(super) fn get(&self, token: &SessionToken) -> Option<FallbackSession> {
        self.sessions.get(token)
    }

    /// Applies the capacity now; otherwise the cache does it a little later.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.sessions.run_pending_tasks();
    }
}

struct UntilExpired;

impl Expiry<SessionToken, FallbackSession> for UntilExpired {
    fn expire_after_create(&self, _: &SessionToken, kept: &FallbackSession, _: Instant) -> Option<Duration> {
        Some(kept.left)
    }

    fn expire_after_update(
        &self,
        _: &SessionToken,
        kept: &FallbackSession,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.left)
    }
}
