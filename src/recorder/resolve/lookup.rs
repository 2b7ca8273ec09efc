//! One lookup: the session of a token and the community of a name, whether or not a view still waits for them.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Resolver, Work};
use crate::auth::{Absent, Identified};
use crate::browser_session::BrowserSession;
use crate::communities::PageCommunity;
use crate::ids::{CommunityId, Finer};
use crate::metrics::Gauge;
use crate::page_view::{Metrics, Queue};
use crate::presence::moment::Moment;
use crate::recorder::{AcceptedView, RequestVisitor};
use crate::routes::CommunityRef;

/// Whose session is looked up, and where they were.
#[derive(Clone)]
pub(crate) struct Sought {
    pub(crate) who: RequestVisitor,
    pub(crate) from: Option<IpAddr>,
    /// When the view was requested.
    pub(crate) at: DateTime<Utc>,
    /// When it was accepted.
    pub(crate) seen: Moment,
    pub(crate) community: Option<CommunityRef>,
    pub(crate) finer: Arc<[Finer]>,
}

impl Sought {
    pub(super) fn of(accepted: &AcceptedView) -> Self {
        Self {
            who: accepted.who.clone(),
            from: accepted.from,
            at: accepted.view.at,
            seen: accepted.seen,
            community: accepted.view.community.clone(),
            finer: Arc::clone(&accepted.view.finer),
        }
    }
}

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
        let sought = Sought::of(accepted);
        let running = Running::new(&destinations.metrics);
        tokio::spawn(async move {
            let (_permit, _running) = (permit, running);
            let found = resolver.look_up(&sought).await;
            if let Err(Ok(LookupAnswer::ResolvedView(session, community))) = answer.send(found) {
                destinations.touch(&session, community.as_ref(), &sought.finer, sought.seen);
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

pub(crate) type ViewLookup = Result<LookupAnswer, Unavailable>;

/// The session and the community of a view.
pub(crate) enum LookupAnswer {
    ResolvedView(Arc<BrowserSession>, Option<CommunityId>),
    NoSession(Absent),
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
    /// See [`PageCommunity::NoKey`].
    NoKey,
}

/// The database cannot be queried.
pub(crate) struct Unavailable;

impl Resolver {
    pub(crate) async fn look_up(&self, sought: &Sought) -> ViewLookup {
        let session = match &sought.who {
            RequestVisitor::Session(session) => Arc::clone(session),
            RequestVisitor::Token(token, lookup) => {
                let asked = self.authenticator.resolve_past(token, sought.at, sought.from);
                let found = asked.await;
                match (lookup.session(), found) {
                    (Some(session), _) => Arc::clone(session),
                    (None, Ok(Identified::Session(session))) => session,
                    (None, Ok(Identified::NoSession(absent))) => return Ok(LookupAnswer::NoSession(absent)),
                    (None, Ok(Identified::NotYet(until))) => return Ok(LookupAnswer::Doubtful(until)),
                    (None, Err(_)) => return Err(Unavailable),
                }
            }
        };
        let named = match &sought.community {
            None => PageCommunity::Nothing,
            Some(named) => self.communities.named(named).await.map_err(|_| Unavailable)?,
        };
        Ok(match named {
            PageCommunity::Community(community) => LookupAnswer::ResolvedView(session, Some(community)),
            PageCommunity::Nothing => LookupAnswer::ResolvedView(session, None),
            PageCommunity::NoKey => LookupAnswer::NoKey,
        })
    }
}
