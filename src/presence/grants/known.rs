//! What is known of one grant: the verdict, how long it counts, and whether the store has it.

use tokio::time::Instant;

use super::{NotedGrant, Verdict};
use crate::expiring_cache::Ends;
use crate::ids::UserId;
use crate::presence::Scope;
use crate::presence::moment::Moment;

/// A community, or something in it, and a user.
pub(super) type GrantKey = (Scope, UserId);

/// What is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) verdict: Verdict,
    /// When the app last answered.
    pub(super) at: Moment,
    /// How long that counts.
    pub(super) until: Moment,
    pub(super) recorded: Recorded,
}

/// Whether the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    /// The worker is to write it.
    Queued,
    /// It has an answer that counts until then, and the worker is to write that it counts for longer: an open page is no
    /// answer, and brings nothing back that the store has lost.
    Prolonged { until: Moment },
    /// It has an answer that the app gave at `at`, and that counts until then.
    There { at: Moment, until: Moment },
    /// It had it, and was seen at that time to have it no more. The worker is to write it again, after others' refusals.
    Lost(Instant),
}

impl Ends for Known {
    fn counts_now() -> impl Fn(&Self) -> bool + Send {
        let now = Moment::now();
        move |known| now < known.until
    }
}

/// How many refusals of one user were kept for the whole time though they take nothing away.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptRefusals {
    pub(super) number: u32,
    /// Until when they count: the time for which a grant is kept, after the last of them.
    pub(super) until: Moment,
}

impl Ends for KeptRefusals {
    fn counts_now() -> impl Fn(&Self) -> bool + Send {
        let now = Moment::now();
        move |refusals| now < refusals.until
    }
}

impl Known {
    /// What the store had, when it was asked at `asked`.
    pub(super) fn noted(noted: NotedGrant, asked: Moment) -> Self {
        let (at, until) = (asked.before(noted.age), asked + noted.left);
        Self {
            verdict: noted.verdict,
            at,
            until,
            recorded: Recorded::There { at, until },
        }
    }

    /// Whether the store must have it at this moment.
    pub(super) fn is_recorded(&self, now: Moment) -> bool {
        match self.recorded {
            Recorded::There { until, .. } | Recorded::Prolonged { until } => now < until,
            Recorded::Queued | Recorded::Lost(_) => false,
        }
    }

    /// Whether the store must have it, or was seen to have lost it.
    pub(super) fn was_recorded(&self, now: Moment) -> bool {
        self.is_recorded(now) || self.is_lost()
    }

    /// Whether the store must have a grant that an open page prolongs.
    pub(super) fn only_prolongs(&self, now: Moment) -> bool {
        matches!(self.recorded, Recorded::Prolonged { .. }) && self.is_recorded(now)
    }

    /// Whether the store was seen to have lost it.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.recorded, Recorded::Lost(_))
    }

    /// Whether the worker is to write it.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.recorded, Recorded::Queued | Recorded::Prolonged { .. })
    }

    /// The same verdict as the store has it, the later and longer of the two.
    pub(super) fn with(self, noted: Self) -> Self {
        let until = self.until.max(noted.until);
        Self {
            verdict: self.verdict,
            at: self.at.max(noted.at),
            until,
            recorded: noted.recorded,
        }
    }
}
