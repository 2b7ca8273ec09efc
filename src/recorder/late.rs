//! Late identification: visitors whose lookup failed, or did not begin in time. Their views are written unresolved, and the
//! writer identifies them however late that is. Presence needs them within the window, and with what is finer than the
//! community, which is not in the spool: so each is looked up again here until then.
//!
//! Visitors are kept once per place, at their latest view, or once more for views that only their page reports. Their number and their bytes are bounded, and those whose token
//! was never seen with a session have a small part of the room; further ones are dropped and counted. So is who is not
//! identified: because the window has passed, the database refuses the lookup for good, or the process ends, which waits
//! for nobody here. While the table cannot be queried one lookup a second finds out whether it can be again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::resolver::{LookupAnswer, LookupFailure, Resolver, Sought};
use super::{Destinations, RequestVisitor};
use crate::ids::{Finer, SessionToken, UserId};
use crate::page_view::{Metrics, PresenceDropped};
use crate::retry::jittered;
use crate::routes::CommunityRef;
use crate::tasks::{Task, Tasks};

/// Most visitors that wait.
const MOST: usize = 4_096;
/// Most of them whose token was never seen with a session: made-up tokens leave room for others.
const MOST_STRANGERS: usize = 512;
/// Most bytes that they take up.
const MOST_BYTES: usize = 4 << 20;
/// Lookups at a time.
const AT_A_TIME: usize = 64;
/// Pause after one that failed; jittered.
const PAUSE: Duration = Duration::from_secs(1);

/// Who was where. Views that only their page reports are apart: whether they count is decided for them alone.
#[derive(Clone, PartialEq, Eq, Hash)]
struct LatePlace {
    who: Who,
    community: Option<CommunityRef>,
    finer: Arc<[Finer]>,
    needs_admission: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Token(SessionToken),
    User(UserId),
}

/// Takes those who are to be identified.
#[derive(Clone)]
pub(super) struct LateVisitors {
    queue: mpsc::Sender<LateVisitor>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// Whether there is presence.
    is_on: bool,
    metrics: Arc<Metrics>,
}

impl LateVisitors {
    /// Has somebody looked up again, for presence. Never waits: who finds no room is dropped and counted.
    pub(super) fn add(&self, sought: Sought, is_stranger: bool) {
        if self.is_on && self.try_add(sought, is_stranger).is_none() {
            self.metrics.presence_dropped[PresenceDropped::QueueFull].inc();
        }
    }

    fn try_add(&self, sought: Sought, is_stranger: bool) -> Option<()> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let weight = size_of::<LatePlace>() + sought.weight();
        let bytes = u32::try_from(weight).ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        let stranger = if is_stranger {
            Some(Arc::clone(&self.strangers).try_acquire_owned().ok()?)
        } else {
            None
        };
        let visitor = LateVisitor {
            sought,
            is_settled: false,
            metrics: Arc::clone(&self.metrics),
            _place: place,
            _bytes: bytes,
            _stranger: stranger,
        };
        // Places are as many as the queue takes. What it gives back where the process ends is counted when it is dropped.
        let _ = self.queue.try_send(visitor);
        Some(())
    }
}

/// One who waits. Counted as dropped where nothing was found out about them in time.
struct LateVisitor {
    sought: Sought,
    is_settled: bool,
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    _stranger: Option<OwnedSemaphorePermit>,
}

impl LateVisitor {
    fn place(&self) -> LatePlace {
        let sought = &self.sought;
        let who = match &sought.who {
            RequestVisitor::Session(session) => Who::User(session.user_id.clone()),
            RequestVisitor::Token(token, _) => Who::Token(token.clone()),
        };
        LatePlace {
            who,
            community: sought.community.clone(),
            finer: Arc::clone(&sought.finer),
            needs_admission: sought.access_policy.is_some(),
        }
    }

