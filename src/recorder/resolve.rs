//! Views whose visitor or community must be looked up first: after the response, a bounded number at a time,
//! and not for longer than a view may stay off the disk. What is not known by then is written unresolved.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::load::Load;
use super::{Destinations, Message, Visit, Who};
use crate::auth::{Authenticator, BrowserSession, Identified};
use crate::communities::Communities;
use crate::ids::CommunityId;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::{NotCounted, PageView};
use crate::writer::unresolved::{UnresolvedView, Whose};

/// Lookups at one time, waited for or not. They are bounded further by the authenticator.
const LOOKUPS: usize = 256;

/// Views in hand at one time; more wait in the queue.
const IN_FLIGHT: usize = 1_024;

/// Reported views of which is asked at one time whether the visitor may see their community; more are given up.
const ADMISSIONS: usize = 512;

/// Views of tokens that are to be asked about once more, waiting at one time; more are taken for nobody's at once.
const DOUBTFUL: usize = 2_048;

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
    /// True while nothing may wait.
    pub(super) hurry: watch::Sender<bool>,
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
            hurry: watch::Sender::new(false),
            metrics,
        }
    }
}

/// The worker: ends when every handle is gone and the queue is empty.
pub(super) async fn run(mut queue: mpsc::Receiver<Message>, work: Work) {
    let (mut in_flight, mut asking) = (FuturesUnordered::new(), FuturesUnordered::new());
    let mut doubtful = FuturesUnordered::new();
    let wait_for_row = |doubt: Option<Doubt>, doubtful: &FuturesUnordered<_>| match doubt {
        Some(doubt) if doubtful.len() < DOUBTFUL => doubtful.push(work.ask_again(doubt)),
        Some(doubt) => work.hand_on(doubt.visit.view, Found::Nobody),
        None => {}
    };
    loop {
        let message = tokio::select! {
            Some(doubt) = in_flight.next() => {
                wait_for_row(doubt, &doubtful);
                continue;
            }
            Some(doubt) = asking.next() => {
                wait_for_row(doubt, &doubtful);
                continue;
            }
            Some(()) = doubtful.next() => continue,
            message = queue.recv(), if in_flight.len() < IN_FLIGHT => message,
        };
        let flushed = match message {
            Some(Message::Visit(visit)) => {
                if !visit.needs_admission() {
                    in_flight.push(work.resolve(*visit));
                } else if asking.len() < ADMISSIONS {
                    asking.push(work.resolve(*visit));
                } else {
                    work.hand_on(visit.view, Found::Undecided);
                }
                continue;
            }
            Some(Message::Flush(done)) => Some(done),
            None => None,
        };
        while let Some(doubt) = in_flight.next().await {
            wait_for_row(doubt, &doubtful);
        }
        while let Some(doubt) = asking.next().await {
            wait_for_row(doubt, &doubtful);
        }
        work.hurry.send_replace(true);
        while doubtful.next().await.is_some() {}
        work.hurry.send_replace(false);
        match flushed {
            Some(done) => {
                let _ = done.send(());
            }
            None => return,
        }
    }
}

/// A view whose token is nobody's so far, and is to be asked about once more.
struct Doubt {
    visit: Visit,
    until: Instant,
}

impl Work {
    /// Looks one view's visitor and community up, and hands it on, unless it is to be asked about once more.
    async fn resolve(&self, visit: Visit) -> Option<Doubt> {
        let found = match visit.door.as_ref().filter(|_| visit.needs_admission()) {
            Some(door) => self.resolver.admit(&visit.who, &visit.view, door).await,
            None => self.look_up(&visit.who, &visit.view).await,
        };
        if let Found::Doubtful(until) = found {
            return Some(Doubt { visit, until });
        }
        self.hand_on(visit.view, found);
        None
    }

    /// Asks about a view's token once more, when it is time.
    async fn ask_again(&self, doubt: Doubt) {
        let Doubt { visit, until } = doubt;
        let mut hurry = self.hurry.subscribe();
        let is_in_a_hurry = async { hurry.wait_for(|hurry| *hurry).await.is_ok() };
        if timeout_at(until, is_in_a_hurry).await.is_ok()
            && let Who::Token(token, _) = &visit.who
        {
            self.resolver.authenticator.forget_absence(token).await;
        }
        if let Some(doubt) = self.resolve(visit).await {
            self.hand_on(doubt.visit.view, Found::Nobody);
        }
    }

