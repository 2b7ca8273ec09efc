//! Grants: which users the app has shown which community, so that they may see its visitors (`api.access = "visited"`).
//!
//! A grant belongs to a user, not to a session, and lasts for `api.visited_ttl` after the app's last answer, and for as
//! long as a page of the community is open, at most for [`OPEN_FOR`] such times. A refusal takes its place: of two answers the later one counts, whichever
//! sidecar passed it on. That a page is open is no answer: it never stands against a refusal.
//!
//! This sidecar's own answers are in its memory at once; a worker writes them to the presence store for the other
//! sidecars ([`Presence::note_grants`]). One that changes nothing is written only where the one written last is older
//! than a quarter of the time, so that the number of Redis commands does not grow with that of page views. The store is
//! asked where memory has no answer that it has yet to write; while the store is away, memory alone answers.

mod worker;

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

use self::worker::{Unrecorded, Worker};
use super::moment::Moment;
use super::{Metrics, Presence, PresenceError};
use crate::ids::{CommunityId, UserId};
use crate::tasks::Tasks;

/// Users remembered, counted once per community; some 200 bytes each. Beyond that, those neither answered nor asked about
/// for longest are forgotten: whoever asks for many communities keeps nobody's grant out.
const CAPACITY: u64 = 100_000;
/// For how many times the length of a grant after the app's last answer an open page prolongs it.
pub const OPEN_FOR: u32 = 12;
/// How long a refusal that takes nothing away is kept where nothing is shared: for as long as an earlier answer may be
/// under way.
const NOTHING_TAKEN: Duration = Duration::from_secs(60);
/// Answers that wait for the worker; further ones are not written to the store.
const QUEUE: usize = 10_000;
/// Callers who wait for another sidecar's answer at a time; further ones are told what is known.
const MAX_WAITING: usize = 64;
/// Between two looks for another sidecar's answer: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// What the app last answered a user who asked for a community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It showed the community.
    Shown,
    /// It said that there is none, or that the user may not see it.
    Refused,
}

/// Something to note about a user and a community.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The app has answered.
    Answer(Verdict),
    /// A page of the community is still open: a grant lasts for longer, a refusal stands.
    StillOpen,
}

/// One user's news about a community.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user.
    pub user: UserId,
    /// What happened.
    pub news: News,
    /// How long ago, at the time of the call.
    pub age: Duration,
}

/// What the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedGrant {
    /// The app's last answer.
    pub verdict: Verdict,
    /// How long ago that was, at the time of the answer of the store.
    pub age: Duration,
    /// For how much longer it counts from then on.
    pub left: Duration,
}

/// Who was shown which community. Cheap to clone.
#[derive(Clone)]
pub struct Grants(Arc<Inner>);

struct Inner {
    /// How long a grant lasts.
    kept: Duration,
    /// How long a caller about whom nothing is known waits for another sidecar's answer.
    patience: Duration,
    known: Cache<Key, Known>,
    presence: Arc<dyn Presence>,
    queue: mpsc::Sender<Unrecorded>,
    waiting: Semaphore,
    /// Callers who have waited in vain a moment ago.
    waited: Cache<Key, ()>,
    metrics: Arc<Metrics>,
}

type Key = (CommunityId, UserId);

#[derive(Debug, Clone, Copy)]
struct Known {
    verdict: Verdict,
    /// When the app last answered.
    at: Moment,
    /// How long that counts.
    until: Moment,
    recorded: Recorded,
}

/// Whether the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    No,
    Queued,
    /// It has one that counts until then.
    Until(Moment),
}

/// Forgets what counts no more.
struct WhileItCounts;

impl Expiry<Key, Known> for WhileItCounts {
    fn expire_after_create(&self, _: &Key, known: &Known, _: std::time::Instant) -> Option<Duration> {
        Some(known.until.since(Moment::now()))
    }

    fn expire_after_update(
        &self,
        _: &Key,
        known: &Known,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(known.until.since(Moment::now()))
    }
}

impl Grants {
    /// Grants last for `kept`. A caller about whom nothing is known waits at most for `patience` until another sidecar
    /// that shares the store has noted what the app has answered. The writer runs as one of `tasks`.
    pub fn start(
        kept: Duration,
        patience: Duration,
        presence: Arc<dyn Presence>,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(WhileItCounts)
            .build();
        if presence.shares_grants() {
            Worker::new(
                kept,
                Arc::clone(&presence),
                queue,
                known.clone(),
                Arc::clone(&metrics),
            )
            .start(tasks);
        }
        Self(Arc::new(Inner {
            kept,
            patience,
            known,
            presence,
            queue: sender,
            waiting: Semaphore::new(MAX_WAITING),
            waited: Cache::builder()
                .max_capacity(CAPACITY)
                .time_to_live(patience)
                .build(),
            metrics,
        }))
    }

    /// The app has answered a user who asked for a community, now or at a moment before; answers may come in any order.
    /// Never waits.
    pub fn note(&self, community: &CommunityId, user: &UserId, verdict: Verdict, at: Moment) {
        self.0
            .put((community.clone(), user.clone()), News::Answer(verdict), at);
    }

    /// A page of the community is still open. Never waits.
    pub fn still_open(&self, community: &CommunityId, user: &UserId) {
        self.0
            .put((community.clone(), user.clone()), News::StillOpen, Moment::now());
    }

