//! Sessions kept past their time in the cache, for recording while the table cannot be asked.
//!
//! Not a second cache: nothing is answered from here while the table can be asked. As many are kept as the
//! cache holds, each until it expires, and what the table says of a token replaces what is kept of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use moka::Expiry;
use moka::sync::Cache;

use super::BrowserSession;
use super::changes::Moment;
use crate::ids::SessionToken;

/// The latest that the table said of tokens that were somebody's.
pub(super) struct Memory {
    sessions: Cache<SessionToken, Kept>,
}

#[derive(Clone)]
pub(super) struct Kept {
    pub(super) session: Arc<BrowserSession>,
    /// Before it was read.
    pub(super) read: Moment,
    /// Time from when it was read until it expires.
    left: Duration,
}

impl Memory {
    pub(super) fn new(capacity: u64) -> Self {
        let sessions = Cache::builder()
            .max_capacity(capacity)
            .expire_after(UntilExpired)
            .build();
        Self { sessions }
    }

    /// Takes note of what the table said of a token at `now`.
    pub(super) fn update(
        &self,
        token: &SessionToken,
        found: Option<&Arc<BrowserSession>>,
        read: Moment,
        now: DateTime<Utc>,
    ) {
        match found.filter(|session| session.is_valid_at(now)) {
            Some(session) => {
                let left = (session.expires_at - now).to_std().unwrap_or_default();
                let session = session.clone();
                self.sessions.insert(token.clone(), Kept { session, read, left });
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
    pub(super) fn get(&self, token: &SessionToken) -> Option<Kept> {
        self.sessions.get(token)
    }

    /// Sees to it that no more are kept than may be; otherwise that happens a little later.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.sessions.run_pending_tasks();
    }
}

struct UntilExpired;

impl Expiry<SessionToken, Kept> for UntilExpired {
    fn expire_after_create(&self, _: &SessionToken, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.left)
    }

    fn expire_after_update(
        &self,
        _: &SessionToken,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.left)
    }
}
