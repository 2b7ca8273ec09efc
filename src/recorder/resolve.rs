//! Deferred lookups: views whose visitor or community must be looked up first, after the response. Their number is
//! bounded, and so is the time for which a view may stay off the disk; a view that is not resolved by then is written
//! unresolved.

mod in_progress;
mod lookup;
mod outcome;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use self::in_progress::{IN_FLIGHT, LookupKind, STRANGERS, ViewsInProgress};
use self::lookup::in_time;
pub(super) use self::outcome::ResolvedView;
use super::late::LateVisitors;
use super::resolver::{LookupAnswer, Resolver, Sought, ViewLookup};
use super::{AcceptedView, Destinations, Message, RequestVisitor};
use crate::auth::Absent;
use crate::communities::PageCommunity;
use crate::page_view::{Dropped, NotCounted, PageView};
use crate::tasks::{Task, Tasks};
use crate::writer::load::{InProgress, Load};
use crate::writer::unresolved::{UnresolvedView, VisitorRef};

/// Concurrent lookups, with or without a view that waits. The authenticator bounds them further.
const LOOKUPS: usize = 256;

/// Views of tokens that are queried once more, waiting at one time; more have no session at once.
const DOUBTFUL: usize = 2_048;

/// State of the worker.
pub(super) struct Work {
    pub(super) resolver: Resolver,
    pub(super) destinations: Destinations,
    pub(super) load: Load,
    pub(super) lookups: Arc<Semaphore>,
    /// The same for views whose token was never seen with a session.
    pub(super) strangers: Arc<Semaphore>,
    /// Visitors who are looked up again, for presence.
    pub(super) late: LateVisitors,
    /// True at the end of a flush: second queries are then made at once.
    pub(super) flushing: watch::Sender<bool>,
}

impl Work {
    pub(super) fn new(
        resolver: Resolver,
        destinations: Destinations,
        load: Load,
        late: LateVisitors,
    ) -> Self {
        Self {
            late,
            resolver,
            destinations,
            load,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            flushing: watch::Sender::new(false),
        }
    }
}

/// Looks views up while it is run.
pub(crate) struct Worker {
    pub(super) queue: mpsc::Receiver<Message>,
    pub(super) work: Work,
}

impl Worker {
    /// Runs until every handle is dropped and the queue is empty.
    pub(crate) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::Recorder, self, |worker| {
            run(&mut worker.queue, &worker.work).boxed()
        });
    }
}

async fn run(queue: &mut mpsc::Receiver<Message>, work: &Work) {
    let (mut views, mut doubtful) = (ViewsInProgress::default(), FuturesUnordered::new());
    // A view whose lookup panics does not stop others; its guard counts it.
    let wait_for_row = |outcome: ViewOutcome, doubtful: &FuturesUnordered<_>| match outcome {
        Ok(Some(doubt)) if doubtful.len() < DOUBTFUL => {
            doubtful.push(AssertUnwindSafe(work.ask_again(doubt)).catch_unwind());
        }
        Ok(Some(doubt)) => work.hand_on(
            doubt.accepted,
            ResolvedView::NoSession(Absent::NotFound),
            doubt.hand,
        ),
        Ok(None) | Err(_) => {}
    };
    loop {
        let message = tokio::select! {
            Some(outcome) = views.next() => {
                wait_for_row(outcome, &doubtful);
                continue;
            }
            Some(_) = doubtful.next() => continue,
            message = queue.recv(), if views.of(LookupKind::Usual).len() < IN_FLIGHT => message,
        };
        let flushed = match message {
            Some(Message::AcceptedView(accepted)) => {
                let kind = LookupKind::of(&accepted, &work.resolver.authenticator);
                let hand = work.in_progress(&accepted.view);
                let queue = views.of(kind);
                if queue.len() < kind.most() {
                    let resolving = work.resolve(*accepted, kind == LookupKind::OfStranger, hand);
                    queue.push(AssertUnwindSafe(resolving).catch_unwind());
                } else {
                    work.hand_on(*accepted, kind.one_too_many(), hand);
                }
                continue;
            }
            Some(Message::Flush(done)) => Some(done),
            None => None,
        };
        while let Some(outcome) = views.next().await {
            wait_for_row(outcome, &doubtful);
        }
        work.flushing.send_replace(true);
        while doubtful.next().await.is_some() {}
        work.flushing.send_replace(false);
        match flushed {
            Some(done) => {
                let _ = done.send(());
            }
            None => return,
        }
    }
}