    /// Nothing more is to be found out.
    fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for LateVisitor {
    fn drop(&mut self) {
        if !self.is_settled {
            self.metrics.presence_dropped[PresenceDropped::TooLate].inc();
        }
    }
}

/// Identifies them while it is run.
pub(super) struct Worker {
    queue: mpsc::Receiver<LateVisitor>,
    resolver: Resolver,
    destinations: Destinations,
    waiting: HashMap<LatePlace, LateVisitor>,
    /// The same, the one that waits for longest first.
    order: VecDeque<LatePlace>,
    /// Those whose token has no session so far, and when it is to be queried once more.
    doubtful: VecDeque<(Instant, LateVisitor)>,
}

impl Worker {
    /// The handle of those who are to be identified, and its worker.
    pub(super) fn new(resolver: Resolver, destinations: Destinations) -> (LateVisitors, Self) {
        let (sender, queue) = mpsc::channel(MOST);
        let handle = LateVisitors {
            queue: sender,
            places: Arc::new(Semaphore::new(MOST)),
            bytes: Arc::new(Semaphore::new(MOST_BYTES)),
            strangers: Arc::new(Semaphore::new(MOST_STRANGERS)),
            is_on: destinations.presence.is_some(),
            metrics: Arc::clone(&destinations.metrics),
        };
        let worker = Self {
            queue,
            resolver,
            destinations,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            doubtful: VecDeque::new(),
        };
        (handle, worker)
    }

    pub(super) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::LateVisitors, self, |late| late.run().boxed());
    }

    /// Works until every handle is dropped; then nobody waits any more.
    async fn run(&mut self) {
        let mut is_away = false;
        loop {
            if self.order.is_empty() {
                let doubtful_until = self.doubtful.front().map(|(until, _)| *until);
                tokio::select! {
                    visitor = self.queue.recv() => match visitor {
                        Some(visitor) => self.take(visitor),
                        // The process ends; a task that ended would be started again.
                        None => return std::future::pending().await,
                    },
                    () = sleep_until(doubtful_until.unwrap_or_else(Instant::now)), if doubtful_until.is_some() => {}
                }
            }
            while self
                .doubtful
                .front()
                .is_some_and(|(until, _)| *until <= Instant::now())
                && let Some((_, visitor)) = self.doubtful.pop_front()
            {
                self.take(visitor);
            }
            while let Ok(visitor) = self.queue.try_recv() {
                self.take(visitor);
            }
            is_away = !self.look_up(if is_away { 1 } else { AT_A_TIME }).await;
            if is_away {
                sleep(jittered(PAUSE)).await;
            }
        }
    }

    fn take(&mut self, visitor: LateVisitor) {
        let place = visitor.place();
        match self.waiting.get_mut(&place) {
            Some(before) if before.sought.seen >= visitor.sought.seen => visitor.settle(),
            Some(before) => std::mem::replace(before, visitor).settle(),
            None => {
                self.order.push_back(place.clone());
                self.waiting.insert(place, visitor);
            }
        }
    }

    /// Looks up the next ones; where the table cannot be queried they wait on. False if that was so.
    async fn look_up(&mut self, number: usize) -> bool {
        let mut next = Vec::new();
        while next.len() < number
            && let Some(place) = self.order.pop_front()
        {
            let visitor = self.waiting.remove(&place);
            next.extend(visitor.filter(|visitor| self.is_of_use(&visitor.sought)));
        }
        let resolver = &self.resolver;
        let asked = next.into_iter().map(async |visitor: LateVisitor| {
            let found = resolver.look_up(&visitor.sought).await;
            (visitor, found)
        });
        let mut is_answered = true;
        for (visitor, found) in join_all(asked).await {
            match found {
                Ok(LookupAnswer::Found(session, community)) => {
                    let Sought { finer, seen, .. } = &visitor.sought;
                    self.destinations
                        .touch(&session, community.as_ref(), finer, *seen);
                    visitor.settle();
                }
                Ok(LookupAnswer::NoSession(_) | LookupAnswer::NoKey | LookupAnswer::Forbidden) => {
                    visitor.settle();
                }
                Ok(LookupAnswer::Doubtful(until)) => self.doubtful.push_back((until, visitor)),
                Err(LookupFailure::Unavailable) => {
                    is_answered = false;
                    self.take(visitor);
                }
                Err(LookupFailure::Refused) => {}
            }
        }
        is_answered
    }

    fn is_of_use(&self, sought: &Sought) -> bool {
        sought.seen.elapsed() < self.resolver.window
    }
}

#[cfg(test)]
impl Worker {
    /// How many were added since it was asked last.
    pub(super) fn added(&mut self) -> usize {
        std::iter::from_fn(|| self.queue.try_recv().ok()).count()
    }
}
