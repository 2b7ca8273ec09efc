//! One lookup: the session of a token and the community of a name, whether or not a view still waits for them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
use crate::store::StoreError;

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

    /// Bytes that it takes up.
    pub(crate) fn weight(&self) -> usize {
        let who = match &self.who {
            RequestVisitor::Session(session) => {
                size_of::<BrowserSession>()
                    + session.user_id.as_str().len()
                    + session.id.as_ref().map_or(0, |id| id.as_str().len())
            }
            RequestVisitor::Token(token, _) => token.expose_secret().len(),
        };
        let community = match &self.community {
            None => 0,
            Some(CommunityRef::Id(text) | CommunityRef::Slug(text)) => text.len(),
            Some(CommunityRef::Lookup(name, key)) => name.len() + key.len(),
        };
        let finer = self.finer.iter();
        let finer = finer.map(|finer| size_of::<Finer>() + finer.kind().len() + finer.key().len());
        size_of::<Self>() + who + community + finer.sum::<usize>()
    }
}

impl Work {
    /// Starts a lookup. If no view waits for its answer any more, the visitor is at least touched in presence, or looked
    /// up again for that unless `is_settled`: the view itself was written unresolved.
    pub(super) fn ask(
        &self,
        permit: OwnedSemaphorePermit,
        accepted: &AcceptedView,
        is_stranger: bool,
        is_settled: Arc<AtomicBool>,
    ) -> oneshot::Receiver<ViewLookup> {
        let (answer, waiting) = oneshot::channel();
        let (resolver, destinations) = (self.resolver.clone(), self.destinations.clone());
        let (sought, late) = (Sought::of(accepted), self.late.clone());
        let running = Running::new(&destinations.metrics);
        tokio::spawn(async move {
            let (_permit, _running) = (permit, running);
            let found = resolver.look_up(&sought).await;
            match answer.send(found) {
                Err(Ok(LookupAnswer::ResolvedView(session, community))) => {
                    destinations.touch(&session, community.as_ref(), &sought.finer, sought.seen);
                }
                Err(Ok(LookupAnswer::Doubtful(_)) | Err(_)) if !is_settled.load(Ordering::Relaxed) => {
                    late.add(sought, is_stranger);
                }
                Ok(()) | Err(_) => {}
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

pub(crate) type ViewLookup = Result<LookupAnswer, LookupFailure>;

/// The session and the community of a view.
pub(crate) enum LookupAnswer {
    ResolvedView(Arc<BrowserSession>, Option<CommunityId>),
    NoSession(Absent),
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
    /// See [`PageCommunity::NoKey`].
    NoKey,
}

/// Why a lookup has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LookupFailure {
    /// The database cannot be queried for now.
    Unavailable,
    /// It refuses the query, or what it holds cannot be read: so it will next time.
    Refused,
}

impl From<Arc<StoreError>> for LookupFailure {
    fn from(error: Arc<StoreError>) -> Self {
        match *error {
            StoreError::Unavailable(_) => Self::Unavailable,
            _ => Self::Refused,
        }
    }
}

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
                    (None, Err(error)) => return Err(error.into()),
                }
            }
        };
        let named = match &sought.community {
            None => PageCommunity::Nothing,
            Some(named) => self.communities.named(named).await?,
        };
        Ok(match named {
            PageCommunity::Community(community) => LookupAnswer::ResolvedView(session, Some(community)),
            PageCommunity::Nothing => LookupAnswer::ResolvedView(session, None),
            PageCommunity::NoKey => LookupAnswer::NoKey,
        })
    }
}
