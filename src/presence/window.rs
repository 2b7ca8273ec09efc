//! The window in force. Each sidecar is configured with one; of those who share a store the longest holds for all.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::millis;
use super::moment::Moment;
use super::settings::KEPT;

/// How long a user is present after the last touch. A handle: clones tell the same.
#[derive(Debug, Clone)]
pub struct Window {
    own: i64,
    in_force: Arc<AtomicI64>,
    /// What holds whatever is heard, and until when.
    held: Arc<Mutex<Option<(i64, Moment)>>>,
}

impl Window {
    /// As configured, until something else is heard.
    pub fn new(own: Duration) -> Self {
        let own = millis(own);
        Self {
            own,
            in_force: Arc::new(AtomicI64::new(own)),
            held: Arc::default(),
        }
    }

    /// As this sidecar is configured, in milliseconds.
    pub fn own(&self) -> i64 {
        self.own
    }

    /// The one in force, in milliseconds: at least the own one.
    pub fn millis(&self) -> i64 {
        self.in_force.load(Ordering::Relaxed)
    }

    /// The one in force.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis().unsigned_abs())
    }

    /// The store says that this one, in milliseconds, is in force.
    pub(super) fn set(&self, millis: i64) {
        self.in_force
            .store(millis.max(self.at_least()), Ordering::Relaxed);
    }

    /// What holds whatever others use, in milliseconds: the own one, or while it is held, the one that was in force.
    pub(super) fn at_least(&self) -> i64 {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|(_, until)| Moment::now() < *until)
            .map_or(self.own, |(window, _)| window.max(self.own))
    }

    /// The store may have lost what others use: for as long as that would have counted, the window does not become
    /// shorter.
    pub(super) fn hold(&self) {
        let held = (self.millis(), Moment::now() + KEPT);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_a_store_that_forgot_who_has_the_longest_window_makes_it_no_shorter() {
        let window = Window::new(Duration::from_secs(5));
        window.hold();
        window.set(10_000);
        assert_eq!((window.millis(), window.at_least()), (10_000, 5_000));
        window.set(0);
        assert_eq!(window.time(), Duration::from_secs(5), "never below the own one");
        window.set(10_000);
        window.hold();
        window.set(5_000);
        assert_eq!((window.millis(), window.at_least()), (10_000, 10_000));
    }
}
