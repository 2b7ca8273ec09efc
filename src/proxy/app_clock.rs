//! The app's clock: since when the app has been silent in an exchange, and for how long it may be.
//!
//! Concurrency: as [`super::progress`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Not limited, or not running.
const NEVER: u64 = u64::MAX;

/// Runs while the app's silence is limited.
pub(super) struct AppClock {
    /// What moments are counted from.
    origin: Instant,
    /// How long the app may be silent, in nanoseconds.
    patience: AtomicU64,
    /// When it has been silent for too long, in nanoseconds from [`Self::origin`].
    late: AtomicU64,
    /// The app's time begins when it is next waited for. There are many such moments in an exchange, and few waits.
    is_restarted: AtomicBool,
}

impl Default for AppClock {
    /// Does not run.
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            patience: AtomicU64::new(NEVER),
            late: AtomicU64::new(NEVER),
            is_restarted: AtomicBool::new(false),
        }
    }
}

impl AppClock {
    /// As it was at first.
    pub(super) fn renew(&self) {
        self.patience.store(NEVER, Ordering::Relaxed);
        self.late.store(NEVER, Ordering::Relaxed);
        self.is_restarted.store(false, Ordering::Relaxed);
    }

    /// From now on the app may be silent for `patience` at a time; without it, for ever.
    pub(super) fn may_take(&self, patience: Option<Duration>) {
        let patience = patience.map_or(NEVER, nanoseconds);
        self.patience.store(patience, Ordering::Relaxed);
        self.restart();
    }

    /// The app or its client did something.
    pub(super) fn restart(&self) {
        self.is_restarted.store(true, Ordering::Relaxed);
    }

    /// When the app is late. Called when it is waited for.
    pub(super) fn is_late_at(&self) -> Option<Instant> {
        if self.is_restarted.load(Ordering::Relaxed) {
            self.is_restarted.store(false, Ordering::Relaxed);
            let late = match self.patience.load(Ordering::Relaxed) {
                NEVER => NEVER,
                patience => nanoseconds(self.origin.elapsed()).saturating_add(patience),
            };
            self.late.store(late, Ordering::Relaxed);
        }
        match self.late.load(Ordering::Relaxed) {
            NEVER => None,
            late => self.origin.checked_add(Duration::from_nanos(late)),
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NEVER)
}
