//! What this sidecar knows of grants: the app's last answers that it passed on, and what others have told. Pure but for
//! the clock and the removal of what has ended; what the store must have is queued for the worker by its key alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::known::{GrantKey, KeptRefusals, Known, Recorded};
use super::{News, NotedGrant, OPEN_FOR, Verdict};
use crate::expiring_cache::ExpiringCache;
use crate::ids::UserId;
use crate::presence::Scope;
use crate::presence::moment::Moment;

/// Users remembered, counted once per community, and as many counted once per finer thing; some 200 bytes each. Beyond that some
/// are forgotten that were not used again ([`ExpiringCache::new`]): whoever asks for many communities keeps nobody's grant out, nor
/// does whoever views many posts.
pub(super) const CAPACITY: usize = 100_000;
/// How long a refusal that takes nothing away is kept: for as long as an earlier answer may be under way. With a shared
/// store, of each user's only those beyond [`KEPT_REFUSALS`].
const NOTHING_TAKEN: Duration = Duration::from_secs(60);
/// Refusals that take nothing away, as far as is known, which are kept for the whole time, for each user and time: another
/// sidecar may know of an earlier grant that it could not write yet. Further ones are of somebody who tries what there is.
const KEPT_REFUSALS: u32 = 100;
/// How much later than the answer that was written last one like it is written, too: another sidecar may have passed on a
/// different one since.
const LIKE_BEFORE: Duration = Duration::from_secs(5);
/// Keys that wait for the worker; further ones it looks for itself.
const QUEUE: usize = 10_000;

/// What grants are of: neither of the two keeps the other out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Layer {
    Community,
    Finer,
}

impl Layer {
    fn of(scope: &Scope) -> Self {
        match scope.finer() {
            Some(_) => Self::Finer,
            None => Self::Community,
        }
    }
}

/// The memory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Memory {
    /// How long a grant lasts.
    kept: Duration,
    /// Whether a store is to have it.
    is_shared: bool,
    communities: ExpiringCache<GrantKey, Known>,
    finer: ExpiringCache<GrantKey, Known>,
    /// By user, of communities and of finer things.
    refusals: ExpiringCache<(UserId, Layer), KeptRefusals>,
    queue: mpsc::Sender<GrantKey>,
    /// Whether something that is to be written is not in the queue.
    has_more: Arc<AtomicBool>,
}

impl Memory {
    /// An empty one, and the queue of what is to be written.
    pub(super) fn new(kept: Duration, is_shared: bool) -> (Self, mpsc::Receiver<GrantKey>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let memory = Self {
            kept,
            is_shared,
            communities: ExpiringCache::new(CAPACITY),
            finer: ExpiringCache::new(CAPACITY),
            refusals: ExpiringCache::new(CAPACITY),
            queue: sender,
            has_more: Arc::default(),
        };
        (memory, queue)
    }

    /// What is known, and still counts.
    pub(super) fn get(&self, key: &GrantKey) -> Option<Known> {
        self.of(key).get(key)
    }

    /// Takes what is news, and queues it where the store must have it.
    pub(super) fn put(&self, key: GrantKey, news: News, at: Moment) {
        let mut is_queued = false;
        self.of(&key).change(&key, |before| {
            let (verdict, answered) = self.answer(before, news, at)?;
            let is_brief = verdict == Verdict::Refused
                && match before {
                    Some(before) if before.verdict == Verdict::Shown => false,
                    // As the one before.
                    Some(before) => before.until.since(before.at) <= NOTHING_TAKEN * 2,
                    None => !self.keeps_refusal(&key),
                };
            let until = if is_brief {
                (at + self.kept).min(Moment::now() + NOTHING_TAKEN)
            } else {
                at + self.kept
            };
            // A refusal lasts at least for as long as the grant that it takes away.
            let until = before.map_or(until, |before| {
                if verdict == Verdict::Refused || before.verdict == verdict {
                    until.max(before.until)
                } else {
                    until
                }
            });
            let like_before = before.filter(|before| before.verdict == verdict);
            let recorded = match like_before.map(|before| before.recorded) {
                _ if !self.is_shared => Recorded::There { at: answered, until },
                Some(there @ Recorded::There { at, until: recorded })
                    if until.since(recorded) < self.kept / 4 && answered.since(at) < LIKE_BEFORE =>
                {
                    there
                }
                Some(Recorded::Queued) => Recorded::Queued,
                Some(kept @ (Recorded::Lost(_) | Recorded::Prolonged { .. })) if news == News::StillShown => {
                    kept
                }
                Some(Recorded::There { until, .. }) if news == News::StillShown => {
                    is_queued = true;
                    Recorded::Prolonged { until }
                }
                _ => {
                    is_queued = true;
                    Recorded::Queued
                }
            };
            Some(Known {
                verdict,
                at: answered,
                until,
                recorded,
            })
        });
        if is_queued {
            self.queue(key);
        }
    }

    /// What the app has answered last, and when, after some news; none where they change nothing.
    fn answer(&self, before: Option<Known>, news: News, at: Moment) -> Option<(Verdict, Moment)> {
        match (news, before) {
            (News::Answer(_), Some(before)) if before.at > at => None,
            (News::Answer(verdict), _) => Some((verdict, at)),
            (News::StillShown, Some(before)) => {
                let prolongs = before.verdict == Verdict::Shown
                    && Moment::now() < before.until
                    && at.since(before.at) <= self.kept * OPEN_FOR;
                prolongs.then_some((Verdict::Shown, before.at))
            }
            (News::StillShown, None) => None,
        }
    }

