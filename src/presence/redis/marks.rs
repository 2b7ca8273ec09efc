//! Marks: numbers that detect data loss in Redis on a live connection (P14).
//! Examples are FLUSHALL, a failover behind the connection, one node of several that came back empty.
//!
//! In each partition each sidecar keeps a key of its own with a number that it raises with each sweep. If the
//! number found there is lower than the one that Redis last confirmed, Redis has lost writes. Each sidecar has its
//! own number, because a shared one that went back could have been raised again by another sidecar before this one
//! looks. Pure.
//!
//! Where no number is found, touches may be lost, also before the first one was written: touches may have come
//! before it. The same holds where the key expired because the sidecar did not sweep. Both cost a needless
//! re-touch at most.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers confirmed by Redis, by partition; 0 before the first.
#[derive(Debug)]
pub(super) struct Marks {
    /// Names the sidecar's marks: made up anew by each process.
    id: String,
    next: AtomicU64,
    confirmed: Vec<AtomicU64>,
}

impl Marks {
    /// For a sidecar that calls itself `id`.
    pub(super) fn new(id: String, partitions: NonZeroU16) -> Self {
        Self {
            id,
            next: AtomicU64::new(1),
            confirmed: (0..partitions.get()).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Last part of this sidecar's keys.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The number to write next.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Redis has written `number` over the number `found`; returns whether touches may have been lost before.
    pub(super) fn written(&self, partition: u16, number: u64, found: Option<u64>) -> bool {
        let Some(confirmed) = self.confirmed.get(usize::from(partition)) else {
            return false;
        };
        let confirmed = confirmed.swap(number, Ordering::Relaxed);
        found.is_none_or(|found| found < confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks() -> Marks {
        Marks::new("sidecar".into(), NonZeroU16::new(2).unwrap())
    }

    #[test]
    fn p14_a_mark_that_is_gone_or_went_back_tells_that_something_was_lost() {
        let marks = marks();
        assert!(marks.written(0, 1, None), "who knows what came before");
        assert!(!marks.written(0, 2, Some(1)));
        assert!(marks.written(0, 3, None), "flushed");
        assert!(!marks.written(0, 4, Some(3)), "told once");
        assert!(
            marks.written(0, 5, Some(3)),
            "a replica that lacks the last write"
        );
    }

    #[test]
    fn an_answer_that_was_not_heard_is_no_loss() {
        let marks = marks();
        marks.written(0, 1, None);
        // 2 was written, but the answer did not come.
        assert!(!marks.written(0, 3, Some(2)));
    }

    #[test]
    fn partitions_are_told_apart() {
        let marks = marks();
        marks.written(0, 1, None);
        marks.written(1, 2, None);
        assert!(!marks.written(0, 3, Some(1)));
        assert!(marks.written(1, 4, Some(1)));
        assert!(!marks.written(7, 5, None), "there is no such partition");
    }

    #[test]
    fn numbers_rise() {
        let marks = marks();
        assert!(marks.next() < marks.next());
        assert_eq!(marks.id(), "sidecar");
    }
}