    fn hand_on(&self, view: PageView, found: Found) {
        // Its bytes are the writer's now, or nobody's.
        self.load.free(view.weight());
        match found {
            Found::All(session, community) => self.destinations.deliver(view, &session, community),
            Found::Nobody | Found::Doubtful(_) => self.not_counted(NotCounted::Anonymous),
            // As the app would have answered.
            Found::Forbidden => self.not_counted(NotCounted::Error),
            Found::Undecided => self.metrics.dropped(Dropped::AccessUnavailable),
            Found::NotYet(whose) => self.destinations.postpone(UnresolvedView { view, whose }),
        }
        self.load.done(1);
    }

    fn not_counted(&self, reason: NotCounted) {
        let counter = &self.metrics.page_views_not_counted;
        counter.with_label_values(&[reason.label()]).inc();
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
            Some(Ok(Answer::Found(session, community))) => return Found::All(session, community),
            Some(Ok(Answer::Nobody)) => return Found::Nobody,
            Some(Ok(Answer::Doubtful(until))) => return Found::Doubtful(until),
            // Only late: the session may have ended, which is found out before the view is applied.
            None if !self.resolver.authenticator.is_away() => return Found::not_yet(who),
            Some(Err(Unavailable)) | None => {}
        }
        let session = match who {
            Who::Session(session) => Arc::clone(session),
            Who::Token(token, glance) => {
                let seen = glance.session().cloned();
                match seen.or_else(|| self.resolver.authenticator.remembered(token, view.at)) {
                    Some(session) => session,
                    None => return Found::not_yet(who),
                }
            }
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
    fn ask(&self, permit: OwnedSemaphorePermit, who: &Who, view: &PageView) -> oneshot::Receiver<Asked> {
        let (answer, waiting) = oneshot::channel();
        let (resolver, destinations) = (self.resolver.clone(), self.destinations.clone());
        let (who, view) = (who.clone(), view.clone());
        let running = self.metrics.recorder_queue_views.with_label_values(&["lookups"]);
        running.inc();
        tokio::spawn(async move {
            let _permit = permit;
            let found = resolver.look_up(who, &view).await;
            if let Err(Ok(Answer::Found(session, community))) = answer.send(found) {
                destinations.touch(&session, community.as_ref());
            }
            running.dec();
        });
        waiting
    }
}

async fn in_time(deadline: Instant, mut waiting: oneshot::Receiver<Asked>) -> Option<Asked> {
    if let Ok(answer) = timeout_at(deadline, &mut waiting).await {
        return answer.ok();
    }
    // One that came this very moment must not be lost.
    waiting.close();
    waiting.try_recv().ok()
}

type Asked = Result<Answer, Unavailable>;

/// Whose a view is, and where.
enum Answer {
    Found(Arc<BrowserSession>, Option<CommunityId>),
    Nobody,
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
}

/// What is known of a view once its time is over.
pub(super) enum Found {
    /// Whose it is, and where.
    All(Arc<BrowserSession>, Option<CommunityId>),
    Nobody,
    /// See [`Identified::NotYet`].
    Doubtful(Instant),
    /// The visitor may not see its community, or there is none.
    Forbidden,
    /// Whether the visitor may see its community cannot be found out.
    Undecided,
    NotYet(Whose),
}

impl Found {
    pub(super) fn not_yet(who: &Who) -> Self {
        Self::NotYet(match who {
            Who::Session(session) => Whose::Session {
                id: session.id.clone(),
                user_id: session.user_id.clone(),
            },
            Who::Token(token, _) => Whose::Token(token.clone()),
        })
    }
}

/// The database cannot be asked.
struct Unavailable;

impl Resolver {
    async fn look_up(&self, who: Who, view: &PageView) -> Asked {
        let session = match who {
            Who::Session(session) => session,
            Who::Token(token, glance) => {
                let found = self.authenticator.resolve_past(&token, view.at).await;
                match (glance.session(), found) {
                    (Some(session), _) => Arc::clone(session),
                    (None, Ok(Identified::Session(session))) => session,
                    (None, Ok(Identified::Nobody)) => return Ok(Answer::Nobody),
                    (None, Ok(Identified::NotYet(until))) => return Ok(Answer::Doubtful(until)),
                    (None, Err(_)) => return Err(Unavailable),
                }
            }
        };
        let community = match &view.community {
            None => None,
            Some(named) => self.communities.named(named).await.map_err(|_| Unavailable)?,
        };
        Ok(Answer::Found(session, community))
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
