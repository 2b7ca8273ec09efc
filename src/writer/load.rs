//! Queue load: counts waiting views per queue, and bounds the bytes of all queues together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::metrics::Gauge;
use crate::page_view::{Dropped, Metrics, Queue};

/// The bytes of all waiting views, over all queues: one bound for the memory of recording.
#[derive(Clone)]
pub(crate) struct Bytes {
    used: Arc<AtomicUsize>,
    max: usize,
    shown: Gauge,
}

impl Bytes {
    pub(crate) fn new(max: usize, metrics: &Metrics) -> Self {
        Self {
            used: Arc::default(),
            max,
            shown: metrics.queued_bytes.clone(),
        }
    }
}

/// The views of one queue.
#[derive(Clone)]
pub(crate) struct Load {
    views: Arc<AtomicUsize>,
    bytes: Bytes,
    queue: Queue,
    metrics: Arc<Metrics>,
}

impl Load {
    /// No views so far.
    pub(crate) fn new(queue: Queue, bytes: Bytes, metrics: &Arc<Metrics>) -> Self {
        Self {
            views: Arc::default(),
            bytes,
            queue,
            metrics: Arc::clone(metrics),
        }
    }

    /// Counts one more view, unless its bytes do not fit.
    pub(crate) fn add(&self, weight: usize) -> bool {
        let before = self.bytes.used.fetch_add(weight, Ordering::Relaxed);
        if before.saturating_add(weight) > self.bytes.max {
            self.bytes.used.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        self.bytes.shown.add(as_f64(weight));
        self.views.fetch_add(1, Ordering::Relaxed);
        self.metrics.queued[self.queue].inc();
        true
    }

    /// Frees bytes; the views still count.
    pub(crate) fn free(&self, weight: usize) {
        self.bytes.used.fetch_sub(weight, Ordering::Relaxed);
        self.bytes.shown.sub(as_f64(weight));
    }

    /// Counts views as done.
    pub(crate) fn done(&self, views: usize) {
        self.views.fetch_sub(views, Ordering::Relaxed);
        self.metrics.queued[self.queue].sub(as_f64(views));
    }

    /// Views that wait.
    pub(crate) fn views(&self) -> usize {
        self.views.load(Ordering::Relaxed)
    }
}

/// Views that a task has taken from its queue. If the task panics, they are dropped and counted: no other part knows of
/// them.
pub(crate) struct InProgress {
    load: Load,
    views: usize,
    weight: usize,
}

impl InProgress {
    /// No views so far.
    pub(crate) fn new(load: &Load) -> Self {
        Self {
            load: load.clone(),
            views: 0,
            weight: 0,
        }
    }

    /// Adds a view.
    pub(crate) fn take(&mut self, weight: usize) {
        self.views += 1;
        self.weight += weight;
    }

    /// Number of the views.
    pub(crate) fn views(&self) -> usize {
        self.views
    }

    /// Bytes of the views.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Frees their bytes; the views still count.
    pub(crate) fn free(&mut self) {
        self.load.free(std::mem::take(&mut self.weight));
    }

    /// Counts the views as done.
    pub(crate) fn done(&mut self) {
        self.load.done(std::mem::take(&mut self.views));
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.load.metrics.dropped[Dropped::TaskFailed].inc_by(self.views as u64);
            self.free();
            self.done();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size in memory")]
fn as_f64(size: usize) -> f64 {
    size as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_queues_share_one_bound_of_bytes() {
        let metrics = Arc::<Metrics>::default();
        let bytes = Bytes::new(100, &metrics);
        let (first, second) = (
            Load::new(Queue::Recorder, bytes.clone(), &metrics),
            Load::new(Queue::Writer, bytes, &metrics),
        );
        assert!(first.add(60));
        assert!(!second.add(50), "more than what is left");
        assert!(second.add(40));
        assert_eq!((first.views(), second.views()), (1, 1));
        assert!((metrics.queued_bytes.get() - 100.0).abs() < f64::EPSILON);
        first.free(60);
        first.done(1);
        assert!(second.add(60));
        assert_eq!((first.views(), second.views()), (0, 2));
    }

    #[test]
    fn t3_what_a_task_has_in_hand_that_panics_is_given_up_and_counted() {
        let metrics = Arc::<Metrics>::default();
        let load = Load::new(Queue::Writer, Bytes::new(100, &metrics), &metrics);
        assert!(load.add(60) && load.add(30));
        let in_progress = |weight| {
            let mut hand = InProgress::new(&load);
            hand.take(weight);
            hand
        };
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _hand = in_progress(60);
            panic!("on purpose")
        }));
        assert!(panics.is_err());
        let dropped = &metrics.dropped[Dropped::TaskFailed];
        assert_eq!((load.views(), dropped.get()), (1, 1));
        assert!((metrics.queued_bytes.get() - 30.0).abs() < f64::EPSILON);
        // A task that is stopped does not panic: its views are counted at the end.
        drop(in_progress(30));
        assert_eq!((load.views(), dropped.get()), (1, 1));
    }
}
