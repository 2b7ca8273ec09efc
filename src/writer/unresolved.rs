//! Unresolved views: accepted before their visitor or community was known, because the database was away or slow.

use crate::ids::{BrowserSessionId, SessionToken, UserId};
use crate::page_view::PageView;

/// A page view whose visitor or community must still be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct UnresolvedView {
    /// The view.
    pub view: PageView,
    /// What is known of its visitor.
    pub whose: VisitorRef,
}

/// What is known of an unresolved view's visitor.
#[derive(Debug, Clone, PartialEq)]
pub enum VisitorRef {
    /// The session, but not the community that the view names by its slug.
    Session {
        /// Primary key of the session; `None` where a JWT names none.
        id: Option<BrowserSessionId>,
        /// The visitor.
        user_id: UserId,
    },
    /// Only the token.
    Token(SessionToken),
}

impl UnresolvedView {
    /// Approximate size of this view in bytes, to bound a queue by.
    pub fn weight(&self) -> usize {
        let token = match &self.whose {
            VisitorRef::Token(token) => token.expose_secret().len(),
            VisitorRef::Session { .. } => 0,
        };
        self.view.weight() + token
    }
}
