//! Estimates the store's clock from its answers. Pure; this machine's time is a parameter.
//!
//! Used to tell Redis until when a touch may be taken (see `touch.lua`), and for answers from memory while Redis is
//! away: scores and counts use the time that Redis itself reads when it runs a script (P3).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::moment::Moment;

/// The latest answer with a time.
#[derive(Debug, Default)]
pub(super) struct StoreClock(Mutex<Option<Told>>);

#[derive(Debug, Clone, Copy)]
struct Told {
    millis: i64,
    heard: Moment,
}

impl StoreClock {
    /// Takes the time `millis` from an answer that just came. True if the store's clock was set since the previous
    /// answer: by more than `tolerance`, which is at least the time that an answer may have been under way.
    pub(super) fn heard(&self, millis: i64, now: Moment, tolerance: Duration) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.replace(Told { millis, heard: now });
        before.is_some_and(|before| u128::from(before.at(now).abs_diff(millis)) > tolerance.as_millis())
    }

    /// The store's clock now, `None` before its first answer. The true value may be later, by as long as the answer was under way, but not earlier,
    /// unless the clock was set back.
    pub(super) fn now(&self, now: Moment) -> Option<i64> {
        let told = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.map(|told| told.at(now))
    }
}

impl Told {
    fn at(self, now: Moment) -> i64 {
        let since = i64::try_from(now.since(self.heard).as_millis()).unwrap_or(i64::MAX);
        self.millis.saturating_add(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(2);

    #[test]
    fn p3_it_goes_on_from_the_latest_answer_whatever_this_machines_time_is() {
        let clock = StoreClock::default();
        let start = Moment::now();
        assert_eq!(clock.now(start), None);
        clock.heard(1_000, start, TOLERANCE);
        assert_eq!(clock.now(start), Some(1_000));
        assert_eq!(clock.now(start + Duration::from_millis(250)), Some(1_250));
        // Set back an hour.
        clock.heard(-3_600_000, start + Duration::from_secs(1), TOLERANCE);
        assert_eq!(clock.now(start + Duration::from_secs(2)), Some(-3_599_000));
    }

    #[test]
    fn p18_a_clock_that_was_set_is_noticed_and_an_answer_that_took_its_time_is_not() {
        let clock = StoreClock::default();
        let start = Moment::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!clock.heard(0, start, TOLERANCE), "nothing to compare with");
        assert!(!clock.heard(10_000, after(12), TOLERANCE));
        assert!(clock.heard(612_000, after(13), TOLERANCE), "set forward");
        assert!(!clock.heard(613_000, after(14), TOLERANCE), "told once");
        assert!(clock.heard(14_000, after(15), TOLERANCE), "set back");
    }
}
