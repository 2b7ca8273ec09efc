//! Writes this sidecar's grants to the presence store, outside the requests: all that wait for one community in one
//! call, as memory has them then. What the store does not take is written again, and all of it after a possible loss.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::known::{GrantKey, Known, Recorded};
use super::memory::Memory;
use super::{GRANTS_AFTER, Grant, Verdict};
use crate::ids::{CommunityId, Finer, UserId};
use crate::presence::failure_domain::FailureDomains;
use crate::presence::moment::Moment;
use crate::presence::{Presence, Scope};
use crate::retry::jittered;
use crate::tasks::{Task, Tasks};

/// Taken from the queue at a time.
const BATCH: usize = 1_000;
/// Communities written at a time.
const CONCURRENCY: usize = 8;
/// Most users that wait for the store, counted once per community; further ones stay in memory until these are written.
const MOST: usize = 100_000;
/// After a failure, until everything is written again; jittered.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks for grants that were seen to be missing.
const MISSING: Duration = Duration::from_secs(1);

/// Between two log lines about those.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// A failure domain that may have lost something, by its place, and what tells the next time.
type Loss = BoxFuture<'static, (usize, watch::Receiver<u64>)>;

pub(super) struct Worker {
    presence: Arc<dyn Presence>,
    queue: mpsc::Receiver<GrantKey>,
    memory: Memory,
    /// By community: what is finer in it is written in the same call.
    waiting: BTreeMap<CommunityId, BTreeSet<(Option<Finer>, UserId)>>,
    users: usize,
    /// When everything is written again, after a failure.
    again: Option<Instant>,
    domains: Option<FailureDomains>,
    losses: FuturesUnordered<Loss>,
    /// When the grants of each of those are written again, by its place.
    grants_again: BTreeMap<usize, Instant>,
    /// When grants that were seen to be missing in the store, without a loss that it knows of, are written again.
    missing_again: Option<Instant>,
    /// When that was last logged.
    told_missing: Option<Instant>,
    /// Those that were not logged yet.
    untold: usize,
}

impl Worker {
    pub(super) fn new(
        presence: Arc<dyn Presence>,
        queue: mpsc::Receiver<GrantKey>,
        memory: Memory,
        domains: Option<&FailureDomains>,
    ) -> Self {
        let losses = FuturesUnordered::new();
        for (place, domain) in domains.iter().flat_map(|domains| domains.all()).enumerate() {
            losses.push(next_loss(place, domain.watch()));
        }
        Self {
            presence,
            queue,
            memory,
            waiting: BTreeMap::new(),
            users: 0,
            again: None,
            domains: domains.cloned(),
            losses,
            grants_again: BTreeMap::new(),
            missing_again: None,
            told_missing: None,
            untold: 0,
        }
    }

