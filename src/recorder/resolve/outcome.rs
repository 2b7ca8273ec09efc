//! What has become of a view when its time for lookups is over.

use std::sync::Arc;

use tokio::time::Instant;

use crate::auth::Absent;
use crate::browser_session::BrowserSession;
use crate::ids::CommunityId;
use crate::recorder::RequestVisitor;
use crate::writer::unresolved::VisitorRef;

/// The result for a view when its time is over.
pub(in crate::recorder) enum ResolvedView {
    /// Its session, and its community.
    All(Arc<BrowserSession>, Option<CommunityId>),
    NoSession(Absent),
    /// See [`crate::auth::Identified::NotYet`].
    Doubtful(Instant),
    /// The visitor may not see its community, or there is none.
    Forbidden,
    /// See [`crate::communities::PageCommunity::NoKey`].
    NoKey,
    /// Whether the visitor may see its community could not be checked.
    Undecided,
    /// One of too many views of tokens that were never seen with a session.
    Overflow,
    NotYet(VisitorRef),
}

impl ResolvedView {
    pub(in crate::recorder) fn not_yet(who: &RequestVisitor) -> Self {
        Self::NotYet(match who {
            RequestVisitor::Session(session) => VisitorRef::Session {
                id: session.id.clone(),
                user_id: session.user_id.clone(),
            },
            // The app may have given the session another token since.
            RequestVisitor::Token(token, lookup) => match lookup.session() {
                Some(session) => VisitorRef::Session {
                    id: session.id.clone(),
                    user_id: session.user_id.clone(),
                },
                None => VisitorRef::Token(token.clone()),
            },
        })
    }
}
