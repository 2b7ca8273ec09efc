//! Results that requests for the same thing share: who asks while one is computed is answered with it, failed or not, and
//! so is who asks later, for as long as it lasts. Failures do not last.
//!
//! What has ended is removed each time when half as many results were added as there are, so that the work is shared by those
//! who add.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::time::Instant;

/// Longest time of a result, whatever is configured.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Fewest results that are added between two removals of what has ended.
const LEAST_ADDED: usize = 1_000;

/// The results of so many things; of more, those asked for least are forgotten.
pub(crate) struct SharedResults<K, V, E> {
    results: Cache<K, Finished<V, E>>,
    /// How long a result lasts.
    ttl: Box<dyn Fn(&V) -> Duration + Send + Sync>,
    /// Results added since what has ended was removed.
    added: AtomicUsize,
}

#[derive(Clone)]
struct Finished<V, E> {
    outcome: Result<V, E>,
    at: Instant,
    until: Instant,
}

impl<K, V, E> SharedResults<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Clone,
    E: Clone,
{
    /// No results yet. Each lasts for `ttl`.
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        Self::lasting(capacity, move |_| ttl)
    }

    /// The same, where how long a result lasts depends on it.
    pub(crate) fn lasting(capacity: usize, ttl: impl Fn(&V) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            results: Cache::new(capacity),
            ttl: Box::new(ttl),
            added: AtomicUsize::new(0),
        }
    }

    /// The result for a key, if there is one that lasts. Never waits.
    pub(crate) fn known(&self, key: &K) -> Option<V> {
        let finished = self.results.get(key)?;
        finished.lasts_at(Instant::now()).then(|| finished.outcome.ok())?
    }

    /// Forgets the result for a key if it is as described; not one that is being computed.
    pub(crate) fn forget_if(&self, key: &K, is_so: impl Fn(&V) -> bool) {
        self.results
            .remove_if(key, |finished| finished.outcome.as_ref().is_ok_and(&is_so));
    }

    /// The result for a key, which `compute` computes where there is none. Given up, it leaves that to the next who waits.
    pub(crate) async fn get(&self, key: &K, compute: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let asked = Instant::now();
        let known = self.results.entry_async(key, |_, finished| {
            if finished.lasts_at(asked) || asked < finished.at {
                EntryAction::Retain(finished.outcome.clone())
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let place = match known.await {
            EntryResult::Retained(outcome) => return outcome,
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => place,
            // Nothing is removed above, and nothing limits the time.
            EntryResult::Removed(..) | EntryResult::Timeout => return compute.await,
        };
        let outcome = compute.await;
        let at = Instant::now();
        let ttl = outcome.as_ref().map_or(Duration::ZERO, |found| (self.ttl)(found));
        let _ = place.insert(Finished {
            outcome: outcome.clone(),
            at,
            until: at + ttl.min(LONGEST),
        });
        self.remove_ended(at);
        outcome
    }

    /// A result was added.
    fn remove_ended(&self, now: Instant) {
        let added = self.added.fetch_add(1, Ordering::Relaxed) + 1;
        if added >= LEAST_ADDED.max(self.results.len() / 2) {
            self.added.store(0, Ordering::Relaxed);
            self.results.retain(|_, finished| finished.lasts_at(now));
        }
    }
}

impl<V, E> Finished<V, E> {
    fn lasts_at(&self, moment: Instant) -> bool {
        moment < self.until
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use futures_util::future::{join, pending};
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn a_result_is_computed_once_while_it_lasts_and_a_failure_for_those_who_wait() {
        let results = SharedResults::<u8, u32, &str>::new(10, LONG);
        let computed = Cell::new(0);
        let count = async |outcome| {
            computed.set(computed.get() + 1);
            tokio::task::yield_now().await;
            outcome
        };
        let both =
            async |outcome| join(results.get(&1, count(outcome)), results.get(&1, count(outcome))).await;
        assert_eq!(both(Err("down")).await, (Err("down"), Err("down")));
        assert_eq!(computed.get(), 1, "the second waited");
        assert_eq!(both(Ok(7)).await, (Ok(7), Ok(7)));
        assert_eq!(computed.get(), 2, "a failure does not last");
        assert_eq!(both(Ok(8)).await, (Ok(7), Ok(7)));
        assert_eq!(results.get(&2, count(Ok(8))).await, Ok(8), "another key");
        let brief = SharedResults::<u8, u32, &str>::new(10, Duration::ZERO);
        assert_eq!(brief.get(&1, count(Ok(1))).await, Ok(1));
        assert_eq!(brief.get(&1, count(Ok(2))).await, Ok(2), "it does not last");
    }

    #[tokio::test(start_paused = true)]
    async fn each_lasts_as_long_as_it_says_and_is_removed_after_it() {
        let results =
            SharedResults::<usize, u64, &str>::lasting(100_000, |found| Duration::from_secs(*found));
        let get = async |key, found| results.get(&key, async { Ok(found) }).await.unwrap();
        for key in 0..LEAST_ADDED {
            get(key, if key < 10 { 60 } else { 5 }).await;
        }
        assert_eq!(
            (results.known(&1), results.known(&20), results.results.len()),
            (Some(60), Some(5), LEAST_ADDED)
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((results.known(&1), results.known(&20)), (Some(60), None));
        for key in 0..LEAST_ADDED {
            get(LEAST_ADDED + key, 60).await;
        }
        assert_eq!(results.results.len(), LEAST_ADDED + 10, "the others are gone");
        assert_eq!(get(20, 7).await, 7, "computed anew");
        results.forget_if(&20, |found| *found == 8);
        assert_eq!(results.known(&20), Some(7));
        results.forget_if(&20, |found| *found == 7);
        assert_eq!(results.known(&20), None);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_computation_to_the_next() {
        let results = SharedResults::<u8, u32, &str>::new(10, LONG);
        let (release, released) = oneshot::channel();
        let mut next = pin!(results.get(&1, async { Ok(released.await.unwrap()) }));
        {
            let mut first = pin!(results.get(&1, pending()));
            assert!(poll!(&mut first).is_pending());
            assert!(poll!(&mut next).is_pending());
            release.send(5).unwrap();
            assert!(poll!(&mut next).is_pending(), "the first computes");
        }
        assert_eq!(next.await, Ok(5));
    }
}
