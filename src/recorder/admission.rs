//! Admission of reported views: a page reports its own view, which no answer of the app confirms. The view counts where
//! the visitor may see the page's community, by the rules of the API's lists; a visitor who may not see it cannot
//! become one of its visitors by a report.

use std::sync::Arc;

use tokio::time::timeout;

use super::resolve::{Found, Resolver};
use super::{Visit, Who};
use crate::auth::Identified;
use crate::communities::Named;
use crate::live::{Denied, Door};

impl Resolver {
    /// The session of a view, and whether it counts. Takes at most the time of a request to the API; a result that is
    /// not known by then is treated as if the database were down.
    pub(super) async fn admit(&self, visit: &Visit, door: &Arc<dyn Door>) -> Found {
        match timeout(self.admission, self.ask(visit, door)).await {
            Ok(found) => found,
            Err(_) if door.must_be_asked_again() => Found::Undecided,
            Err(_) => Found::not_yet(&visit.who),
        }
    }

    async fn ask(&self, visit: &Visit, door: &Arc<dyn Door>) -> Found {
        let Visit { view, who, from, .. } = visit;
        // Where the app decides, no view counts without its answer.
        let is_strict = door.must_be_asked_again();
        let session = match who {
            Who::Session(session) => Arc::clone(session),
            Who::Token(token, glance) => {
                let found = self.authenticator.resolve_past(token, view.at, *from).await;
                let seen = || glance.session().cloned();
                let session = match found {
                    Ok(Identified::Session(session)) => Some(session),
                    Ok(Identified::Nobody) => match seen() {
                        Some(session) => Some(session),
                        None => return Found::Nobody,
                    },
                    Ok(Identified::NotYet(until)) => match seen() {
                        Some(session) => Some(session),
                        None => return Found::Doubtful(until),
                    },
                    Err(_) => seen().or_else(|| self.authenticator.remembered(token, view.at)),
                };
                match session {
                    Some(session) => session,
                    None if is_strict => return Found::Undecided,
                    None => return Found::not_yet(who),
                }
            }
        };
        let undecided = || {
            if is_strict {
                Found::Undecided
            } else {
                Found::not_yet(&Who::Session(Arc::clone(&session)))
            }
        };
        let named = match &view.community {
            Some(named) => self.communities.named(named).await,
            None => Ok(Named::Nothing),
        };
        let named = match named {
            Ok(Named::Community(named)) => named,
            Ok(Named::Nothing) => return Found::All(session, None),
            Ok(Named::NoKey) => return Found::NoKey,
            Err(_) => return undecided(),
        };
        match door.admit(Some(Arc::clone(&session)), &[named.to_string()]).await {
            Ok(admitted) => match admitted.into_iter().flatten().next() {
                Some(community) => Found::All(session, Some(community)),
                None => Found::Forbidden,
            },
            Err(Denied::NoSession) => Found::Nobody,
            Err(Denied::Unavailable) => undecided(),
        }
    }
}
