//! Results that requests for the same thing share: who asks while one is computed is answered with it, failed or not, and
//! so is who asks later, for as long as it lasts. Failures are kept for nobody who asks later.

use std::hash::Hash;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::expiring_cache::{Ends, ExpiringCache};

/// Longest time of a result, whatever is configured.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The results of so many things; of more, some are forgotten ([`ExpiringCache::new`]).
pub(crate) struct SharedResults<K, V, E> {
    results: ExpiringCache<K, Finished<V, E>>,
    /// How long a result lasts.
    ttl: Box<dyn Fn(&V) -> Duration + Send + Sync>,
}

#[derive(Clone)]
struct Finished<V, E> {
    outcome: Result<V, E>,
    at: Instant,
    /// How long it lasts.
    until: Instant,
}

impl<V, E> Finished<V, E> {
    fn lasts_at(&self, moment: Instant) -> bool {
        moment < self.until
    }
}

impl<V: Clone, E: Clone> Ends for Finished<V, E> {
    fn counts_now() -> impl Fn(&Self) -> bool + Send {
        let now = Instant::now();
        move |finished| finished.lasts_at(now)
    }
}

impl<K, V, E> SharedResults<K, V, E>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// No results yet. Each lasts for `ttl`.
    pub(crate) fn new(capacity: usize, ttl: Duration) -> Self {
        Self::with_ttl_of(capacity, move |_| ttl)
    }

    /// The same, where how long a result lasts depends on it.
    pub(crate) fn with_ttl_of(capacity: usize, ttl: impl Fn(&V) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            results: ExpiringCache::new(capacity),
            ttl: Box::new(ttl),
        }
    }

    /// The result for a key, if there is one that lasts. Never waits.
    pub(crate) fn known(&self, key: &K) -> Option<V> {
        self.results.get(key)?.outcome.ok()
    }

    /// Forgets the result for a key if it is as described; not one that is being computed.
    pub(crate) fn forget_if(&self, key: &K, is_so: impl Fn(&V) -> bool) {
        self.results
            .remove_if(key, |finished| finished.outcome.as_ref().is_ok_and(&is_so));
    }

    /// The result for a key, which `compute` computes where there is none. Given up, it leaves that to the next who waits.
    pub(crate) async fn get(&self, key: &K, compute: impl Future<Output = Result<V, E>>) -> Result<V, E> {
        let asked = Instant::now();
        let place = loop {
            if let Some(found) = self.known(key) {
                return Ok(found);
            }
            self.results.remove_if(key, |finished| !finished.lasts_at(asked));
            match self.results.place(key).await {
                Ok(finished) if finished.lasts_at(asked) || asked < finished.at => return finished.outcome,
                // It was told to those who waited, and is on the way to its place, from where it will be removed.
                Ok(_) => yield_now().await,
                Err(place) => break place,
            }
        };
        let outcome = compute.await;
        let at = Instant::now();
        let ttl = outcome.as_ref().map_or(Duration::ZERO, |found| (self.ttl)(found));
        place.insert(Finished {
            outcome: outcome.clone(),
            at,
            until: at + ttl.min(LONGEST),
        });
        if outcome.is_err() {
            self.results.remove_if(key, |finished| finished.outcome.is_err());
        }
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

    #[tokio::test(start_paused = true)]
    async fn each_lasts_as_long_as_it_says() {
        let results = SharedResults::<u8, u64, &str>::with_ttl_of(10, |found| Duration::from_secs(*found));
        assert_eq!(results.get(&1, async { Ok(60) }).await, Ok(60));
        assert_eq!(results.get(&2, async { Ok(5) }).await, Ok(5));
        assert_eq!(results.get(&3, async { Err("down") }).await, Err("down"));
        assert_eq!(
            (results.known(&1), results.known(&2), results.known(&3)),
            (Some(60), Some(5), None)
        );
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((results.known(&1), results.known(&2)), (Some(60), None));
        results.forget_if(&1, |found| *found == 8);
        assert_eq!(results.known(&1), Some(60));
        results.forget_if(&1, |found| *found == 60);
        assert_eq!(results.known(&1), None);
    }

    #[tokio::test]
    async fn who_waits_is_told_of_a_failure_though_the_next_computes_anew() {
        let results = SharedResults::<u8, u32, &str>::new(10, LONG);
        let (release, released) = oneshot::channel();
        let mut first = pin!(results.get(&1, async { released.await.unwrap() }));
        let mut waits = pin!(results.get(&1, async { Ok(1) }));
        assert!(poll!(&mut first).is_pending() && poll!(&mut waits).is_pending());
        release.send(Err("down")).unwrap();
        assert_eq!(first.await, Err("down"));
        assert_eq!(results.results.len(), 0, "it takes no place");
        let mut next = pin!(results.get(&1, pending()));
        assert!(poll!(&mut next).is_pending(), "it computes");
        assert_eq!(waits.await, Err("down"));
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
