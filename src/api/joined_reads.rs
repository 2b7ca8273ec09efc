//! Reads that requests for the same thing share.
//!
//! Who asks while a read is under way waits for the next one, which all who wait share: nobody is answered with what
//! was read before the request came, however many ask. Nothing is kept once nobody waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The things that are being read now, by key. As many as there are requests, at most.
#[derive(Debug)]
pub(super) struct JoinedReads<K: Eq + Hash, V> {
    subjects: Mutex<HashMap<K, Arc<Subject<V>>>>,
}

/// One thing that is read.
#[derive(Debug)]
struct Subject<V> {
    /// How many reads have begun.
    begun: AtomicU64,
    /// The last that has ended: its number, and what it found. Locked while one is under way.
    last: tokio::sync::Mutex<Option<(u64, V)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> JoinedReads<K, V> {
    pub(super) fn new() -> Self {
        Self {
            subjects: Mutex::default(),
        }
    }

    /// What `read` finds, or what another request's read of the same thing found that began after this call. Failures
    /// are shared, too. Takes the time of two reads at the most, unless requests are given up.
    pub(super) async fn read(&self, key: K, read: impl AsyncFnOnce() -> V) -> V {
        let joined = self.join(key);
        let subject = &joined.subject;
        let begun_before = subject.begun.load(Ordering::SeqCst);
        let mut last = subject.last.lock().await;
        if let Some((number, found)) = &*last
            && *number > begun_before
        {
            return found.clone();
        }
        let number = subject.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let found = read().await;
        *last = Some((number, found.clone()));
        found
    }

    fn join(&self, key: K) -> Joined<'_, K, V> {
        let mut subjects = self.locked();
        let subject = subjects.entry(key.clone()).or_insert_with(|| {
            Arc::new(Subject {
                begun: AtomicU64::new(0),
                last: tokio::sync::Mutex::new(None),
            })
        });
        Joined {
            subject: Arc::clone(subject),
            reads: self,
            key,
        }
    }
}

impl<K: Eq + Hash, V> JoinedReads<K, V> {
    fn locked(&self) -> MutexGuard<'_, HashMap<K, Arc<Subject<V>>>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's part in a subject, which goes with the last of them.
struct Joined<'a, K: Eq + Hash, V> {
    subject: Arc<Subject<V>>,
    reads: &'a JoinedReads<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for Joined<'_, K, V> {
    fn drop(&mut self) {
        let mut subjects = self.reads.locked();
        // The map's and this one's: no other request has it, and none gets it while the map is locked.
        if Arc::strong_count(&self.subject) == 2 {
            subjects.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::{join_all, poll_immediate};
    use tokio::sync::Semaphore;

    use super::JoinedReads;

    /// Reads that end when they are let, and find their own number.
    struct Reads {
        joined: JoinedReads<&'static str, usize>,
        begun: Cell<usize>,
        let_end: Semaphore,
    }

    impl Reads {
        fn new() -> Self {
            Self {
                joined: JoinedReads::new(),
                begun: Cell::new(0),
                let_end: Semaphore::new(0),
            }
        }

        async fn read(&self, key: &'static str) -> usize {
            let read = async || {
                self.begun.set(self.begun.get() + 1);
                let number = self.begun.get();
                self.let_end.acquire().await.unwrap().forget();
                number
            };
            self.joined.read(key, read).await
        }
    }

    #[tokio::test]
    async fn those_who_ask_during_a_read_share_the_next_one() {
        let reads = Reads::new();
        let mut first = Box::pin(reads.read("a"));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut others = Box::pin(join_all((0..3).map(|_| reads.read("a"))));
        assert_eq!(poll_immediate(&mut others).await, None);
        assert_eq!(reads.begun.get(), 1, "they wait");
        reads.let_end.add_permits(2);
        assert_eq!(first.await, 1);
        assert_eq!(
            others.await,
            [2, 2, 2],
            "what was read before they asked is not theirs"
        );
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_is_made_by_another() {
        let reads = Reads::new();
        let mut first = Box::pin(reads.read("a"));
        assert_eq!(poll_immediate(&mut first).await, None);
        let mut second = Box::pin(reads.read("a"));
        assert_eq!(poll_immediate(&mut second).await, None);
        drop(first);
        reads.let_end.add_permits(1);
        assert_eq!(second.await, 2);
    }

    #[tokio::test]
    async fn different_things_are_read_side_by_side_and_nothing_is_kept() {
        let reads = Reads::new();
        let mut both = Box::pin(join_all(["a", "b"].map(|key| reads.read(key))));
        assert_eq!(poll_immediate(&mut both).await, None);
        assert_eq!(reads.begun.get(), 2);
        reads.let_end.add_permits(3);
        both.await;
        assert!(reads.joined.locked().is_empty());
        assert_eq!(reads.read("a").await, 3, "a later request is answered anew");
    }
}
