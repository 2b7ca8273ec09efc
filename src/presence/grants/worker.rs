//! Writes this sidecar's grants to the presence store, outside the requests: all that wait for one community in one
//! call. What the store does not take is written again, the latest for each user.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{Grant, Key, Known, News, Recorded, Verdict};
use crate::ids::{CommunityId, UserId};
use crate::presence::moment::Moment;
use crate::presence::{Metrics, Presence};
use crate::retry::jittered;
use crate::tasks::{Task, Tasks};

/// Taken from the queue at a time.
const BATCH: usize = 1_000;
/// Communities written at a time.
const CONCURRENCY: usize = 8;
/// Most users that wait for the store, counted once per community; further ones are not written.
const MOST: usize = 100_000;
/// After a failure, until everything is written again; jittered.
const AGAIN: Duration = Duration::from_secs(1);

/// News that the store does not have.
#[derive(Debug)]
pub(super) struct Unrecorded {
    pub(super) key: Key,
    pub(super) news: News,
    pub(super) at: Moment,
}

/// Notes whether the store has what memory knows; skipped where memory knows something else by now.
pub(super) fn set_recorded(known: &Cache<Key, Known>, unrecorded: &Unrecorded, recorded: Recorded) {
    let verdict = match unrecorded.news {
        News::Answer(verdict) => verdict,
        News::StillOpen => Verdict::Shown,
    };
    known.entry_by_ref(&unrecorded.key).and_compute_with(|before| {
        match before.map(moka::Entry::into_value) {
            Some(before) if before.verdict == verdict => Op::Put(Known { recorded, ..before }),
            _ => Op::Nop,
        }
    });
}

/// What is written for one community: by user, the latest news and their moment.
type Waiting = BTreeMap<UserId, (News, Moment)>;

pub(super) struct Worker {
    kept: Duration,
    presence: Arc<dyn Presence>,
    queue: mpsc::Receiver<Unrecorded>,
    known: Cache<Key, Known>,
    metrics: Arc<Metrics>,
    waiting: BTreeMap<CommunityId, Waiting>,
    users: usize,
    /// When everything is written again, after a failure.
    again: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        kept: Duration,
        presence: Arc<dyn Presence>,
        queue: mpsc::Receiver<Unrecorded>,
        known: Cache<Key, Known>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            kept,
            presence,
            queue,
            known,
            metrics,
            waiting: BTreeMap::new(),
            users: 0,
            again: None,
        }
    }

    /// Works until every handle is dropped.
    pub(super) fn start(self, tasks: &Tasks) {
        tasks.keep_worker(Task::Grants, self, |worker| worker.run().boxed());
    }

    async fn run(&mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let again = self.again;
            let is_time = async move {
                match again {
                    Some(again) => sleep_until(again).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 {
                        // The process ends; until then a task that ended would be started again.
                        self.write().await;
                        return std::future::pending().await;
                    }
                    for unrecorded in batch.drain(..) {
                        self.take(unrecorded);
                    }
                }
                () = is_time => self.again = None,
            }
            if self.again.is_none() {
                self.write().await;
            }
        }
    }

    fn take(&mut self, unrecorded: Unrecorded) {
        if self.users >= MOST {
            self.metrics.grants_dropped.inc();
            set_recorded(&self.known, &unrecorded, Recorded::No);
            return;
        }
        let Unrecorded {
            key: (community, user),
            news,
            at,
        } = unrecorded;
        self.put(community, user, news, at);
    }

    /// An open page takes no answer's place: what waits is written, and the page is still open a moment later.
    fn put(&mut self, community: CommunityId, user: UserId, news: News, at: Moment) {
        let users = self.waiting.entry(community).or_default();
        match users.get(&user) {
            Some((News::Answer(_), _)) if news == News::StillOpen => return,
            Some((News::Answer(_), before)) if *before > at => return,
            _ => {}
        }
        self.users += usize::from(users.insert(user, (news, at)).is_none());
    }

    async fn write(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.users = 0;
        let (presence, kept) = (&self.presence, self.kept);
        let written = stream::iter(waiting).map(async |(community, users): (CommunityId, Waiting)| {
            let grants = users.iter().map(|(user, (news, at))| Grant {
                user: user.clone(),
                news: *news,
                age: at.elapsed(),
            });
            let grants: Vec<_> = grants.filter(|grant| grant.age < kept).collect();
            let outcome = presence.note_grants(&community, kept, &grants).await;
            (community, users, outcome.is_ok())
        });
        let written: Vec<_> = written.buffer_unordered(CONCURRENCY).collect().await;
        for (community, users, is_written) in written {
            for (user, (news, at)) in users {
                if is_written {
                    let key = (community.clone(), user);
                    let recorded = Recorded::Until(at + self.kept);
                    set_recorded(&self.known, &Unrecorded { key, news, at }, recorded);
                } else if at.elapsed() < self.kept {
                    self.put(community.clone(), user, news, at);
                }
            }
            if !is_written {
                self.again = Some(Instant::now() + jittered(AGAIN));
            }
        }
    }
}
