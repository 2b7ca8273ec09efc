//! Idle connections of the pool: which must be tested or replaced before they are used again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Decides whether idle connections must be tested or replaced, from what happened since they were last used.
#[derive(Debug)]
pub(super) struct IdlePolicy {
    origin: Instant,
    /// When a connection last broke (a restart, a failover): other idle ones may be dead too, and each is tested
    /// once, when it is next taken. Milliseconds after `origin`, plus one; 0: never.
    broken_at: AtomicU64,
    /// When a connection was last found unusable for good: read-only after a failover, or with statements prepared
    /// for tables that have changed. Other idle ones are alike, and each is replaced. Same unit.
    unusable_at: AtomicU64,
    /// How often either happened.
    pub(super) times: AtomicU64,
}

/// What to do with an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleAction {
    Use,
    Test,
    Replace,
}

impl Default for IdlePolicy {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            broken_at: AtomicU64::new(0),
            unusable_at: AtomicU64::new(0),
            times: AtomicU64::new(0),
        }
    }
}

impl IdlePolicy {
    pub(super) fn mark_broken(&self) {
        self.broken_at.store(self.now() + 1, Ordering::Release);
        self.times.fetch_add(1, Ordering::Release);
    }

    pub(super) fn mark_unusable(&self) {
        self.unusable_at.store(self.now() + 1, Ordering::Release);
        self.times.fetch_add(1, Ordering::Release);
    }

    pub(super) fn of(&self, idle_for: Duration) -> IdleAction {
        self.at(self.now(), idle_for)
    }

    /// The same at a moment, in milliseconds after `origin`.
    fn at(&self, now: u64, idle_for: Duration) -> IdleAction {
        let since_before = |moment: &AtomicU64| match moment.load(Ordering::Acquire) {
            0 => false,
            moment => millis(idle_for) + moment > now,
        };
        if since_before(&self.unusable_at) {
            IdleAction::Replace
        } else if since_before(&self.broken_at) {
            IdleAction::Test
        } else {
            IdleAction::Use
        }
    }

    fn now(&self) -> u64 {
        millis(self.origin.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_idle_since_before_the_break_are_doubted() {
        let a_minute_later = |broken_at, unusable_at, idle_for| {
            let policy = IdlePolicy {
                broken_at: AtomicU64::new(broken_at),
                unusable_at: AtomicU64::new(unusable_at),
                ..IdlePolicy::default()
            };
            policy.at(60_000, idle_for)
        };
        let (longer, shorter) = (Duration::from_secs(61), Duration::from_secs(1));
        assert_eq!(a_minute_later(0, 0, longer), IdleAction::Use);
        assert_eq!(a_minute_later(1, 0, longer), IdleAction::Test);
        assert_eq!(a_minute_later(1, 0, shorter), IdleAction::Use);
        assert_eq!(a_minute_later(1, 1, longer), IdleAction::Replace);
        assert_eq!(a_minute_later(1, 1, shorter), IdleAction::Use);
    }
}
