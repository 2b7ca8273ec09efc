//! Who may listen to what, as somebody else decides it: the visitors API, by the rules of its lists.

use std::sync::Arc;

use async_trait::async_trait;

use crate::auth::BrowserSession;
use crate::ids::CommunityId;

/// The rules, for one caller.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Which communities are meant, in the order asked; `None` for those that do not exist or that the caller
    /// may not see. `session` is the caller's, as last checked. Takes a bounded time.
    async fn admit(
        &self,
        session: Option<Arc<BrowserSession>>,
        asked: &[String],
    ) -> Result<Vec<Option<CommunityId>>, Denied>;

    /// Whether what was allowed may be forbidden later, while the session lasts.
    fn must_be_asked_again(&self) -> bool;
}

/// Why nothing is known of any community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It cannot be found out right now.
    Unavailable,
    /// The caller has no session, or no longer, and would need one.
    NoSession,
}