/// A view whose token has no session so far, and is queried once more.
struct PostponedView {
    accepted: AcceptedView,
    until: Instant,
    hand: InProgress,
}

/// The outcome for a view, unless its lookup panicked.
type ViewOutcome = std::thread::Result<Option<PostponedView>>;

impl Work {
    /// Looks up one view's visitor and community, and passes it on, unless its token is to be queried once more.
    async fn resolve(
        &self,
        accepted: AcceptedView,
        is_strangers: bool,
        hand: InProgress,
    ) -> Option<PostponedView> {
        let found = match accepted.admission() {
            Some(access_policy) => {
                let found = self.resolver.admit(&accepted, access_policy).await;
                if let ResolvedView::NotYet(_) = found {
                    let is_stranger = accepted.is_strangers(&self.resolver.authenticator);
                    self.late.add(Sought::of(&accepted), is_stranger);
                }
                found
            }
            None => self.look_up(&accepted, is_strangers).await,
        };
        if let ResolvedView::Doubtful(until) = found {
            return Some(PostponedView {
                accepted,
                until,
                hand,
            });
        }
        self.hand_on(accepted, found, hand);
        None
    }

    /// Queries a view's token once more, when it is time.
    async fn ask_again(&self, doubt: PostponedView) {
        let PostponedView {
            accepted,
            until,
            hand,
        } = doubt;
        let mut flushing = self.flushing.subscribe();
        let is_flushing = async { flushing.wait_for(|flushing| *flushing).await.is_ok() };
        if timeout_at(until, is_flushing).await.is_ok()
            && let RequestVisitor::Token(token, _) = &accepted.who
        {
            self.resolver.authenticator.forget_absence(token);
        }
        if let Some(doubt) = self.resolve(accepted, true, hand).await {
            self.hand_on(
                doubt.accepted,
                ResolvedView::NoSession(Absent::NotFound),
                doubt.hand,
            );
        }
    }

    fn in_progress(&self, view: &PageView) -> InProgress {
        let mut hand = InProgress::new(&self.load);
        hand.take(view.weight());
        hand
    }

    fn hand_on(&self, accepted: AcceptedView, found: ResolvedView, mut hand: InProgress) {
        let is_reported = accepted.needs_admission();
        let AcceptedView { view, seen, .. } = accepted;
        // Its bytes are counted by the writer from here on, if at all.
        hand.free();
        let metrics = &self.destinations.metrics;
        match found {
            ResolvedView::All(session, community) => {
                self.destinations
                    .deliver(view, seen, &session, community, seen.elapsed());
            }
            ResolvedView::NoSession(absent) => self.destinations.is_nobodys(absent.into()),
            ResolvedView::Doubtful(_) => self.destinations.is_nobodys(NotCounted::NoSession),
            // The app would have answered with an error.
            ResolvedView::Forbidden => metrics.not_counted[NotCounted::Error].inc(),
            ResolvedView::NoKey => self.destinations.names_no_key(&view, is_reported),
            ResolvedView::Overflow => metrics.dropped[Dropped::UnknownToken].inc(),
            ResolvedView::Undecided => metrics.dropped[Dropped::AccessUnavailable].inc(),
            ResolvedView::NotYet(whose) => self
                .destinations
                .postpone(UnresolvedView { view, whose }, seen.elapsed()),
        }
        hand.done();
    }

    /// What is found in time. Lookups go on when no view waits any more: the next view can use their answer. Where none
    /// does, the visitor is looked up again for presence.
    ///
    /// A view of a token that was never seen waits as long as the database answers: made-up tokens must not fill the
    /// spool.
    pub(super) async fn look_up(&self, accepted: &AcceptedView, is_strangers: bool) -> ResolvedView {
        let lookup = LookupState::default();
        let looked_up = self.ask_in_time(accepted, is_strangers, &lookup).await;
        let goes_on = lookup.has_begun.load(Ordering::Relaxed) && looked_up.is_none();
        let found = self.as_known(accepted, looked_up);
        match found {
            ResolvedView::NotYet(_) if goes_on => {}
            ResolvedView::NotYet(_) => self.late.add(Sought::of(accepted), is_strangers),
            _ => lookup.is_settled.store(true, Ordering::Relaxed),
        }
        found
    }

