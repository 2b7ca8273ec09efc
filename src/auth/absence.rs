//! Negative caching: how long a token without a valid session is remembered as such. Pure.
//!
//! The session's row may appear a moment after its cookie: written by a task, read from a replica, completed by a
//! second factor. So the first negative answer for a new token holds for one second only, and each further one for
//! twice as long as the one before.

use std::time::Duration;

use tokio::time::Instant;

/// How long the first negative answer holds.
const FIRST: Duration = Duration::from_secs(1);
/// Negative answers in a row after which the row is no longer expected: 15 seconds.
const MAX_NEGATIVE: u32 = 4;

/// A token for which the table has no valid session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Absence {
    /// Negative answers in a row before this one.
    before: u32,
    /// The table is not queried again before this.
    until: Instant,
    /// The row exists and is not valid, or existed before: none is expected to appear.
    is_settled: bool,
}

impl Absence {
    /// The table was queried at `now`. `before` is the previous negative answer, `longest` is `session.negative_ttl`.
    pub(super) fn found(before: Option<Self>, is_settled: bool, now: Instant, longest: Duration) -> Self {
        let times = before.map_or(0, |absence| absence.before.saturating_add(1));
        let time = FIRST.saturating_mul(2_u32.saturating_pow(times)).min(longest);
        Self {
            before: times,
            until: now + time,
            is_settled: is_settled || before.is_some_and(|absence| absence.is_settled),
        }
    }

    /// Whether the table is to be queried again.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// When the table is queried again, if a page view is to wait for that: once per token.
    pub(super) fn first_until(&self) -> Option<Instant> {
        (self.before == 0 && !self.is_settled).then_some(self.until)
    }

    /// Whether the row may still appear.
    pub(super) fn may_still_appear(&self) -> bool {
        self.before < MAX_NEGATIVE && !self.is_settled
    }

    /// How long to keep it, so that the next answer is known to follow this one.
    pub(super) fn kept(&self, now: Instant, longest: Duration) -> Duration {
        self.until.saturating_duration_since(now) + longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(10);

    /// For how many seconds each of six negative answers in a row holds.
    fn times(longest: Duration) -> Vec<u64> {
        let mut now = Instant::now();
        let mut absence = None;
        let mut times = Vec::new();
        for _ in 0..6 {
            let next = Absence::found(absence, false, now, longest);
            times.push((next.until - now).as_secs());
            now = next.until;
            assert!(next.is_over(now));
            absence = Some(next);
        }
        times
    }

    #[test]
    fn i10_a_token_is_nobodys_for_longer_each_time() {
        assert_eq!(times(LONGEST), [1, 2, 4, 8, 10, 10]);
        assert_eq!(times(Duration::ZERO), [0; 6]);
        assert_eq!(times(Duration::from_secs(3)), [1, 2, 3, 3, 3, 3]);
    }

    #[test]
    fn i10_a_view_waits_for_the_second_answer_and_a_client_for_the_fourth() {
        let now = Instant::now();
        let mut absence = Absence::found(None, false, now, LONGEST);
        assert_eq!(absence.first_until(), Some(now + FIRST));
        for _ in 0..3 {
            assert!(absence.may_still_appear());
            absence = Absence::found(Some(absence), false, now, LONGEST);
            assert_eq!(absence.first_until(), None);
        }
        absence = Absence::found(Some(absence), false, now, LONGEST);
        assert!(!absence.may_still_appear());
    }

    #[test]
    fn nobody_waits_for_a_session_that_has_ended() {
        let now = Instant::now();
        let ended = Absence::found(None, true, now, LONGEST);
        assert!(ended.first_until().is_none() && !ended.may_still_appear());
        let gone = Absence::found(Some(ended), false, now, LONGEST);
        assert!(gone.first_until().is_none() && !gone.may_still_appear());
    }
}
