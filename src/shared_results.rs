//! Results that requests for the same thing share: who asks while one is computed is answered with it, failed or not, and
//! so is who asks later, for as long as it lasts. Failures do not last.

use std::hash::Hash;
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, EntryAction, EntryResult};

/// The results of so many things; of more, those asked for least are forgotten.
pub(crate) struct SharedResults<K, V, E> {
    results: Cache<K, Finished<V, E>>,
    /// How long a result lasts.
    ttl: Duration,
}

#[derive(Clone)]
struct Finished<V, E> {
    outcome: Result<V, E>,
    at: Instant,
}

impl<K, V, E> SharedResults<K, V, E>
where
    K: Hash + Eq + Clone,
    V: Clone,
    E: Clone,
{
    /// No results yet.
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        Self {
            results: Cache::new(capacity),
            ttl,
        }
    }

    /// The result for a key, which `compute` computes where there is none. Given up, it leaves that to the next who waits.
    pub(crate) async fn get(&self, key: &K, compute: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let asked = Instant::now();
        let known = self.results.entry_async(key, |_, finished| {
            let lasts = finished.outcome.is_ok() && asked.duration_since(finished.at) < self.ttl;
            if lasts || asked < finished.at {
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
        let _ = place.insert(Finished {
            outcome: outcome.clone(),
            at: Instant::now(),
        });
        outcome
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
