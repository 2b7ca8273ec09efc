//! A bounded cache whose entries count until a time of their own.
//!
//! Those that have ended are removed by a task, a few at a time, so that whoever adds one does not wait for that: each time when
//! a quarter of what is there was added, or an eighth of the capacity, rounded up to whole thousands. Where nothing is added
//! nothing is removed.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use tokio::runtime::Handle;
use tokio::task::yield_now;

/// Fewest entries that are added between two removals.
const LEAST_ADDED: usize = 1_000;
/// Part of the places that those may take which came first and those which are used again and again.
const LASTING_PLACES: f64 = 0.5;
/// Entries that are looked at before others of the thread go on.
const LOOKED_AT: usize = 100;
/// Parts with a lock each, whatever the number of cores: they share the capacity.
const SHARDS: usize = 16;

/// An entry that counts until a time of its own.
pub(crate) trait Ends: Clone {
    /// Tells of entries whether they count at this moment: the clock is read once for all of them.
    fn counts_now() -> impl Fn(&Self) -> bool + Send;
}

/// The cache. Cheap to clone; clones share the entries.
pub(crate) struct ExpiringCache<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    entries: Cache<K, V>,
    capacity: usize,
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
    /// An empty one for so many entries. Beyond that some are forgotten that were not used again: half of the places keep what
    /// came first until others are used again, and of the rest the oldest goes.
    pub(crate) fn new(capacity: usize) -> Self {
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(capacity)
            .weight_capacity(capacity as u64)
            .shards(SHARDS)
            .hot_allocation(LASTING_PLACES);
        let Ok(options) = options.build() else {
            unreachable!("both capacities are set");
        };
        let entries = Cache::with_options(
            options,
            UnitWeighter,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        );
        Self(Arc::new(Inner {
            entries,
            capacity,
            added: AtomicUsize::new(0),
        }))
    }

    /// How many entries there are, whether they count or not.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> &Cache<K, V> {
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

    /// Removes what a key has, if it is as described, whether it counts or not.
    pub(crate) fn remove_if(&self, key: &K, is_so: impl FnOnce(&V) -> bool) {
        self.entries().remove_if(key, is_so);
    }

    /// What a key has, whether it counts or not, else the place for it. While somebody else has the place this waits for what
    /// is put there, and gets that, or the place if nothing was. [`Self::change`] blocks its thread meanwhile: a cache has one of
    /// the two alone.
    pub(crate) async fn place(&self, key: &K) -> Result<V, Vacancy<'_, K, V>> {
        let found = self.entries().get_value_or_guard_async(key).await;
        found.map_err(|guard| Vacancy { cache: self, guard })
    }

    /// Changes what a key has to what `change` makes of it; nothing is changed where that is none. What it has then, if that
    /// counts. Not of a cache whose places are kept across an `await` ([`Self::place`]).
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
    fn added(&self) {
        let inner = &self.0;
        let added = inner.added.fetch_add(1, Ordering::Relaxed) + 1;
        // What has ended must not fill the places of what counts.
        let is_due = || added >= inner.entries.len().min(inner.capacity / 2) / 4;
        if !added.is_multiple_of(LEAST_ADDED) || !is_due() {
            return;
        }
        inner.added.store(0, Ordering::Relaxed);
        // Without one, nothing is removed: as in tests.
        if let Ok(runtime) = Handle::try_current() {
            let inner = Arc::clone(inner);
            runtime.spawn(async move { inner.remove_ended().await });
        }
    }
}

/// The place of a key without an entry: one caller fills it, the others wait for that. If it is dropped unfilled, the next of
/// them gets it.
pub(crate) struct Vacancy<'a, K, V> {
    cache: &'a ExpiringCache<K, V>,
    guard: PlaceholderGuard<'a, K, V, UnitWeighter, DefaultHashBuilder, DefaultLifecycle<K, V>>,
}

