//! Slots of the pool, one for each connection that it may have: whether all are taken, by connections that operations have or that
//! are on their way back from one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long after one was left all count as taken: whoever waits next may not have noted yet that it is theirs.
const HANDED_OVER: Duration = Duration::from_millis(100);

/// The slots of a pool.
pub(super) struct PoolSlots {
    all: u32,
    taken: Mutex<TakenSlots>,
}

#[derive(Default)]
struct TakenSlots {
    number: u32,
    /// When one of all was left.
    last_full: Option<Instant>,
}

/// A slot that is taken, until it is dropped.
pub(super) struct PoolSlot(Arc<PoolSlots>);

impl PoolSlots {
    /// None is taken.
    pub(super) fn new(all: u32) -> Arc<Self> {
        let taken = Mutex::default();
        Arc::new(Self { all, taken })
    }

    pub(super) fn take(self: &Arc<Self>) -> PoolSlot {
        self.taken().number += 1;
        PoolSlot(Arc::clone(self))
    }

    /// Whether operations have all of them. A connection that is being made takes none.
    pub(super) fn are_all_taken(&self, now: Instant) -> bool {
        let taken = self.taken();
        let is_handed_over = |left| now.saturating_duration_since(left) < HANDED_OVER;
        taken.number >= self.all || taken.last_full.is_some_and(is_handed_over)
    }

    #[cfg(test)]
    pub(super) fn taken_now(&self) -> u32 {
        self.taken().number
    }

    fn leave(&self, now: Instant) {
        let mut taken = self.taken();
        if taken.number >= self.all {
            taken.last_full = Some(now);
        }
        taken.number = taken.number.saturating_sub(1);
    }

    fn taken(&self) -> MutexGuard<'_, TakenSlots> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PoolSlot {
    fn drop(&mut self) {
        self.0.leave(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d27_a_slot_that_one_operation_leaves_to_the_next_is_taken_meanwhile() {
        let slots = PoolSlots::new(2);
        let (one, _other) = (slots.take(), slots.take());
        let left = Instant::now();
        assert!(slots.are_all_taken(left));
        drop(one);
        assert!(slots.are_all_taken(left));
        // The next one has to be connected, which takes so long.
        assert!(!slots.are_all_taken(left + Duration::from_secs(60)));
        let _next = slots.take();
        assert!(slots.are_all_taken(left + Duration::from_secs(60)));
    }

    #[test]
    fn d27_a_pool_that_was_never_full_is_not() {
        let slots = PoolSlots::new(2);
        drop(slots.take());
        assert!(!slots.are_all_taken(Instant::now()));
    }
}