    /// Whether a user was shown a community. Where nothing is known, waits for other sidecars, at most until `until`: the
    /// page of this user may have come through one of them just now.
    ///
    /// # Errors
    /// The store cannot tell, and this sidecar has passed on no answer itself.
    pub async fn may_see(
        &self,
        community: &CommunityId,
        user: &UserId,
        until: Instant,
    ) -> Result<bool, PresenceError> {
        let inner = &*self.0;
        let key = (community.clone(), user.clone());
        let mut place = None;
        let (mut pause, longest) = PAUSES;
        loop {
            if let Some(verdict) = inner.verdict(&key).await? {
                return Ok(verdict == Verdict::Shown);
            }
            if !inner.presence.shares_grants() || inner.waited.contains_key(&key) {
                return Ok(false);
            }
            place = place.or_else(|| inner.waiting.try_acquire().ok());
            if place.is_none() {
                return Ok(false);
            }
            if Instant::now() >= until {
                inner.waited.insert(key, ());
                return Ok(false);
            }
            sleep_until(until.min(Instant::now() + pause)).await;
            pause = longest.min(pause * 2);
        }
    }

    /// An answer of the app could not be noted.
    pub fn count_dropped(&self) {
        self.0.metrics.grants_dropped.inc();
    }

    /// How long a caller may wait for an answer that is on its way.
    pub fn patience(&self) -> Duration {
        self.0.patience
    }
}

impl Inner {
    /// Takes what is news, and queues it where the store must have it.
    fn put(&self, key: Key, news: News, at: Moment) {
        let is_shared = self.presence.shares_grants();
        let mut is_queued = false;
        let until = at + self.kept;
        self.known.entry_by_ref(&key).and_compute_with(|before| {
            let before = before.map(moka::Entry::into_value);
            let (verdict, at) = match (news, before) {
                (News::Answer(_), Some(before)) if before.at > at => return Op::Nop,
                (News::Answer(verdict), _) => (verdict, at),
                (News::StillOpen, Some(before))
                    if before.verdict == Verdict::Shown && at.since(before.at) <= self.kept * OPEN_FOR =>
                {
                    (Verdict::Shown, before.at)
                }
                (News::StillOpen, _) => return Op::Nop,
            };
            let takes_something = before.is_some_and(|before| before.verdict == Verdict::Shown);
            let until = if verdict == Verdict::Refused && !is_shared && !takes_something {
                until.min(Moment::now() + NOTHING_TAKEN)
            } else {
                until
            };
            let like_before = before.filter(|before| before.verdict == verdict);
            let until = like_before.map_or(until, |before| until.max(before.until));
            let recorded = match like_before.map(|before| before.recorded) {
                _ if !is_shared => Recorded::No,
                Some(Recorded::Until(recorded)) if until.since(recorded) < self.kept / 4 => {
                    Recorded::Until(recorded)
                }
                Some(Recorded::Queued) => Recorded::Queued,
                _ => {
                    is_queued = true;
                    Recorded::Queued
                }
            };
            Op::Put(Known {
                verdict,
                at,
                until,
                recorded,
            })
        });
        if is_queued {
            self.queue(key, news, at);
        }
    }

    fn queue(&self, key: Key, news: News, at: Moment) {
        if let Err(error) = self.queue.try_send(Unrecorded { key, news, at }) {
            self.metrics.grants_dropped.inc();
            let (mpsc::error::TrySendError::Full(unrecorded) | mpsc::error::TrySendError::Closed(unrecorded)) =
                error;
            worker::set_recorded(&self.known, &unrecorded, Recorded::No);
        }
    }

    /// The app's last answer, as far as any sidecar knows.
    async fn verdict(&self, key: &Key) -> Result<Option<Verdict>, PresenceError> {
        let own = self.known.get(key).filter(|own| Moment::now() < own.until);
        // A refusal is told only while what is not known is told alike.
        let is_recorded = own
            .is_none_or(|own| own.verdict == Verdict::Refused || matches!(own.recorded, Recorded::Until(_)));
        if !self.presence.shares_grants() || !is_recorded {
            return Ok(own.map(|own| own.verdict));
        }
        let asked = Moment::now();
        let (community, user) = key;
        match (self.presence.grant(community, user).await, own) {
            (Ok(Some(noted)), own) => {
                let noted = Known {
                    verdict: noted.verdict,
                    at: asked.before(noted.age),
                    until: asked + noted.left,
                    recorded: Recorded::Until(asked + noted.left),
                };
                Ok(Some(self.later(key, own, noted)))
            }
            (Ok(None), None) => Ok(None),
            (Ok(None), Some(own)) => {
                // The store has lost it. Where it has no grant, it needs no refusal either.
                if own.verdict == Verdict::Shown {
                    self.queue_again(key, own);
                }
                Ok(Some(own.verdict))
            }
            // A refusal is told like what is not known, so that a community that there is shows in no answer.
            (Err(error), Some(own)) if own.verdict == Verdict::Refused => Err(error),
            (Err(_), Some(own)) => Ok(Some(own.verdict)),
            (Err(error), None) => Err(error),
        }
    }

    /// The later of this sidecar's answer and the store's.
    fn later(&self, key: &Key, own: Option<Known>, noted: Known) -> Verdict {
        match own {
            Some(own) if own.verdict == noted.verdict => own.verdict,
            Some(own) if own.at > noted.at => {
                self.queue_again(key, own);
                own.verdict
            }
            _ => {
                self.known
                    .entry_by_ref(key)
                    .and_compute_with(|before| match before {
                        Some(before) if before.value().at > noted.at => Op::Nop,
                        _ => Op::Put(noted),
                    });
                noted.verdict
            }
        }
    }

    fn queue_again(&self, key: &Key, own: Known) {
        let unrecorded = Unrecorded {
            key: key.clone(),
            news: News::Answer(own.verdict),
            at: own.at,
        };
        worker::set_recorded(&self.known, &unrecorded, Recorded::Queued);
        self.queue(unrecorded.key, unrecorded.news, unrecorded.at);
    }
}

#[cfg(test)]
mod tests;