impl<K, V> Vacancy<'_, K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Ends + Send + Sync + 'static,
{
    /// Fills it. Those who wait get the value itself, whatever becomes of the entry.
    pub(crate) fn insert(self, value: V) {
        let _ = self.guard.insert(value);
        self.cache.added();
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone,
    V: Ends,
{
    /// Each by itself: no lock is held for long.
    async fn remove_ended(&self) {
        let counts = V::counts_now();
        for (nth, (key, value)) in self.entries.iter().enumerate() {
            if nth % LOOKED_AT == 0 {
                yield_now().await;
            }
            if !counts(&value) {
                self.entries.remove_if(&key, |value| !counts(value));
            }
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
        fn counts_now() -> impl Fn(&Self) -> bool + Send {
            let now = Instant::now();
            move |number| now < number.1
        }
    }

    /// Lets the task look at all there is.
    async fn looked_at(cache: &ExpiringCache<usize, Number>) -> usize {
        for _ in 0..1_000 {
            yield_now().await;
        }
        cache.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_does_not_count_and_is_removed_as_others_are_added() {
        let cache = ExpiringCache::new(100_000);
        for key in 1..LEAST_ADDED {
            let seconds = if key <= 10 { 60 } else { 5 };
            cache.insert(key, Number::lasting(seconds, seconds));
        }
        let is = |key: usize| cache.get(&key).map(|number| number.0);
        assert_eq!((is(1), is(20)), (Some(60), Some(5)));
        advance(Duration::from_secs(5)).await;
        assert_eq!((is(1), is(20)), (Some(60), None));
        assert_eq!(cache.all(|_, _| true).len(), 10);
        assert_eq!(cache.len(), LEAST_ADDED - 1, "they are there still");
        cache.insert(LEAST_ADDED, Number::lasting(60, 60));
        assert_eq!(looked_at(&cache).await, 11);
        // What a change adds counts, too.
        let add = |key, seconds| cache.change(&key, |_| Some(Number::lasting(seconds, seconds)));
        for key in 2_001..3_000 {
            add(key, 5);
        }
        advance(Duration::from_secs(5)).await;
        add(3_000, 60);
        assert_eq!(looked_at(&cache).await, 12);
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_much_more_is_added_between_two_looks_at_it() {
        let cache = ExpiringCache::new(100_000);
        let mut keys = 0..;
        let mut add = |number: usize, seconds| {
            for key in keys.by_ref().take(number) {
                cache.insert(key, Number::lasting(seconds, seconds));
            }
        };
        add(20_000, 600);
        while cache.0.added.load(Ordering::Relaxed) > 0 {
            add(1, 600);
        }
        add(100, 5);
        let there = looked_at(&cache).await;
        advance(Duration::from_secs(5)).await;
        add(3_900, 600);
        assert_eq!(looked_at(&cache).await, there + 3_900, "a quarter is more");
        add(6_000, 600);
        assert_eq!(looked_at(&cache).await, there + 9_900 - 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_sees_what_counts() {
        let cache = ExpiringCache::new(1_600);
        let add = |before: Option<Number>| Some(Number::lasting(before.map_or(1, |before| before.0 + 1), 5));
        let number = |changed: Option<Number>| changed.map(|number| number.0);
        assert_eq!(number(cache.change(&1, |_| None)), None);
        assert_eq!(cache.len(), 0);
        assert_eq!(number(cache.change(&1, add)), Some(1));
        assert_eq!(number(cache.change(&1, add)), Some(2));
        assert_eq!(number(cache.change(&1, |_| None)), Some(2), "it stays");
        advance(Duration::from_secs(5)).await;
        assert_eq!(number(cache.change(&1, |_| None)), None, "it has ended");
        assert_eq!(number(cache.change(&1, add)), Some(1));
        for key in 0..3_200 {
            cache.change(&key, add);
        }
        assert!(cache.len() <= 1_600);
    }
}
