//! The users of one scope, by time (pages, pruning) and by id (touches). Pure; the time is a parameter.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::ids::UserId;
use crate::presence::{Count, next_seq};

/// Times are milliseconds since 1970, by the steady time of the clock.
#[derive(Default)]
pub(super) struct Members {
    pub(super) by_time: BTreeSet<(i64, UserId)>,
    pub(super) last_seen: HashMap<UserId, i64>,
    /// The count that was last sent, with its sequence number.
    pub(super) told: u64,
    pub(super) seq: u64,
    pub(super) due: i64,
    /// A day, counted since 1970, UTC, and the most users at a time on it.
    peak: (i64, u64),
}

impl Members {
    pub(super) fn touch(&mut self, user: &UserId, seen: i64) {
        match self.last_seen.get_mut(user) {
            Some(last_seen) if *last_seen >= seen => {}
            Some(last_seen) => {
                self.by_time.remove(&(*last_seen, user.clone()));
                *last_seen = seen;
                self.by_time.insert((seen, user.clone()));
            }
            None => {
                self.last_seen.insert(user.clone(), seen);
                self.by_time.insert((seen, user.clone()));
            }
        }
    }

    /// Removes users whose window has passed; returns whether the count differs from the one sent last.
    pub(super) fn settle(&mut self, now: i64, window: i64) -> bool {
        while let Some((last_seen, _)) = self.by_time.first()
            && *last_seen <= now - window
        {
            if let Some((_, user)) = self.by_time.pop_first() {
                self.last_seen.remove(&user);
            }
        }
        let count = self.by_time.len() as u64;
        let changed = count != self.told;
        if changed {
            self.told = count;
            self.seq = next_seq(self.seq, now);
        }
        changed
    }

    /// Notes the count, which was `before` until now, for the peak of the day.
    pub(super) fn note_peak(&mut self, before: u64, as_of: DateTime<Utc>) {
        let day = day(as_of);
        if self.peak.0 != day {
            // Whoever was there when it began.
            self.peak = (day, before);
        }
        self.peak.1 = self.peak.1.max(self.told);
    }

    /// The most users at a time on the day of `as_of` until then.
    pub(super) fn peak_of_the_day(&self, as_of: DateTime<Utc>) -> u64 {
        let (noted, peak) = self.peak;
        if noted == day(as_of) { peak } else { self.told }
    }

    /// When the next window passes; without users, when the sequence number may be forgotten.
    pub(super) fn next_due(&self, now: i64, window: i64, remembered: i64) -> i64 {
        self.by_time
            .first()
            .map_or(now + remembered, |(oldest, _)| oldest + window)
    }

    /// Users seen after `expired`. The cost grows with the unswept users, not with those present.
    pub(super) fn present(&self, expired: i64) -> u64 {
        let unswept = self
            .by_time
            .iter()
            .take_while(|(last_seen, _)| *last_seen <= expired)
            .count();
        (self.by_time.len() - unswept) as u64
    }

    pub(super) fn told_at(&self, as_of: DateTime<Utc>) -> Count {
        Count {
            current: self.told,
            seq: self.seq,
            as_of,
        }
    }
}

fn day(time: DateTime<Utc>) -> i64 {
    time.timestamp().div_euclid(24 * 60 * 60)
}
