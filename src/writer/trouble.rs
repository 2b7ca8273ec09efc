//! Failures of the database or of a spool: logged once per cause, and retried after growing pauses.

use std::time::Duration;

use tokio::time::Instant;

use super::spool::{Directory, SpoolError};
use crate::retry::Backoff;
use crate::status::Component;
use crate::store::StoreError;

/// First and longest pause between two tries at the database.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// An ongoing failure of the database or of the spool.
#[derive(Default)]
pub(super) struct OngoingFailure {
    /// Down while it lasts.
    writes: Component,
    backoff: Option<Backoff>,
    pub(super) next_try: Option<Instant>,
}

impl OngoingFailure {
    pub(super) fn with_database(&mut self, error: &StoreError) {
        self.is(
            error.chain(),
            "the database does not take page views; trying again",
        );
    }

    pub(super) fn with_spool(&mut self, directory: &Directory, error: &SpoolError) {
        let error = directory.explain(error);
        self.is(
            error,
            "the spool cannot be read or written, and what is in it waits; trying again",
        );
    }

    /// Logs once per cause: one outage may turn into another kind of failure.
    fn is(&mut self, cause: String, what: &'static str) {
        let backoff = self.backoff.get_or_insert(PAUSES);
        self.next_try = Some(Instant::now() + backoff.pause());
        self.writes
            .down_for(cause, |error| tracing::warn!(error, "{what}"));
    }

    /// Whether the failure lasts.
    pub(super) fn is_on(&self) -> bool {
        self.writes.is_down()
    }

    /// The failure is over, if there was one.
    pub(super) fn ends(&mut self) {
        (self.backoff, self.next_try) = (None, None);
        self.writes.up(|lasted| {
            tracing::info!(seconds = lasted.as_secs(), "page views are written again");
        });
    }
}
