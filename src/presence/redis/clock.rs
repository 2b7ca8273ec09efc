//! What Redis' clock says, as far as its answers tell. Pure; this machine's time is a parameter.
//!
//! Only to tell Redis until when a touch is worth taking (see `touch.lua`): scores and counts go by what Redis
//! itself reads when it runs a script (P3).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The latest answer that told the time.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Told>>);

#[derive(Debug, Clone, Copy)]
struct Told {
    millis: i64,
    heard: Instant,
}

impl Clock {
    /// An answer that came just now says that it was `millis`.
    pub(super) fn heard(&self, millis: i64, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Told { millis, heard: now });
    }

    /// What Redis' clock says by now. It may say more, by as much as the answer was under way, but not less,
    /// unless it was set back.
    pub(super) fn now(&self, now: Instant) -> Option<i64> {
        let told = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.map(|told| {
            let since = now.saturating_duration_since(told.heard).as_millis();
            told.millis
                .saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn p3_it_goes_on_from_the_latest_answer_whatever_this_machines_time_is() {
        let clock = Clock::default();
        let start = Instant::now();
        assert_eq!(clock.now(start), None);
        clock.heard(1_000, start);
        assert_eq!(clock.now(start), Some(1_000));
        assert_eq!(clock.now(start + Duration::from_millis(250)), Some(1_250));
        // Set back an hour.
        clock.heard(-3_600_000, start + Duration::from_secs(1));
        assert_eq!(clock.now(start + Duration::from_secs(2)), Some(-3_599_000));
    }
}
