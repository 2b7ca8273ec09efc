//! Grants: which users the app has shown which community, and which finer thing in it, so that they may see its visitors
//! (`api.access = "visited"`). That of a finer thing is one of its own: it says nothing about the community.
//!
//! A grant belongs to a user, not to a session, and lasts for `api.visited_ttl` after the app's last answer, and for as
//! long as a page of the community is open, at most for [`OPEN_FOR`] such times. A refusal takes its place: of two answers
//! the later one counts, whichever sidecar passed it on. That a page is open is no answer, nor is that the browser's page is
//! still the current one (304): neither stands against a refusal.
//!
//! This sidecar's own answers are in its memory at once; a worker writes them to the presence store for the other
//! sidecars ([`Presence::note_grants`]), and takes over what stands there against them. An answer like the one before is written
//! only where the answer written last is some seconds older, and an open page only where that is a quarter of the time, so
//! that the number of Redis commands does not grow with that of page views. While the store is away, memory alone answers.
//!
//! # What the store loses
//! After a possible loss each sidecar writes again what it knows: refusals at once, grants a moment later, so that no old
//! grant of one sidecar is read before the refusal of another. Meanwhile a caller whose grant is missing in the store waits
//! for the others, and is told at the end that nothing is known (503). So does one whose grant is later than a refusal that
//! the store has in its place. An open page prolongs only what the store still has. A refusal is kept where nothing is known
//! that it takes away, too: the grant may be in the memory of a sidecar that cannot write it yet.

mod known;
mod memory;
mod waiting;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::{Instant, sleep_until};

use self::known::{GrantKey, Known};
use self::memory::{CAPACITY, Memory};
use self::waiting::Waiting;
use self::worker::Worker;
use super::moment::Moment;
use super::{LONGEST_LOOK, Metrics, Presence, PresenceError, Scope};
use crate::ids::{Finer, UserId};
use crate::tasks::Tasks;

/// For how many times the length of a grant after the app's last answer an open page prolongs it.
pub const OPEN_FOR: u32 = 12;
/// From a possible loss of the store until grants are written again: refusals come first, and other sidecars notice the
/// loss within [`LONGEST_LOOK`], and write what they know.
const GRANTS_AFTER: Duration = Duration::from_secs(3);
const _: () = assert!(GRANTS_AFTER.as_millis() > 2 * LONGEST_LOOK.as_millis());
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
    /// What the user was shown is still in use, in an open page or from the browser's cache: a grant lasts for longer, a
    /// refusal stands.
    StillShown,
}

/// What one sidecar knows of a user and a community, or something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What in the community; none of the community itself.
    pub finer: Option<Finer>,
    /// The user.
    pub user: UserId,
    /// The app's last answer.
    pub verdict: Verdict,
    /// How long ago that was, at the time of the call.
    pub age: Duration,
    /// For how much longer it counts from then on. A refusal counts at least for as long as what it takes away.
    pub left: Duration,
    /// It is noted only where a grant is noted already: an open page prolongs it, and brings nothing back.
    pub only_prolongs: bool,
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
    /// How long a caller about whom nothing is known waits for another sidecar's answer.
    patience: Duration,
    memory: Memory,
    presence: Arc<dyn Presence>,
    waiting: Waiting,
    /// Callers who have waited in vain, and when: for so long as the patience lasts, they do not wait again.
    waited: Cache<GrantKey, Instant>,
    metrics: Arc<Metrics>,
}

