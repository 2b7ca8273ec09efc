//! Decides what a caller may subscribe to: a trait that the visitors API implements, by the rules of its lists.

use std::sync::Arc;

use async_trait::async_trait;

use crate::browser_session::BrowserSession;
use crate::communities::AskedCommunity;
use crate::presence::Scope;

/// The access rules, for one caller.
#[async_trait]
pub trait AccessPolicy: Send + Sync + 'static {
    /// The communities asked for, in the same order; `None` for those that do not exist or that the caller may not
    /// see. `session` is the caller's, as last checked. Takes a bounded time.
    async fn admit(
        &self,
        session: Option<Arc<BrowserSession>>,
        asked: &[String],
    ) -> Result<Vec<Option<AskedCommunity>>, Denied>;

    /// Whether the caller may see each of these communities, or of these things in one, now, in the same order. The page at
    /// `open_page` is still open. Takes a bounded time.
    async fn still_admits(
        &self,
        session: Option<Arc<BrowserSession>>,
        scopes: &[Scope],
        open_page: Option<&Scope>,
    ) -> Result<Vec<bool>, Denied>;

    /// Whether the caller may name communities by their ids. Otherwise an id that is some community's slug names that one.
    fn takes_ids(&self) -> bool {
        true
    }

    /// Whether access may be lost later, while the session lasts.
    fn needs_recheck(&self) -> bool;
}

/// Why access to all communities is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Access cannot be determined now.
    Unavailable,
    /// The caller has no valid session, and would need one.
    NoSession,
}
