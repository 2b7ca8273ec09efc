//! Views whose visitor or community must be looked up first: after the response, a bounded number at a time,
//! and not for longer than a view may stay off the disk. What is not known by then is written unresolved.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use prometheus::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::load::{InHand, Load};
use super::{Destinations, Message, Visit, Who};
use crate::auth::{Authenticator, BrowserSession};
use crate::communities::Communities;
use crate::ids::CommunityId;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::{NotCounted, PageView};
use crate::tasks::{Task, Tasks};
use crate::writer::unresolved::{UnresolvedView, Whose};

/// Lookups at one time, waited for or not. They are bounded further by the authenticator.
const LOOKUPS: usize = 256;

/// Views in hand at one time; more wait in the queue.
const IN_FLIGHT: usize = 1_024;

/// Answers who a token is and which community a slug is.
#[derive(Clone)]
pub struct Resolver {
    /// Token to session.
    pub authenticator: Arc<Authenticator>,
    /// Slug to id.
    pub communities: Arc<Communities>,
    /// How long a view waits for the answers. They are remembered even if they come later.
    pub patience: Duration,
}

/// What the worker works with.
pub(super) struct Work {
    pub(super) resolver: Resolver,
    pub(super) destinations: Destinations,
    pub(super) load: Load,
    pub(super) lookups: Arc<Semaphore>,
    pub(super) metrics: Arc<Metrics>,
}

impl Work {
    pub(super) fn new(
        resolver: Resolver,
        destinations: Destinations,
        load: Load,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            resolver,
            destinations,
            load,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            metrics,
        }
    }
}

/// Looks up, as long as it is run.
pub(crate) struct Worker {
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) work: Work,
}

impl Worker {
    /// Runs until every handle is gone and the queue is empty.
    pub(crate) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::Recorder, self, |worker| {
            run(&mut worker.queue, &worker.work).boxed()
        });
    }
}

async fn run(queue: &mut mpsc::Receiver<Message>, work: &Work) {
    let mut in_flight = FuturesUnordered::new();
    loop {
        let message = tokio::select! {
            Some(_) = in_flight.next() => continue,
            message = queue.recv(), if in_flight.len() < IN_FLIGHT => message,
        };
        match message {
            Some(Message::Visit(visit)) => {
                // One that panics keeps no other; it is accounted for.
                in_flight.push(AssertUnwindSafe(work.resolve(*visit)).catch_unwind());
            }
            Some(Message::Flush(done)) => {
                while in_flight.next().await.is_some() {}
                let _ = done.send(());
            }
            None => break,
        }
    }
    while in_flight.next().await.is_some() {}
}

impl Work {
    /// Looks one view's visitor and community up, and hands it on.
    async fn resolve(&self, visit: Visit) {
        let Visit { view, who } = visit;
        let mut hand = InHand::new(&self.load, &self.metrics);
        hand.take(view.weight());
        let found = self.look_up(&who, &view).await;
        // Its bytes are the writer's now, or nobody's.
        hand.free();
        match found {
            Found::All(session, community) => self.destinations.deliver(view, &session, community),
            Found::Nobody => {
                let reason = NotCounted::Anonymous.label();
                self.metrics
                    .page_views_not_counted
                    .with_label_values(&[reason])
                    .inc();
            }
            Found::NotYet(whose) => self.destinations.postpone(UnresolvedView { view, whose }),
        }
        hand.done();
    }

