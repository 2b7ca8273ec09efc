//! What a presence store answers: counts and their changes, users present, and whether an answer is current. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::scope::Scope;
use crate::ids::UserId;

/// An answer, and whether it is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The store could not answer, so this is what this sidecar remembers: the users it has seen itself. Users
    /// that only other sidecars saw are missing. Counts then have sequence number 0: they have no place in the
    /// scope's history.
    pub stale: bool,
}

impl<T> Answer<T> {
    /// An answer of the store.
    pub fn current(value: T) -> Self {
        Self { value, stale: false }
    }

    /// An answer from this sidecar's memory.
    pub fn stale(value: T) -> Self {
        Self { value, stale: true }
    }
}

/// An absolute count with its place in its scope's history (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Users present.
    pub current: u64,
    /// Grows with each change of the count, also across a restart of the store: a new number is at least the
    /// milliseconds since 1970. 0 for a scope without visitors for a day.
    pub seq: u64,
    /// When this was true, by the presence store's clock (P3).
    pub as_of: DateTime<Utc>,
}

/// A count that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountChange {
    /// Where.
    pub scope: Scope,
    /// The new count.
    pub count: Count,
}

/// Result of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// The counts that went down.
    pub changes: Vec<CountChange>,
    /// Longest delay between the end of a user's window and the sweep that removed the user.
    pub lag: Duration,
}

impl Sweep {
    /// Adds the result of another part of the sweep.
    pub(super) fn add(&mut self, other: Self) {
        self.changes.extend(other.changes);
        self.lag = self.lag.max(other.lag);
    }
}

/// One user present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The user.
    pub user: UserId,
    /// Last touch, milliseconds precision.
    pub last_seen: DateTime<Utc>,
}
