//! The presence window in force. Each sidecar is configured with one; among sidecars that share a store the
//! longest holds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::millis;
use super::moment::Moment;

/// How long settings count after they were last used; the scripts use the same time. As long as a sidecar's mark
/// is kept: a sidecar that was away for longer touches all users again.
pub const KEPT: Duration = Duration::from_secs(60);

/// How long a user is present after the last touch. A handle: clones share the value.
#[derive(Debug, Clone)]
pub struct Window {
    own: i64,
    records: bool,
    in_force: Arc<AtomicI64>,
    heard: Arc<Mutex<Heard>>,
}

/// Windows, in milliseconds.
#[derive(Debug, Default)]
struct Heard {
    /// What the store reported last.
    last: i64,
    /// Lower bounds, and until when each holds: the longer a window, the earlier it ends.
    held: Vec<(i64, Moment)>,
}

impl Window {
    /// Of a sidecar that records presence: the configured window, until the store reports a longer one.
    pub fn new(own: Duration) -> Self {
        Self::of(own, true)
    }

    /// Of a sidecar that only reads: the window of the others, or the configured one while there are none.
    pub fn of_the_others(own: Duration) -> Self {
        Self::of(own, false)
    }

    fn of(own: Duration, records: bool) -> Self {
        let own = millis(own);
        Self {
            own,
            records,
            in_force: Arc::new(AtomicI64::new(own)),
            heard: Arc::default(),
        }
    }

    /// The configured window, in milliseconds.
    pub fn own(&self) -> i64 {
        self.own
    }

    /// Whether the configured window counts.
    pub(super) fn records(&self) -> bool {
        self.records
    }

    /// The window in force, in milliseconds.
    pub fn millis(&self) -> i64 {
        self.in_force.load(Ordering::Relaxed)
    }

    /// The window in force.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis().unsigned_abs())
    }

    /// Sets the longest window in use that the store reports, in milliseconds; 0 if there is none.
    pub(super) fn set(&self, millis: i64) {
        self.set_at(Moment::now(), millis);
    }

    /// Sets the longest window that a sweep found, in milliseconds; 0 if no part of the store answered. If settings may be
    /// missing, because a part lost data or is away, the window does not become shorter for as long as those would have
    /// counted.
    pub(super) fn swept(&self, longest: i64, may_lack: bool) {
        self.swept_at(Moment::now(), longest, may_lack);
    }

    fn swept_at(&self, now: Moment, longest: i64, may_lack: bool) {
        if longest == 0 {
            return;
        }
        if may_lack {
            let mut heard = self.heard();
            let last = heard.last;
            heard
                .held
                .retain(|(window, until)| now < *until && *window > last);
            heard.held.push((last, now + KEPT));
        }
        self.set_at(now, longest);
    }

    fn set_at(&self, now: Moment, millis: i64) {
        self.in_force.store(self.by_at(now, millis), Ordering::Relaxed);
        self.heard().last = millis;
    }

    /// The window in force if `longest` is the longest in use, in milliseconds; 0 if there is none.
    pub(super) fn by(&self, longest: i64) -> i64 {
        self.by_at(Moment::now(), longest)
    }

    fn by_at(&self, now: Moment, longest: i64) -> i64 {
        match longest.max(self.at_least_at(now)) {
            0 => self.own,
            longest => longest,
        }
    }

    /// The lower bound, in milliseconds: the configured window, if it counts, and those held. 0 if there is none.
    pub(super) fn at_least(&self) -> i64 {
        self.at_least_at(Moment::now())
    }

    fn at_least_at(&self, now: Moment) -> i64 {
        let own = if self.records { self.own } else { 0 };
        let heard = self.heard();
        let held = heard.held.iter().filter(|(_, until)| now < *until);
        held.map(|(window, _)| *window).fold(own, i64::max)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_a_store_that_forgot_who_has_the_longest_window_makes_it_no_shorter() {
        let window = Window::new(Duration::from_secs(5));
        window.swept(10_000, true);
        assert_eq!((window.millis(), window.at_least()), (10_000, 5_000));
        window.swept(5_000, false);
        assert_eq!(window.time(), Duration::from_secs(5));
        window.swept(10_000, false);
        window.swept(5_000, true);
        assert_eq!((window.millis(), window.at_least()), (10_000, 10_000));
    }

    #[test]
    fn p17_a_window_that_nobody_has_any_more_is_not_held_for_ever() {
        let window = Window::new(Duration::from_secs(5));
        let start = Moment::now();
        window.swept_at(start, 10_000, false);
        // What others use is lost again and again, or a part stays away.
        window.swept_at(start, 7_000, true);
        for _ in 0..100 {
            window.swept_at(start + KEPT / 2, 5_000, true);
            assert_eq!(window.millis(), 10_000);
        }
        assert!(window.heard().held.len() <= 3);
        window.swept_at(start + KEPT, 5_000, true);
        assert_eq!(window.millis(), 7_000, "as it was heard before the second loss");
        window.swept_at(start + KEPT * 3 / 2, 5_000, true);
        assert_eq!(window.millis(), 5_000);
    }

    #[test]
    fn p17_while_the_store_does_not_answer_the_window_stays() {
        let window = Window::new(Duration::from_secs(5));
        let start = Moment::now();
        window.swept_at(start, 10_000, false);
        for later in 2..6 {
            window.swept_at(start + KEPT * later, 0, true);
            assert_eq!(window.millis(), 10_000);
        }
    }

    #[test]
    fn p17_whoever_records_nothing_goes_by_the_others() {
        let window = Window::of_the_others(Duration::from_secs(600));
        assert_eq!((window.millis(), window.at_least()), (600_000, 0));
        window.set(300_000);
        assert_eq!((window.millis(), window.by(60_000)), (300_000, 60_000));
        window.set(0);
        assert_eq!(window.millis(), 600_000, "there are none");
    }
}
