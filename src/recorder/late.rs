//! Late identification: visitors whose lookup failed, or did not begin in time. Their views are written unresolved, and the
//! writer identifies them however late that is. Presence needs them within the window, and with what is finer than the
//! community, which is not in the spool: so each is looked up again here until then.
//!
//! Visitors are kept once per place, at their latest view, and their number is bounded; further ones are dropped and
//! counted. While the table cannot be queried one lookup a second finds out whether it can be again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::resolve::lookup::{LookupAnswer, Sought};
use super::{Destinations, RequestVisitor, Resolver};
use crate::ids::{Finer, SessionToken, UserId};
use crate::retry::jittered;
use crate::routes::CommunityRef;
use crate::tasks::{Task, Tasks};

/// Most visitors that wait.
const MOST: usize = 4_096;
/// Lookups at a time.
const AT_A_TIME: usize = 64;
/// Pause after one that failed; jittered.
const PAUSE: Duration = Duration::from_secs(1);

/// Who was where.
type LatePlace = (Who, Option<CommunityRef>, Arc<[Finer]>);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Token(SessionToken),
    User(UserId),
}

/// Identifies them while it is run.
pub(super) struct Worker {
    queue: mpsc::Receiver<Sought>,
    resolver: Resolver,
    destinations: Destinations,
    waiting: HashMap<LatePlace, Sought>,
    /// The same, the one that waits for longest first.
    order: VecDeque<LatePlace>,
}

impl Worker {
    /// The queue of those who are to be identified, and its worker.
    pub(super) fn new(resolver: Resolver, destinations: Destinations) -> (mpsc::Sender<Sought>, Self) {
        let (sender, queue) = mpsc::channel(MOST);
        let worker = Self {
            queue,
            resolver,
            destinations,
            waiting: HashMap::new(),
            order: VecDeque::new(),
        };
        (sender, worker)
    }

    pub(super) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::LateVisitors, self, |late| late.run().boxed());
    }

    /// Works until every handle is dropped; then nobody waits any more.
    async fn run(&mut self) {
        let mut is_away = false;
        loop {
            if self.order.is_empty() {
                match self.queue.recv().await {
                    Some(sought) => self.take(sought),
                    // The process ends; a task that ended would be started again.
                    None => return std::future::pending().await,
                }
            }
            while self.order.len() < MOST
                && let Ok(sought) = self.queue.try_recv()
            {
                self.take(sought);
            }
            let answered = self.look_up(if is_away { 1 } else { AT_A_TIME }).await;
            is_away = !answered;
            if is_away {
                sleep(jittered(PAUSE)).await;
            }
        }
    }

    fn take(&mut self, sought: Sought) {
        let who = match &sought.who {
            RequestVisitor::Session(session) => Who::User(session.user_id.clone()),
            RequestVisitor::Token(token, _) => Who::Token(token.clone()),
        };
        let place = (who, sought.community.clone(), Arc::clone(&sought.finer));
        match self.waiting.get_mut(&place) {
            Some(before) if before.seen >= sought.seen => {}
            Some(before) => *before = sought,
            None => {
                self.order.push_back(place.clone());
                self.waiting.insert(place, sought);
            }
        }
    }

    /// Looks up the next ones; those without an answer wait on. False if there was one without.
    async fn look_up(&mut self, number: usize) -> bool {
        let mut next = Vec::new();
        while next.len() < number
            && let Some(place) = self.order.pop_front()
        {
            next.extend(
                self.waiting
                    .remove(&place)
                    .filter(|sought| self.is_of_use(sought)),
            );
        }
        let resolver = &self.resolver;
        let asked = next.into_iter().map(async |sought| {
            let found = resolver.look_up(&sought).await;
            (sought, found)
        });
        let mut are_answered = true;
        for (sought, found) in join_all(asked).await {
            match found {
                Ok(LookupAnswer::ResolvedView(session, community)) => {
                    self.destinations
                        .touch(&session, community.as_ref(), &sought.finer, sought.seen);
                }
                Ok(LookupAnswer::NoSession(_) | LookupAnswer::NoKey) => {}
                Ok(LookupAnswer::Doubtful(_)) | Err(_) => {
                    are_answered = false;
                    self.take(sought);
                }
            }
        }
        are_answered
    }

    fn is_of_use(&self, sought: &Sought) -> bool {
        sought.seen.elapsed() < self.resolver.window
    }
}
