//! Joined reads: requests for the same thing at the same time share one read.
//!
//! Who asks waits for the next read, which all who wait share: nobody is answered with what was read before the request
//! came, however many ask. The next begins when the one under way has ended, or has taken a while: so a slow read delays
//! the answer to who came after it by no more than that.
//!
//! Reads run in a task of their own, whether or not those who wait are given up. Nothing is kept once nobody waits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

/// The things that are being read now, by key. As many as there are requests, at most.
#[derive(Debug)]
pub(super) struct JoinedReads<K: Eq + Hash, V> {
    subjects: Arc<Subjects<K, V>>,
    /// How long a read delays the next one of the same thing.
    delay: Duration,
}

/// The same, shared with the tasks.
#[derive(Debug)]
struct Subjects<K: Eq + Hash, V>(Mutex<HashMap<K, Subject<V>>>);

/// One thing that is read. There while its task runs.
#[derive(Debug)]
struct Subject<V> {
    waiting: Vec<oneshot::Sender<V>>,
    /// Notified when somebody waits.
    came: Arc<Notify>,
}

impl<K, V> JoinedReads<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + 'static,
{
    /// A read of something begins no later than `delay` after the one before it: so many times as that is in a read's
    /// longest time, so many are made at a time.
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            subjects: Arc::new(Subjects(Mutex::default())),
            delay,
        }
    }

    /// What `read` finds, or what another request's read of the same thing found that began after this call. Failures
    /// are shared, too. `read` limits its own time; giving this up does not end it.
    ///
    /// None if the read panicked.
    pub(super) async fn read<F, R>(&self, key: K, read: F) -> Option<V>
    where
        F: Fn() -> R + Send + 'static,
        R: Future<Output = V> + Send + 'static,
    {
        let (found, waiting) = oneshot::channel();
        if let Some(came) = self.subjects.join(&key, found) {
            let task = SubjectTask {
                subjects: Arc::clone(&self.subjects),
                key,
            };
            tokio::spawn(task.run(read, came, self.delay));
        }
        waiting.await.ok()
    }
}

impl<K: Eq + Hash + Clone, V> Subjects<K, V> {
    /// Adds one who waits. Returns a new subject's signal: its task must be started.
    fn join(&self, key: &K, found: oneshot::Sender<V>) -> Option<Arc<Notify>> {
        let mut subjects = self.locked();
        if let Some(subject) = subjects.get_mut(key) {
            subject.waiting.push(found);
            subject.came.notify_one();
            return None;
        }
        let came = Arc::new(Notify::new());
        let subject = Subject {
            waiting: vec![found],
            came: Arc::clone(&came),
        };
        subjects.insert(key.clone(), subject);
        Some(came)
    }

    /// Takes those who wait for the next read and were not given up. Where there are none, and none is under way
    /// (`is_reading`), the subject is removed.
    fn next(&self, key: &K, is_reading: bool) -> Vec<oneshot::Sender<V>> {
        let mut subjects = self.locked();
        let Some(subject) = subjects.get_mut(key) else {
            return Vec::new();
        };
        let mut waiting = std::mem::take(&mut subject.waiting);
        waiting.retain(|found| !found.is_closed());
        if waiting.is_empty() && !is_reading {
            subjects.remove(key);
        }
        waiting
    }
}

impl<K: Eq + Hash, V> Subjects<K, V> {
    fn locked(&self) -> MutexGuard<'_, HashMap<K, Subject<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the reads of a subject until nobody waits.
struct SubjectTask<K: Eq + Hash, V> {
    subjects: Arc<Subjects<K, V>>,
    key: K,
}

impl<K: Eq + Hash + Clone, V: Clone> SubjectTask<K, V> {
    async fn run<R: Future<Output = V>>(self, read: impl Fn() -> R, came: Arc<Notify>, delay: Duration) {
        let mut reads = FuturesUnordered::new();
        let mut next_at = Instant::now();
        loop {
            let may_begin = reads.is_empty() || next_at <= Instant::now();
            if may_begin {
                let waiting = self.subjects.next(&self.key, !reads.is_empty());
                if !waiting.is_empty() {
                    next_at = Instant::now() + delay;
                    let begun = read();
                    reads.push(async move {
                        let found = begun.await;
                        for one in waiting {
                            let _ = one.send(found.clone());
                        }
                    });
                } else if reads.is_empty() {
                    return;
                }
            }
            let is_early = Instant::now() < next_at;
            tokio::select! {
                _ = reads.next() => {}
                () = sleep_until(next_at), if is_early => {}
                () = came.notified(), if !is_early => {}
            }
        }
    }
}

impl<K: Eq + Hash, V> Drop for SubjectTask<K, V> {
    fn drop(&mut self) {
        // Where a read panicked, or the runtime ends: those who wait are told by the end of their channels.
        if std::thread::panicking() {
            self.subjects.locked().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