    /// Whether a refusal that takes nothing away is kept for the whole time; then it counts.
    fn keeps_refusal(&self, (scope, user): &GrantKey) -> bool {
        if !self.is_shared {
            return false;
        }
        let mut keeps = true;
        self.refusals.change(&(user.clone(), Layer::of(scope)), |before| {
            let number = before.map_or(0, |before| before.number);
            keeps = number < KEPT_REFUSALS;
            keeps.then(|| KeptRefusals {
                number: number + 1,
                until: Moment::now() + self.kept,
            })
        });
        keeps
    }

    /// The later of this sidecar's answer and the store's.
    pub(super) fn later(&self, key: &GrantKey, own: Option<Known>, noted: Known) -> Verdict {
        match own {
            Some(own) if own.verdict != noted.verdict && own.at > noted.at => {
                self.write_again(key, own);
                return own.verdict;
            }
            Some(own) if own.verdict == noted.verdict && own.at >= noted.at && own.until >= noted.until => {
                return own.verdict;
            }
            _ => {}
        }
        let taken = self.of(key).change(key, |before| match before {
            Some(before) if before.verdict == noted.verdict => Some(before.with(noted)),
            Some(before) if before.at > noted.at => None,
            _ => Some(noted),
        });
        taken.map_or(noted.verdict, |known| known.verdict)
    }

    /// Has the store told once more, unless something else is known by now.
    pub(super) fn write_again(&self, key: &GrantKey, own: Known) {
        // Not one that the store was seen to have lost since, which waits for the refusals of others.
        let is_own = |known: &Known| {
            (known.verdict, known.recorded) == (own.verdict, own.recorded) && known.at >= own.at
        };
        if self.mark(key, Recorded::Queued, is_own) {
            self.queue(key.clone());
        }
    }

    /// Notes that the store has lost what it had, and tells the worker. Since when that is known; none where something else
    /// is known by now.
    pub(super) fn lose(&self, key: &GrantKey, own: Known) -> Option<Instant> {
        if let Recorded::Lost(since) = own.recorded {
            return Some(since);
        }
        let now = Instant::now();
        let is_marked = self.mark(key, Recorded::Lost(now), |known| *known == own);
        if is_marked {
            self.queue(key.clone());
        }
        is_marked.then_some(now)
    }

    /// Notes that the worker is to write those of whom this is asked, and that it has not in hand already. What has become of one
    /// in the meantime is asked about once more.
    pub(super) fn mark_queued(&self, is_wanted: impl Fn(&GrantKey, &Known) -> bool) -> Vec<GrantKey> {
        let all = self.all(&is_wanted).into_iter().map(|(key, _)| key);
        all.filter(|key| self.mark(key, Recorded::Queued, |known| is_wanted(key, known)))
            .collect()
    }

    fn mark(&self, key: &GrantKey, recorded: Recorded, is_wanted: impl Fn(&Known) -> bool) -> bool {
        let mut is_marked = false;
        self.of(key).change(key, |before| {
            let before = before.filter(|before| is_wanted(before) && before.recorded != Recorded::Queued)?;
            is_marked = true;
            Some(Known { recorded, ..before })
        });
        is_marked
    }

    /// The store has been told `sent` at `called`, and has this now. Whether something else is to be written by now.
    pub(super) fn written(
        &self,
        key: &GrantKey,
        sent: Known,
        stands: Option<NotedGrant>,
        called: Moment,
    ) -> bool {
        let mut is_queued = false;
        self.of(key).change(key, |before| {
            let before = before?;
            if before != sent {
                is_queued = before.is_queued();
                return None;
            }
            Some(match stands.map(|stands| Known::noted(stands, called)) {
                Some(stands) if stands.verdict == sent.verdict => sent.with(stands),
                // The store has judged: it is later, whatever the clocks make of that here.
                Some(stands) => Known {
                    at: stands.at.max(sent.at),
                    ..stands
                },
                None => Known {
                    recorded: Recorded::There {
                        at: sent.at,
                        until: sent.until,
                    },
                    ..sent
                },
            })
        });
        is_queued
    }

    /// What is known of those of whom this is asked.
    pub(super) fn all(&self, is_wanted: impl Fn(&GrantKey, &Known) -> bool) -> Vec<(GrantKey, Known)> {
        let mut all = self.communities.all(&is_wanted);
        all.extend(self.finer.all(&is_wanted));
        all
    }

    /// Whether the worker must look for what is to be written; that is then noted as done.
    pub(super) fn takes_more(&self) -> bool {
        self.has_more.swap(false, Ordering::Relaxed)
    }

    /// What is to be written is not in the worker's hands.
    pub(super) fn leave(&self) {
        self.has_more.store(true, Ordering::Relaxed);
    }

    /// Where a grant of its layer is.
    fn of(&self, (scope, _): &GrantKey) -> &ExpiringCache<GrantKey, Known> {
        match Layer::of(scope) {
            Layer::Community => &self.communities,
            Layer::Finer => &self.finer,
        }
    }

    fn queue(&self, key: GrantKey) {
        if self.queue.try_send(key).is_err() {
            self.leave();
        }
    }
}