    /// Works until every handle is dropped.
    pub(super) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::Grants, self, |worker| worker.run().boxed());
    }

    async fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let (again, missing_again) = (self.again, self.missing_again);
            let grants_again = self.grants_again.values().min().copied();
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        // The process ends; until then a task that ended would be started again.
                        self.write().await;
                        return std::future::pending().await;
                    }
                    for key in batch.drain(..) {
                        self.take(key);
                    }
                }
                () = at(again) => self.again = None,
                Some((place, watch)) = self.losses.next() => {
                    self.losses.push(next_loss(place, watch));
                    self.write_again(&BTreeSet::from([place]), Verdict::Refused);
                    self.grants_again.insert(place, Instant::now() + GRANTS_AFTER);
                }
                () = at(grants_again) => {
                    let (now, mut due) = (Instant::now(), BTreeSet::new());
                    self.grants_again.retain(|place, at| {
                        let is_due = *at <= now;
                        if is_due {
                            due.insert(*place);
                        }
                        !is_due
                    });
                    self.write_again(&due, Verdict::Shown);
                }
                () = at(missing_again) => self.write_missing(),
            }
            if self.again.is_none() {
                self.write().await;
            }
        }
    }

    fn take(&mut self, key: GrantKey) {
        if let Some(Recorded::Lost(since)) = self.memory.get(&key).map(|known| known.recorded) {
            self.missing_again.get_or_insert(since + GRANTS_AFTER);
            return;
        }
        let (scope, user) = key;
        // The whole site is shown to nobody in particular.
        let Some(community) = scope.community() else {
            return;
        };
        if self.users >= MOST {
            self.memory.leave();
        } else {
            let of_community = self.waiting.entry(community.clone()).or_default();
            self.users += usize::from(of_community.insert((scope.finer().cloned(), user)));
        }
    }

    /// Takes up grants that were seen long enough ago to be missing.
    fn write_missing(&mut self) {
        let is_left = Cell::new(false);
        let is_due = |key: &GrantKey, known: &Known| {
            let Recorded::Lost(since) = known.recorded else {
                return false;
            };
            // Those of a loss that was noticed are written with all others of it.
            let is_due = since.elapsed() >= GRANTS_AFTER && !self.loses(key);
            if !is_due {
                is_left.set(true);
            }
            is_due
        };
        let missing = self.memory.mark_queued(is_due);
        self.missing_again = is_left.get().then(|| Instant::now() + MISSING);
        self.untold += missing.len();
        if self.untold > 0 && self.told_missing.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            self.told_missing = Some(Instant::now());
            tracing::warn!(
                number = std::mem::take(&mut self.untold),
                "Redis lacks records of whom the app has shown what, which it had: they were evicted (maxmemory) or deleted, and \
                 are written again"
            );
        }
        for key in missing {
            self.take(key);
        }
    }

    /// Whether grants of this one's failure domain are still to be written again.
    fn loses(&self, (scope, _): &GrantKey) -> bool {
        let domains = self.domains.as_ref();
        domains.is_some_and(|domains| self.grants_again.contains_key(&domains.index_of(scope)))
    }

    /// Takes up all that memory has of some failure domains.
    fn write_again(&mut self, places: &BTreeSet<usize>, verdict: Verdict) {
        let Some(domains) = self.domains.clone() else {
            return;
        };
        let is_wanted = |(scope, _): &GrantKey, known: &Known| {
            known.verdict == verdict && places.contains(&domains.index_of(scope))
        };
        let lost = self.memory.mark_queued(is_wanted);
        if !lost.is_empty() {
            tracing::info!(
                number = lost.len(),
                ?verdict,
                "Redis is told again whom the app has shown what, refusals first: the connection is new, or it may have lost that"
            );
        }
        for key in lost {
            self.take(key);
        }
    }

    async fn write(&mut self) {
        while self.again.is_none() {
            if self.waiting.is_empty() && self.memory.takes_more() {
                for (key, _) in self
                    .memory
                    .all(|_, known| !matches!(known.recorded, Recorded::There { .. }))
                {
                    self.take(key);
                }
            }
            if self.waiting.is_empty() {
                return;
            }
            self.write_waiting().await;
        }
    }

    async fn write_waiting(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.users = 0;
        let (presence, memory) = (&self.presence, &self.memory);
        let written = stream::iter(waiting).map(
            async |(community, users): (CommunityId, BTreeSet<(Option<Finer>, UserId)>)| {
                let users = users.into_iter().filter_map(|(finer, user)| {
                    let key = (Scope::of(community.clone(), finer), user);
                    memory.get(&key).map(|known| (key, known))
                });
                let users: Vec<_> = users.collect();
                let called = Moment::now();
                let grants = users.iter().map(|((scope, user), known)| Grant {
                    finer: scope.finer().cloned(),
                    user: user.clone(),
                    verdict: known.verdict,
                    age: called.since(known.at),
                    left: known.until.since(called),
                    only_prolongs: known.only_prolongs(called),
                });
                let grants: Vec<_> = grants.collect();
                let stands = match &*grants {
                    [] => Ok(Vec::new()),
                    grants => presence.note_grants(&community, grants).await,
                };
                (users, called, stands)
            },
        );
        let written: Vec<_> = written.buffer_unordered(CONCURRENCY).collect().await;
        for (users, called, stands) in written {
            let Ok(stands) = stands else {
                for (key, _) in users {
                    self.take(key);
                }
                self.again = Some(Instant::now() + jittered(AGAIN));
                continue;
            };
            let stands = stands.into_iter().chain(std::iter::repeat(None));
            for ((key, sent), stands) in users.into_iter().zip(stands) {
                let is_there = stands.is_some_and(|stands| stands.verdict == sent.verdict);
                let is_to_be_written = if sent.only_prolongs(called) && !is_there {
                    // It is lost, and waits for the refusals of others; something else may be known by now.
                    self.memory.lose(&key, sent).is_none()
                } else {
                    self.memory.written(&key, sent, stands, called)
                };
                if is_to_be_written {
                    self.take(key);
                }
            }
        }
    }
}

fn next_loss(place: usize, mut watch: watch::Receiver<u64>) -> Loss {
    async move {
        if watch.changed().await.is_err() {
            // The store is gone, and so is what it could lose.
            std::future::pending::<()>().await;
        }
        (place, watch)
    }
    .boxed()
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
