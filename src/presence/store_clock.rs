//! Estimates the store's clock from its answers. Pure; this machine's time is a parameter.
//!
//! Used to tell Redis when a touch was sent and until when it may be taken (see `touch.lua`), and for answers from
//! memory while Redis is away: scores and counts use the time that Redis itself reads when it runs a script (P3).
//!
//! The store read its clock between the call and its answer, so each answer bounds how far that clock is ahead of this
//! machine's. The bounds of all answers hold together, and the fastest ones decide. An answer that contradicts them
//! replaces them: the clocks have drifted apart, or the store's was set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::moment::Moment;

/// The bounds; none before the first answer.
#[derive(Debug, Default)]
pub(super) struct StoreClock(Mutex<Option<Ahead>>);

/// How far the store's clock is ahead of [`Moment`], in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    least: i64,
    most: i64,
}

impl StoreClock {
    /// Takes the time `millis` from an answer: the store read it at some moment from `called` to `answered`, which may be
    /// much later where the store or this process hung. True if its clock was set since the previous answers: by more
    /// than `tolerance`, whatever that moment was.
    pub(super) fn note_answer(
        &self,
        millis: i64,
        called: Moment,
        answered: Moment,
        tolerance: Duration,
    ) -> bool {
        let new = Ahead {
            least: millis.saturating_sub(answered.millis()),
            // Both times are rounded down.
            most: millis.saturating_sub(called.millis()).saturating_add(1),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.unwrap_or(new);
        let gap = before
            .least
            .max(new.least)
            .saturating_sub(before.most.min(new.most));
        *known = Some(if gap > 0 {
            new
        } else {
            Ahead {
                least: before.least.max(new.least),
                most: before.most.min(new.most),
            }
        });
        u128::try_from(gap).is_ok_and(|gap| gap > tolerance.as_millis())
    }

    /// The store's clock now, `None` before its first answer. The true value may be later, by as long as the fastest answer
    /// was under way, but not earlier, unless the clock was set back since the last answer.
    pub(super) fn now(&self, now: Moment) -> Option<i64> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.map(|ahead| ahead.least.saturating_add(now.millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(1);

    /// A clock, and the moment so many milliseconds after the start.
    fn clock() -> (StoreClock, impl Fn(u64) -> Moment) {
        let start = Moment::now();
        let after = move |millis| start + Duration::from_millis(millis);
        (StoreClock::default(), after)
    }

    #[test]
    fn p3_it_goes_on_from_the_latest_answer_whatever_this_machines_time_is() {
        let (clock, after) = clock();
        assert_eq!(clock.now(after(0)), None);
        clock.note_answer(1_000, after(0), after(0), TOLERANCE);
        assert_eq!(clock.now(after(0)), Some(1_000));
        assert_eq!(clock.now(after(250)), Some(1_250));
        // Set back an hour.
        clock.note_answer(-3_600_000, after(1_000), after(1_000), TOLERANCE);
        assert_eq!(clock.now(after(2_000)), Some(-3_599_000));
    }

    #[test]
    fn p18_a_clock_that_was_set_is_noticed_and_an_answer_that_took_its_time_is_not() {
        let (clock, after) = clock();
        let told =
            |millis, called, answered| clock.note_answer(millis, after(called), after(answered), TOLERANCE);
        assert!(!told(0, 0, 0), "nothing to compare with");
        assert!(!told(10_000, 10_000, 60_000), "read late");
        assert!(!told(70_000, 20_000, 70_000), "answered late");
        assert!(!told(71_900, 71_000, 71_000), "drifted");
        assert!(told(612_000, 72_000, 72_000), "set forward");
        assert!(!told(613_000, 73_000, 73_000), "told once");
        assert!(told(74_000, 74_000, 74_000), "set back");
        assert!(told(90_000, 75_000, 78_000), "though the answer took its time");
    }

    #[test]
    fn p21_the_fastest_answers_tell_the_time() {
        let (clock, after) = clock();
        let told =
            |millis, called, answered| clock.note_answer(millis, after(called), after(answered), TOLERANCE);
        told(500, 0, 1_000);
        assert_eq!(
            clock.now(after(1_000)),
            Some(500),
            "it may be half a second later"
        );
        told(2_000, 1_999, 2_001);
        assert_eq!(clock.now(after(2_001)), Some(2_000));
        told(2_100, 2_090, 6_000);
        assert_eq!(clock.now(after(6_000)), Some(5_999), "read late");
        // The clocks drift apart, less than answers tell apart and then more.
        told(6_999, 6_999, 7_000);
        told(7_990, 7_999, 8_000);
        assert_eq!(clock.now(after(8_000)), Some(7_990));
    }
}