    /// What is found out in time. Lookups go on when nobody waits any more: the next view has use for them.
    async fn look_up(&self, who: &Who, view: &PageView) -> Found {
        let deadline = Instant::now() + self.resolver.patience;
        let permit = Arc::clone(&self.lookups).acquire_owned();
        let looked_up = match timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => in_time(deadline, self.ask(permit, who, view)).await,
            Ok(Err(_)) | Err(_) => None,
        };
        match looked_up {
            Some(Ok(Some((session, community)))) => return Found::All(session, community),
            Some(Ok(None)) => return Found::Nobody,
            // Only late: the session may have ended, which is found out before the view is applied.
            None if !self.resolver.authenticator.is_away() => return Found::not_yet(who),
            Some(Err(Unavailable)) | None => {}
        }
        let session = match who {
            Who::Session(session) => Arc::clone(session),
            Who::Token(token) => match self.resolver.authenticator.remembered(token, view.at) {
                Some(session) => session,
                None => return Found::not_yet(who),
            },
        };
        match self.resolver.communities.cached(view.community.as_ref()).await {
            Ok(community) => Found::All(session, community),
            Err(_) => Found::not_yet(&Who::Session(session)),
        }
    }
}

impl Work {
    /// Starts a lookup. If nobody waits for its answer any more, the visitor is at least noticed to be here: the
    /// view itself has gone another way.
    fn ask(&self, permit: OwnedSemaphorePermit, who: &Who, view: &PageView) -> oneshot::Receiver<Answer> {
        let (answer, waiting) = oneshot::channel();
        let (resolver, destinations) = (self.resolver.clone(), self.destinations.clone());
        let (who, view) = (who.clone(), view.clone());
        let running = Running::new(&self.metrics);
        tokio::spawn(async move {
            let (_permit, _running) = (permit, running);
            let found = resolver.look_up(who, &view).await;
            if let Err(Ok(Some((session, community)))) = answer.send(found) {
                destinations.touch(&session, community.as_ref());
            }
        });
        waiting
    }
}

/// A lookup under way, however it ends.
struct Running(Gauge);

impl Running {
    fn new(metrics: &Metrics) -> Self {
        let lookups = metrics.recorder_queue_views.with_label_values(&["lookups"]);
        lookups.inc();
        Self(lookups)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn in_time(deadline: Instant, mut waiting: oneshot::Receiver<Answer>) -> Option<Answer> {
    if let Ok(answer) = timeout_at(deadline, &mut waiting).await {
        return answer.ok();
    }
    // One that came this very moment must not be lost.
    waiting.close();
    waiting.try_recv().ok()
}

/// Whose a view is, and where; `None` if it is nobody's.
type Answer = Result<Option<(Arc<BrowserSession>, Option<CommunityId>)>, Unavailable>;

/// What is known of a view once its time is over.
enum Found {
    All(Arc<BrowserSession>, Option<CommunityId>),
    Nobody,
    NotYet(Whose),
}

impl Found {
    fn not_yet(who: &Who) -> Self {
        Self::NotYet(match who {
            Who::Session(session) => Whose::Session {
                id: session.id.clone(),
                user_id: session.user_id.clone(),
            },
            Who::Token(token) => Whose::Token(token.clone()),
        })
    }
}

/// The database cannot be asked.
struct Unavailable;

impl Resolver {
    async fn look_up(&self, who: Who, view: &PageView) -> Answer {
        let session = match who {
            Who::Session(session) => session,
            Who::Token(token) => {
                let found = self.authenticator.resolve_past(&token, view.at).await;
                match found.map_err(|_| Unavailable)? {
                    Some(session) => session,
                    None => return Ok(None),
                }
            }
        };
        let community = match &view.community {
            None => None,
            Some(named) => self.communities.named(named).await.map_err(|_| Unavailable)?,
        };
        Ok(Some((session, community)))
    }
}

impl Destinations {
    /// Gives a view that is not known whose to the writer, which finds out later; where there is none, it is
    /// given up.
    fn postpone(&self, view: UnresolvedView) {
        let given_up = match &view.whose {
            Whose::Token(_) => Dropped::SessionUnavailable,
            Whose::Session { .. } => Dropped::CommunityUnavailable,
        };
        let written = match &self.writer {
            Some(writer) => writer.write_unresolved(view),
            None => Err(given_up),
        };
        if let Err(reason) = written {
            self.metrics.dropped(reason);
        }
    }
}
