//! Views that were accepted before it was known whose they are, or where: the database was away or slow.

use crate::ids::{BrowserSessionId, SessionToken, UserId};
use crate::page_view::PageView;

/// A page view whose visitor or community must still be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct UnresolvedView {
    /// What was seen.
    pub view: PageView,
    /// Whose it is.
    pub whose: Whose,
}

/// What is known of an unresolved view's visitor.
#[derive(Debug, Clone, PartialEq)]
pub enum Whose {
    /// The session, but not the community that the view names by its slug.
    Session {
        /// Primary key of the session.
        id: BrowserSessionId,
        /// Whose it is.
        user_id: UserId,
    },
    /// Only the token.
    Token(SessionToken),
}

impl UnresolvedView {
    /// Bytes this view holds, near enough to bound a queue by.
    pub fn weight(&self) -> usize {
        let token = match &self.whose {
            Whose::Token(token) => token.expose_secret().len(),
            Whose::Session { .. } => 0,
        };
        self.view.weight() + token
    }
}
