//! Admission of reported views: a page reports its own view, which no answer of the app confirms. The view counts where
//! the visitor may see the page's community, by the rules of the API's lists; a visitor who may not see it cannot
//! become one of its visitors by a report.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::resolve::ResolvedView;
use super::resolver::{Resolver, may_see};
use super::{AcceptedView, RequestVisitor};
use crate::auth::{Absent, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::PageCommunity;
use crate::live::{AccessPolicy, Denied};

impl Resolver {
    /// The session of a view, and whether it counts. Takes at most the time of a request to the API; a result that is
    /// not known by then is treated as if the database were down. A session that was found by then is kept: the token
    /// may soon be another session's or none's.
    pub(super) async fn admit(
        &self,
        accepted: &AcceptedView,
        access_policy: &Arc<dyn AccessPolicy>,
    ) -> ResolvedView {
        let until = Instant::now() + self.admission;
        // Where the app decides, no view counts without its answer.
        let undecided = |who: &RequestVisitor| {
            if access_policy.needs_recheck() {
                ResolvedView::Undecided
            } else {
                ResolvedView::not_yet(who)
            }
        };
        let session = match timeout_at(until, self.session(accepted)).await {
            Ok(VisitorFound::Session(session)) => session,
            Ok(VisitorFound::NoSession(found)) => return found,
            Ok(VisitorFound::Unknown) | Err(_) => return undecided(&accepted.who),
        };
        match timeout_at(until, self.may_see(&session, accepted, access_policy)).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => undecided(&RequestVisitor::Session(session)),
        }
    }

    async fn session(&self, AcceptedView { view, who, from, .. }: &AcceptedView) -> VisitorFound {
        let (token, lookup) = match who {
            RequestVisitor::Session(session) => return VisitorFound::Session(Arc::clone(session)),
            RequestVisitor::Token(token, lookup) => (token, lookup),
        };
        let found = self.authenticator.resolve_past(token, view.at, *from).await;
        let seen = lookup.session().cloned();
        match (found, seen) {
            (Ok(Identified::Session(session)), _) | (Ok(_), Some(session)) => VisitorFound::Session(session),
            (Ok(Identified::NoSession(absent)), None) => {
                VisitorFound::NoSession(ResolvedView::NoSession(absent))
            }
            (Ok(Identified::NotYet(until)), None) => VisitorFound::NoSession(ResolvedView::Doubtful(until)),
            (Err(_), seen) => match seen.or_else(|| self.authenticator.last_known_session(token, view.at)) {
                Some(session) => VisitorFound::Session(session),
                None => VisitorFound::Unknown,
            },
        }
    }

    /// What becomes of a session's view; none where that cannot be found out.
    async fn may_see(
        &self,
        session: &Arc<BrowserSession>,
        accepted: &AcceptedView,
        access_policy: &Arc<dyn AccessPolicy>,
    ) -> Option<ResolvedView> {
        let named = match &accepted.view.community {
            Some(named) => self.communities.named(named).await,
            None => Ok(PageCommunity::Nothing),
        };
        let named = match named {
            Ok(PageCommunity::Community(named)) => named,
            Ok(PageCommunity::Nothing) => return Some(ResolvedView::All(Arc::clone(session), None)),
            Ok(PageCommunity::NoKey) => return Some(ResolvedView::NoKey),
            Err(_) => return None,
        };
        match may_see(&**access_policy, session, &named).await {
            Ok(true) => Some(ResolvedView::All(Arc::clone(session), Some(named))),
            Ok(false) => Some(ResolvedView::Forbidden),
            Err(Denied::NoSession) => Some(ResolvedView::NoSession(Absent::Ended)),
            Err(Denied::Unavailable) => None,
        }
    }
}

/// The visitor of a view, if found.
enum VisitorFound {
    Session(Arc<BrowserSession>),
    /// It is no session's, as far as is known.
    NoSession(ResolvedView),
    /// The database cannot be asked.
    Unknown,
}
