//! The presence window in force. Each sidecar is configured with one; among sidecars that share a store the
//! longest holds.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::millis;
use super::moment::Moment;
use super::settings::KEPT;

/// How long a user is present after the last touch. A handle: clones share the value.
#[derive(Debug, Clone)]
pub struct Window {
    own: i64,
    in_force: Arc<AtomicI64>,
    /// A lower bound for the window, and until when it holds.
    held: Arc<Mutex<Option<(i64, Moment)>>>,
}

impl Window {
    /// The configured window, until the store reports another.
    pub fn new(own: Duration) -> Self {
        let own = millis(own);
        Self {
            own,
            in_force: Arc::new(AtomicI64::new(own)),
            held: Arc::default(),
        }
    }

    /// The configured window, in milliseconds.
    pub fn own(&self) -> i64 {
        self.own
    }

    /// The window in force, in milliseconds: at least the configured one.
    pub fn millis(&self) -> i64 {
        self.in_force.load(Ordering::Relaxed)
    }

    /// The window in force.
    pub fn time(&self) -> Duration {
        Duration::from_millis(self.millis().unsigned_abs())
    }

    /// Sets the window in force that the store reports, in milliseconds.
    pub(super) fn set(&self, millis: i64) {
        self.in_force
            .store(millis.max(self.at_least()), Ordering::Relaxed);
    }

    /// The lower bound, in milliseconds: the configured window, or while one is held, that one if it is longer.
    pub(super) fn at_least(&self) -> i64 {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.filter(|(_, until)| Moment::now() < *until)
            .map_or(self.own, |(window, _)| window.max(self.own))
    }

    /// The store may have lost other sidecars' settings: for as long as those would have counted, the window does
    /// not become shorter.
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
