//! Steady clocks, not affected when the machine's clock is set.
//! Ages use them, so that correcting a machine's clock makes no user stay longer or leave earlier.
//!
//! Unlike the standard library's `Instant`, the time goes on while the machine is suspended: ages include that
//! time.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// By how much the machine's clock may differ from the steady one, in milliseconds, before it counts as set.
const SET: i64 = 1_000;

/// How long before the machine's start the moments begin: ages that others tell may be longer than this machine has run.
const BEFORE_START: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A moment, as the time since 100 years before the machine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let time = clock_gettime(STEADY);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Self(BEFORE_START + Duration::new(seconds, nanos))
    }

    /// Time since then.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// Milliseconds since the first moment.
    pub(super) fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// The moment that was so long before, also where the machine has not run for so long.
    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// Time from another moment to this one; zero if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Returns the time: the machine's clock in the program; tests pass their own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// A clock for ages and for display. Both start with the machine's clock and go on steadily; the displayed time is
/// shifted when the machine's clock was set.
pub struct SteadyClock {
    steady: Clock,
    machine: Option<Clock>,
    /// Displayed time minus steady time, in milliseconds.
    shift: AtomicI64,
}

impl SteadyClock {
    /// The machine's clock.
    pub fn of_the_machine() -> Self {
        Self::new(steady(), Arc::new(Utc::now))
    }

    /// Ages by `steady`, displayed times by `machine`.
    pub fn new(steady: Clock, machine: Clock) -> Self {
        Self {
            steady,
            machine: Some(machine),
            shift: AtomicI64::new(0),
        }
    }

    /// Ages and displayed times by `steady`.
    pub fn steady(steady: Clock) -> Self {
        Self {
            steady,
            machine: None,
            shift: AtomicI64::new(0),
        }
    }

    /// The steady time, in milliseconds since 1970 by the machine's clock at the start.
    pub(super) fn now(&self) -> i64 {
        let now = (self.steady)().timestamp_millis();
        if let Some(machine) = &self.machine {
            let shift = machine().timestamp_millis() - now;
            if (shift - self.shift.load(Ordering::Relaxed)).abs() >= SET {
                self.shift.store(shift, Ordering::Relaxed);
            }
        }
        now
    }

    /// Converts steady time to displayed time.
    pub(super) fn told(&self, millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis.saturating_add(self.shift.load(Ordering::Relaxed)))
            .unwrap_or_default()
    }

    /// Converts displayed time to steady time.
    pub(super) fn reckoned(&self, told: DateTime<Utc>) -> i64 {
        told.timestamp_millis()
            .saturating_sub(self.shift.load(Ordering::Relaxed))
    }
}

/// A clock that starts at this machine's time and is not affected when that is set.
pub(super) fn steady() -> Clock {
    let (time, start) = (Utc::now(), Moment::now());
    Arc::new(move || time + TimeDelta::from_std(start.elapsed()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_pass() {
        let earlier = Moment::now();
        while earlier.elapsed() == Duration::ZERO {
            std::thread::yield_now();
        }
        let later = Moment::now();
        assert!(later > earlier && later.since(earlier) > Duration::ZERO);
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert_eq!(
            (earlier + Duration::from_secs(1)).since(earlier),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn p18_what_is_older_than_the_machine_has_run_keeps_its_age() {
        let (now, years) = (Moment::now(), Duration::from_secs(50 * 365 * 24 * 60 * 60));
        assert_eq!(now.since(now.before(years)), years);
    }

    #[test]
    fn p18_a_clock_that_is_set_changes_what_is_told_and_not_what_passes() {
        let machine = Arc::new(AtomicI64::new(1_000_000));
        let told = Arc::clone(&machine);
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let clock = SteadyClock::new(
            Arc::new(move || at(1_000_000)),
            Arc::new(move || at(told.load(Ordering::Relaxed))),
        );
        assert_eq!(clock.told(clock.now()), at(1_000_000));
        machine.fetch_add(999, Ordering::Relaxed);
        assert_eq!(clock.told(clock.now()), at(1_000_000), "drift");
        machine.fetch_add(600_000, Ordering::Relaxed);
        let now = clock.now();
        assert_eq!(now, 1_000_000);
        assert_eq!(clock.told(now), at(1_600_999));
        assert_eq!(clock.reckoned(clock.told(now)), now);
    }
}
