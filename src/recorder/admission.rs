//! Admission of reported views: a page reports its own view, which no answer of the app confirms. The view counts where
//! the visitor may see the page's community, by the rules of the API's lists; a visitor who may not see it cannot
//! become one of its visitors by a report.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::resolve::{Found, Resolver};
use super::{Visit, Who};
use crate::auth::Identified;
use crate::browser_session::BrowserSession;
use crate::communities::Named;
use crate::live::{Denied, Door};

impl Resolver {
    /// The session of a view, and whether it counts. Takes at most the time of a request to the API; a result that is
    /// not known by then is treated as if the database were down. A session that was found by then is kept: the token
    /// may soon be another session's or none's.
    pub(super) async fn admit(&self, visit: &Visit, door: &Arc<dyn Door>) -> Found {
        let until = Instant::now() + self.admission;
        // Where the app decides, no view counts without its answer.
        let undecided = |who: &Who| {
            if door.must_be_asked_again() {
                Found::Undecided
            } else {
                Found::not_yet(who)
            }
        };
        let session = match timeout_at(until, self.session(visit)).await {
            Ok(Whom::Session(session)) => session,
            Ok(Whom::Nobody(found)) => return found,
            Ok(Whom::Unknown) | Err(_) => return undecided(&visit.who),
        };
        match timeout_at(until, self.may_see(&session, visit, door)).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => undecided(&Who::Session(session)),
        }
    }

    async fn session(&self, Visit { view, who, from, .. }: &Visit) -> Whom {
        let (token, glance) = match who {
            Who::Session(session) => return Whom::Session(Arc::clone(session)),
            Who::Token(token, glance) => (token, glance),
        };
        let found = self.authenticator.resolve_past(token, view.at, *from).await;
        let seen = glance.session().cloned();
        match (found, seen) {
            (Ok(Identified::Session(session)), _) | (Ok(_), Some(session)) => Whom::Session(session),
            (Ok(Identified::Nobody), None) => Whom::Nobody(Found::Nobody),
            (Ok(Identified::NotYet(until)), None) => Whom::Nobody(Found::Doubtful(until)),
            (Err(_), seen) => match seen.or_else(|| self.authenticator.remembered(token, view.at)) {
                Some(session) => Whom::Session(session),
                None => Whom::Unknown,
            },
        }
    }

    /// What becomes of a session's view; none where that cannot be found out.
    async fn may_see(
        &self,
        session: &Arc<BrowserSession>,
        visit: &Visit,
        door: &Arc<dyn Door>,
    ) -> Option<Found> {
        let named = match &visit.view.community {
            Some(named) => self.communities.named(named).await,
            None => Ok(Named::Nothing),
        };
        let named = match named {
            Ok(Named::Community(named)) => named,
            Ok(Named::Nothing) => return Some(Found::All(Arc::clone(session), None)),
            Ok(Named::NoKey) => return Some(Found::NoKey),
            Err(_) => return None,
        };
        match door.admit(Some(Arc::clone(session)), &[named.to_string()]).await {
            Ok(admitted) => Some(match admitted.into_iter().flatten().next() {
                Some(community) => Found::All(Arc::clone(session), Some(community)),
                None => Found::Forbidden,
            }),
            Err(Denied::NoSession) => Some(Found::Nobody),
            Err(Denied::Unavailable) => None,
        }
    }
}

/// Whose a view is.
enum Whom {
    Session(Arc<BrowserSession>),
    /// It is no session's, as far as is known.
    Nobody(Found),
    /// The database cannot be asked.
    Unknown,
}
