//! A bounded cache whose entries count until a time of their own.
//!
//! When as many entries were added as half of those that are there, and a thousand at least, those that have ended are removed,
//! on a thread for blocking work: whoever adds one does not wait for that. Where nothing is added nothing is removed.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use tokio::runtime::Handle;

/// Fewest entries that are added between two removals.
const LEAST_ADDED: usize = 1_000;
/// Parts with a lock each, whatever the number of cores: the parts share the capacity.
const SHARDS: usize = 16;

/// An entry that counts until a time of its own.
pub(crate) trait Ends: Clone {
    /// Tells of entries whether they count now. The clock is read once for all of them.
    fn counts_now() -> impl Fn(&Self) -> bool;
}

/// The cache. Cheap to clone; clones share the entries.
pub(crate) struct ExpiringCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    entries: Cache<K, V>,
    /// Entries added since those that have ended were removed.
    added: AtomicUsize,
}

impl<K, V> Clone for ExpiringCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> ExpiringCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Ends + Send + Sync + 'static,
{
    /// An empty one for so many entries. Beyond that, roughly those not used for longest are forgotten.
    pub(crate) fn new(capacity: usize) -> Self {
        Self::of(Cache::new(capacity))
    }

    /// The same for exactly so many, of which a part, from 0 to 1, is for those that were used again. The others are for new
    /// ones, of which the oldest are forgotten first.
    pub(crate) fn with_places_for_new_ones(capacity: usize, used_again: f64) -> Self {
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .shards(SHARDS)
            .hot_allocation(used_again);
        let Ok(options) = options.build() else {
            unreachable!("both capacities are set");
        };
        Self::of(Cache::with_options(
            options,
            UnitWeighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ))
    }

    fn of(entries: Cache<K, V>) -> Self {
        Self(Arc::new(Inner {
            entries,
            added: AtomicUsize::new(0),
        }))
    }

    /// The entries, whether they count or not. Who adds one says so ([`ExpiringCache::added`]).
    pub(crate) fn entries(&self) -> &Cache<K, V> {
        &self.0.entries
    }

    /// What a key has, if it counts.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries().get(key).filter(V::counts_now())
    }

    /// Adds an entry, or replaces it.
    pub(crate) fn insert(&self, key: K, value: V) {
        self.entries().insert(key, value);
        self.added();
    }

    /// Changes what a key has to what `change` makes of it; nothing is changed where that is none. What it has then, if that
    /// counts.
    pub(crate) fn change(&self, key: &K, change: impl FnOnce(Option<V>) -> Option<V>) -> Option<V> {
        let mut change = Some(change);
        let mut apply = |before| change.take().and_then(|change| change(before));
        let changed = self.entries().entry(key, None, |_, value| {
            let before = Some(value.clone()).filter(V::counts_now());
            match apply(before.clone()) {
                Some(after) => {
                    *value = after.clone();
                    EntryAction::Retain(Some(after))
                }
                None => EntryAction::Retain(before),
            }
        });
        match changed {
            EntryResult::Retained(value) => value,
            EntryResult::Vacant(place) => {
                let value = apply(None)?;
                let _ = place.insert(value.clone());
                self.added();
                Some(value)
            }
            // Nothing is removed above, and nothing limits the time.
            EntryResult::Removed(..) | EntryResult::Replaced(..) | EntryResult::Timeout => None,
        }
    }

    /// Those of which this is asked, and that count.
    pub(crate) fn all(&self, is_wanted: impl Fn(&K, &V) -> bool) -> Vec<(K, V)> {
        let counts = V::counts_now();
        let all = self.entries().iter();
        all.filter(|(key, value)| counts(value) && is_wanted(key, value))
            .collect()
    }

    /// An entry was added.
    pub(crate) fn added(&self) {
        let inner = &self.0;
        let added = inner.added.fetch_add(1, Ordering::Relaxed) + 1;
        if added < LEAST_ADDED || added < inner.entries.len() / 2 {
            return;
        }
        inner.added.store(0, Ordering::Relaxed);
        let inner = Arc::clone(inner);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || inner.remove_ended())),
            Err(_) => inner.remove_ended(),
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone,
    V: Ends,
{
    /// Each by itself: no lock is held for long.
    fn remove_ended(&self) {
        let counts = V::counts_now();
        for (key, _) in self.entries.iter().filter(|(_, value)| !counts(value)) {
            self.entries.remove_if(&key, |value| !counts(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Number(u64, Instant);

    impl Number {
        fn lasting(number: u64, seconds: u64) -> Self {
            Self(number, Instant::now() + Duration::from_secs(seconds))
        }
    }

    impl Ends for Number {
        fn counts_now() -> impl Fn(&Self) -> bool {
            let now = Instant::now();
            move |number| now < number.1
        }
    }

    async fn becomes(cache: &ExpiringCache<usize, Number>, len: usize) {
        while cache.entries().len() != len {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_does_not_count_and_is_removed_as_others_are_added() {
        let cache = ExpiringCache::new(100_000);
        for key in 0..LEAST_ADDED {
            let seconds = if key < 10 { 60 } else { 5 };
            cache.insert(key, Number::lasting(seconds, seconds));
        }
        let is = |key: usize| cache.get(&key).map(|number| number.0);
        assert_eq!((is(1), is(20)), (Some(60), Some(5)));
        advance(Duration::from_secs(5)).await;
        assert_eq!((is(1), is(20)), (Some(60), None));
        assert_eq!(cache.all(|_, _| true).len(), 10);
        assert_eq!(cache.entries().len(), LEAST_ADDED, "it is there still");
        for key in 0..LEAST_ADDED {
            cache.insert(LEAST_ADDED + key, Number::lasting(60, 60));
        }
        becomes(&cache, LEAST_ADDED + 10).await;
        // More have to be added before the next look at more of them.
        for key in 2 * LEAST_ADDED..8 * LEAST_ADDED {
            cache.insert(key, Number::lasting(5, 5));
        }
        advance(Duration::from_secs(5)).await;
        let there = cache.entries().len();
        for key in 0..there / 2 {
            let key = 8 * LEAST_ADDED + key;
            cache.change(&key, |before| before.or(Some(Number::lasting(60, 60))));
        }
        becomes(&cache, LEAST_ADDED + 10 + there / 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_sees_what_counts() {
        let cache = ExpiringCache::with_places_for_new_ones(1_600, 0.5);
        let add = |before: Option<Number>| Some(Number::lasting(before.map_or(1, |before| before.0 + 1), 5));
        let number = |changed: Option<Number>| changed.map(|number| number.0);
        assert_eq!(number(cache.change(&1, |_| None)), None);
        assert_eq!(cache.entries().len(), 0);
        assert_eq!(number(cache.change(&1, add)), Some(1));
        assert_eq!(number(cache.change(&1, add)), Some(2));
        assert_eq!(number(cache.change(&1, |_| None)), Some(2), "it stays");
        advance(Duration::from_secs(5)).await;
        assert_eq!(number(cache.change(&1, |_| None)), None, "it has ended");
        assert_eq!(number(cache.change(&1, add)), Some(1));
        for key in 0..3_200 {
            cache.change(&key, add);
        }
        assert!(cache.entries().len() <= 1_600);
    }
}