/// What is known of a user and a community.
enum Told {
    /// The app's last answer, as far as any sidecar has told.
    Verdict(Verdict),
    /// Nothing.
    Nothing,
    /// This sidecar knows of a grant that the store has lost, perhaps with a later refusal.
    Lost {
        /// Since when that is known.
        since: Instant,
        /// The store has an older refusal in its place, which only the store can judge.
        is_refused: bool,
    },
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
        let losses = presence.losses().filter(|_| presence.shares_grants());
        let (memory, queue) = Memory::new(kept, presence.shares_grants());
        if presence.shares_grants() {
            Worker::new(Arc::clone(&presence), queue, memory.clone(), losses.as_ref()).start(tasks);
        }
        Self(Arc::new(Inner {
            patience,
            memory,
            presence,
            waiting: Waiting::new(losses),
            waited: Cache::new(CAPACITY),
            metrics,
        }))
    }

    /// The app has answered a user who asked for a community or something in it, or what it has shown them is still in use, now or at a moment
    /// before; answers may come in any order. Never waits.
    pub fn note(&self, scope: &Scope, user: &UserId, news: News, at: Moment) {
        self.0.memory.put((scope.clone(), user.clone()), news, at);
    }

    /// Whether a user was shown a community, or something in it. Where nothing is known, waits for other sidecars, at most until `until`: the
    /// page of this user may have come through one of them just now.
    ///
    /// # Errors
    /// The store cannot tell, and this sidecar has passed on no answer itself; or the store has lost it just now.
    pub async fn may_see(&self, scope: &Scope, user: &UserId, until: Instant) -> Result<bool, PresenceError> {
        let inner = &*self.0;
        let key = (scope.clone(), user.clone());
        let mut place = None;
        let (mut pause, longest) = PAUSES;
        loop {
            let is_lost = match inner.told(&key).await? {
                Told::Verdict(verdict) => return Ok(verdict == Verdict::Shown),
                // By now every other sidecar has told of its refusals.
                Told::Lost {
                    since,
                    is_refused: false,
                } if since.elapsed() >= GRANTS_AFTER => return Ok(true),
                Told::Lost { .. } => true,
                Told::Nothing if !inner.presence.shares_grants() => return Ok(false),
                Told::Nothing => false,
            };
            let has_waited = inner
                .waited
                .get(&key)
                .is_some_and(|at| at.elapsed() < inner.patience);
            if !has_waited {
                place = place.or_else(|| inner.waiting.enter(&key));
            }
            let is_over = Instant::now() >= until;
            if has_waited || place.is_none() || is_over {
                if is_over && place.is_some() {
                    inner.waited.insert(key.clone(), Instant::now());
                }
                return if is_lost {
                    Err(PresenceError::GrantLost)
                } else {
                    Ok(false)
                };
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
    /// The app's last answer, as far as any sidecar knows. The store is asked also where this sidecar has an answer of its
    /// own: another may have passed on a later one.
    async fn told(&self, key: &GrantKey) -> Result<Told, PresenceError> {
        let own = self.memory.get(key);
        if !self.presence.shares_grants() {
            return Ok(own.map_or(Told::Nothing, |own| Told::Verdict(own.verdict)));
        }
        let asked = Moment::now();
        let (scope, user) = key;
        match (self.presence.grant(scope, user).await, own) {
            (Ok(Some(noted)), own) => {
                let noted = Known::noted(noted, asked);
                if let Some(own) = own
                    && (own.verdict, noted.verdict) == (Verdict::Shown, Verdict::Refused)
                    && own.at > noted.at
                    && own.was_recorded(asked)
                {
                    return Ok(Told::Lost {
                        since: self.memory.lose(key, own).unwrap_or_else(Instant::now),
                        is_refused: true,
                    });
                }
                Ok(Told::Verdict(self.memory.later(key, own, noted)))
            }
            (Ok(None), None) => Ok(Told::Nothing),
            (Ok(None), Some(own)) if own.verdict == Verdict::Shown && own.was_recorded(asked) => {
                Ok(Told::Lost {
                    since: self.memory.lose(key, own).unwrap_or_else(Instant::now),
                    is_refused: false,
                })
            }
            // A refusal is told like what is not known, so that a community that there is shows in no answer.
            (Err(error), Some(own)) if own.verdict == Verdict::Refused => Err(error),
            // It is not written yet; the store needs no refusal, as it has no grant; or nothing later can be known.
            (Ok(None) | Err(_), Some(own)) => Ok(Told::Verdict(own.verdict)),
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
