//! Warnings that a flood of one event must not multiply: at most one a minute for each value of a label, with the number
//! of those that were left out.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::metrics::LabelValue;

/// Seconds between two warnings of one value.
const BETWEEN_WARNINGS: u64 = 60;

/// When each value was last warned of.
pub(super) struct Warnings<L> {
    start: Instant,
    slots: Box<[Slot]>,
    values: PhantomData<L>,
}

#[derive(Default)]
struct Slot {
    /// Time of the last warning, in seconds since [`Warnings::start`] plus [`BETWEEN_WARNINGS`].
    warned: AtomicU64,
    left_out: AtomicU64,
}

impl<L: LabelValue> Default for Warnings<L> {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            slots: L::ALL.iter().map(|_| Slot::default()).collect(),
            values: PhantomData,
        }
    }
}

impl<L: LabelValue> Warnings<L> {
    /// Whether to warn now, and how many were left out since the last warning; else this one is left out.
    pub(super) fn due(&self, value: L) -> Option<u64> {
        let now = self.start.elapsed().as_secs() + BETWEEN_WARNINGS;
        let slot = &self.slots[value.index()];
        let last = slot.warned.load(Ordering::Relaxed);
        let is_due = now - last >= BETWEEN_WARNINGS
            && slot
                .warned
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            return Some(slot.left_out.swap(0, Ordering::Relaxed));
        }
        slot.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::Refusal;
    use super::*;

    #[test]
    fn each_value_is_warned_of_once_a_minute_with_the_number_left_out() {
        let warnings = Warnings::default();
        assert_eq!(warnings.due(Refusal::Host), Some(0));
        assert_eq!(warnings.due(Refusal::Host), None);
        assert_eq!(warnings.due(Refusal::Host), None);
        assert_eq!(warnings.due(Refusal::Path), Some(0));
        let slot = &warnings.slots[Refusal::Host.index()];
        // As if the minute had passed.
        slot.warned.store(0, Ordering::Relaxed);
        assert_eq!(warnings.due(Refusal::Host), Some(2));
    }
}