    /// The answer, if it comes in time.
    async fn ask_in_time(
        &self,
        accepted: &AcceptedView,
        is_strangers: bool,
        state: &LookupState,
    ) -> Option<ViewLookup> {
        let authenticator = &self.resolver.authenticator;
        let patience = self.resolver.patience;
        let mut deadline = Instant::now() + patience;
        let permits = if is_strangers {
            &self.strangers
        } else {
            &self.lookups
        };
        match timeout_at(deadline, Arc::clone(permits).acquire_owned()).await {
            Ok(Ok(permit)) => {
                state.has_begun.store(true, Ordering::Relaxed);
                let is_settled = Arc::clone(&state.is_settled);
                let mut waiting = self.ask(permit, accepted, is_strangers, is_settled);
                let mut answer = None;
                while is_strangers && answer.is_none() && authenticator.answers() {
                    answer = timeout_at(deadline, &mut waiting).await.ok();
                    deadline = Instant::now() + patience;
                }
                match answer {
                    Some(answer) => answer.ok(),
                    None => in_time(deadline, waiting).await,
                }
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// What is known of a view after its lookup.
    fn as_known(&self, accepted: &AcceptedView, looked_up: Option<ViewLookup>) -> ResolvedView {
        let AcceptedView { view, who, .. } = accepted;
        let authenticator = &self.resolver.authenticator;
        match looked_up {
            Some(Ok(LookupAnswer::Found(session, community))) => {
                return ResolvedView::All(session, community);
            }
            Some(Ok(LookupAnswer::NoSession(absent))) => return ResolvedView::NoSession(absent),
            Some(Ok(LookupAnswer::NoKey)) => return ResolvedView::NoKey,
            Some(Ok(LookupAnswer::Forbidden)) => return ResolvedView::Forbidden,
            Some(Ok(LookupAnswer::Doubtful(until))) => return ResolvedView::Doubtful(until),
            // Only late: the session may have ended, which is checked before the view is applied.
            None if !authenticator.is_away() => return ResolvedView::not_yet(who),
            Some(Err(_)) | None => {}
        }
        let session = match who {
            RequestVisitor::Session(session) => Arc::clone(session),
            RequestVisitor::Token(token, lookup) => {
                let seen = lookup.session().cloned();
                match seen.or_else(|| authenticator.last_known_session(token, view.at)) {
                    Some(session) => session,
                    None => return ResolvedView::not_yet(who),
                }
            }
        };
        match self.resolver.communities.cached(view.community.as_ref()) {
            Ok(PageCommunity::Community(community)) => ResolvedView::All(session, Some(community)),
            Ok(PageCommunity::Nothing) => ResolvedView::All(session, None),
            Ok(PageCommunity::NoKey) => ResolvedView::NoKey,
            Err(_) => ResolvedView::not_yet(&RequestVisitor::Session(session)),
        }
    }
}

/// What a view and its lookup know of each other.
#[derive(Default)]
struct LookupState {
    /// A lookup has begun.
    has_begun: AtomicBool,
    /// The view needs no answer any more, and neither does presence.
    is_settled: Arc<AtomicBool>,
}

impl Destinations {
    /// Passes an unresolved view to the writer, which resolves it later; without a writer, it is dropped.
    fn postpone(&self, view: UnresolvedView, waited: Duration) {
        let given_up = match &view.whose {
            VisitorRef::Token(_) => Dropped::SessionUnavailable,
            VisitorRef::Session { .. } => Dropped::CommunityUnavailable,
        };
        let written = match &self.writer {
            Some(writer) => writer.write_unresolved(view, waited),
            None => Err(given_up),
        };
        if let Err(reason) = written {
            self.metrics.dropped[reason].inc();
        }
    }
}
