//! Outcomes of identifying a session token.

use std::sync::Arc;

use tokio::time;

use crate::browser_session::{BrowserSession, Unusable};

/// The cached answer for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachedSession {
    /// A valid session.
    Session(Arc<BrowserSession>),
    /// No session.
    NoSession(Absent),
    /// Not in the cache: call [`Authenticator::resolve`](super::Authenticator::resolve).
    Unknown,
}

impl CachedSession {
    /// Whether no query is needed.
    pub(super) fn is_known(&self) -> bool {
        *self != Self::Unknown
    }

    pub(super) fn session(self) -> Option<Arc<BrowserSession>> {
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
    /// The table has its row, and the row identifies no user.
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
