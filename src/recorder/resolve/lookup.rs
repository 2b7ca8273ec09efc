//! One lookup: the session of a token and the community of a name, whether or not a view still waits for them.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Resolver, Work};
use crate::auth::{Absent, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::PageCommunity;
use crate::ids::CommunityId;
use crate::metrics::Gauge;
use crate::page_view::{Metrics, PageView, Queue};
use crate::recorder::{AcceptedView, RequestVisitor};

impl Work {
    /// Starts a lookup. If no view waits for its answer any more, the visitor is at least touched in presence: the view
    /// itself was written unresolved.
    pub(super) fn ask(
        &self,
        permit: OwnedSemaphorePermit,
        accepted: &AcceptedView,
    ) -> oneshot::Receiver<ViewLookup> {
        let (answer, waiting) = oneshot::channel();
        let (resolver, destinations) = (self.resolver.clone(), self.destinations.clone());
        let (who, view, from) = (accepted.who.clone(), accepted.view.clone(), accepted.from);
        let seen = accepted.seen;
        let running = Running::new(&destinations.metrics);
        tokio::spawn(async move {
            let (_permit, _running) = (permit, running);
            let found = resolver.look_up(who, &view, from).await;
            if let Err(Ok(LookupAnswer::Found(session, community))) = answer.send(found) {
                destinations.touch(&session, community.as_ref(), &view.finer, seen);
            }
        });
        waiting
    }
}

/// A lookup under way; counted until it is dropped.
struct Running(Gauge);

impl Running {
    fn new(metrics: &Metrics) -> Self {
        let lookups = metrics.queued[Queue::Lookups].clone();
        lookups.inc();
        Self(lookups)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

pub(super) async fn in_time(
    deadline: Instant,
    mut waiting: oneshot::Receiver<ViewLookup>,
) -> Option<ViewLookup> {
    if let Ok(answer) = timeout_at(deadline, &mut waiting).await {
        return answer.ok();
    }
    // An answer that arrives at this moment must not be lost.
    waiting.close();
    waiting.try_recv().ok()
}

pub(super) type ViewLookup = Result<LookupAnswer, Unavailable>;

/// The session and the community of a view.
pub(super) enum LookupAnswer {
    Found(Arc<BrowserSession>, Option<CommunityId>),
    NoSession(Absent),
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
    /// See [`PageCommunity::NoKey`].
    NoKey,
}

/// The database cannot be queried.
pub(super) struct Unavailable;

impl Resolver {
    async fn look_up(&self, who: RequestVisitor, view: &PageView, from: Option<IpAddr>) -> ViewLookup {
        let session = match who {
            RequestVisitor::Session(session) => session,
            RequestVisitor::Token(token, lookup) => {
                let found = self.authenticator.resolve_past(&token, view.at, from).await;
                match (lookup.session(), found) {
                    (Some(session), _) => Arc::clone(session),
                    (None, Ok(Identified::Session(session))) => session,
                    (None, Ok(Identified::NoSession(absent))) => return Ok(LookupAnswer::NoSession(absent)),
                    (None, Ok(Identified::NotYet(until))) => return Ok(LookupAnswer::Doubtful(until)),
                    (None, Err(_)) => return Err(Unavailable),
                }
            }
        };
        let named = match &view.community {
            None => PageCommunity::Nothing,
            Some(named) => self.communities.named(named).await.map_err(|_| Unavailable)?,
        };
        Ok(match named {
            PageCommunity::Community(community) => LookupAnswer::Found(session, Some(community)),
            PageCommunity::Nothing => LookupAnswer::Found(session, None),
            PageCommunity::NoKey => LookupAnswer::NoKey,
        })
    }
}
