//! Handles rows that the database refuses.
//! They are tried in smaller parts, passed over for a while, or become dead letters.

use chrono::Utc;

use super::drain::{Drain, DrainOutcome};
use super::failures::{RowAction, TRIES};
use super::spool::passed_over::{self, Tries};
use super::spool::{DeadLetterOutcome, Spool, SpoolError};
use crate::batch::{Batch, BatchKey};
use crate::page_view::Dropped;
use crate::store::StoreError;

impl Drain {
    /// Splits a batch that failed, for reasons that may lie in its rows, into smaller and smaller parts until the
    /// failing row is alone; that row waits or becomes a dead letter, and the rest is written (W1).
    pub(super) async fn failed(
        &mut self,
        spool: &Spool,
        batch: &Batch,
        places: &[i64],
        error: StoreError,
    ) -> Result<DrainOutcome, SpoolError> {
        let hangs = error.took_too_long() && !self.is_slow_with_some(&error).await;
        if hangs || !error.may_be_the_rows() {
            if error.took_too_long() {
                self.size.timed_out(batch.parts.len());
            }
            return Ok(DrainOutcome::Unavailable(error));
        }
        let ([part], [place]) = (&batch.parts[..], places) else {
            self.size.failed(batch.parts.len());
            return Ok(DrainOutcome::Failed(error));
        };
        if part.views.len() > 1 && error.nothing_written() {
            spool.split_row(*place, &part.views).await?;
            return Ok(DrainOutcome::Failed(error));
        }
        let visitors = part.views.iter().map(|view| view.user_id.to_string());
        let cause = error.summary();
        let before = spool.tries(*place).or(self.tries_of_first(spool, *place));
        let verdict = self.failures.failed(before, &cause, visitors, error.is_lasting());
        if verdict.0 == RowAction::DeadLetter {
            self.make_dead_letter(spool, *place, &error).await?;
            return Ok(DrainOutcome::Failed(error));
        }
        let nothing_written = error.nothing_written();
        self.pass_over(spool, &part.key, *place, verdict, nothing_written, error)
            .await
    }

    /// The tries of a row that stays first in line because too many rows are passed over.
    pub(super) fn tries_of_first(&self, spool: &Spool, place: i64) -> Option<Tries> {
        self.first
            .filter(|first| (first.0, first.1) == (spool.id(), place))
            .map(|first| first.2)
    }

    /// Whether a server that took too long is slow with these rows only: a hanging server is slow with everything.
    pub(super) async fn is_slow_with_some(&self, error: &StoreError) -> bool {
        error.took_too_long() && self.store.ping().await.is_ok()
    }

    /// Passes over a row that failed alone. `nothing_written`: certainly nothing of it is in the database.
    pub(super) async fn pass_over(
        &mut self,
        spool: &Spool,
        key: &BatchKey,
        place: i64,
        (verdict, tries): (RowAction, Tries),
        nothing_written: bool,
        error: StoreError,
    ) -> Result<DrainOutcome, SpoolError> {
        let (pause, all) = match verdict {
            RowAction::PassOver(pause) => (pause, false),
            RowAction::PassOverAll(pause) => (pause, true),
            RowAction::DeadLetter => return Ok(DrainOutcome::Failed(error)),
        };
        let until = tokio::time::Instant::now() + pause;
        let is_first = !spool.pass_over(place, until, tries).await?;
        self.first = is_first.then_some((spool.id(), place, tries));
        if spool.passed_over().rows >= passed_over::MOST {
            self.is_their_turn = is_first;
        }
        let is_own = self.own == Some(spool.id()) && key.writer == spool.id();
        if is_own && nothing_written && tries.count >= TRIES {
            // With a key of its own it does not keep the ledger from being tidied. Where the disk takes nothing
            // now, next time.
            match spool.renumber(place).await {
                Err(error) if error.is_unwritable() => {}
                outcome => outcome?,
            }
        }
        if all {
            self.accepted.down(error.without_values(), |_| {});
        }
        if all || spool.passed_over().rows >= passed_over::MOST {
            return Ok(DrainOutcome::Unavailable(error));
        }
        // Logged once per reason: each row is tried many times.
        self.passed_over.down_for(error.chain(), |error| {
            tracing::warn!(
                error,
                "a page view cannot be written now and is passed over; trying again, others go on"
            );
        });
        Ok(DrainOutcome::Failed(error))
    }

    /// Every row that was passed over has been written, dropped or moved to the dead letters.
    pub(super) fn none_is_passed_over(&self) {
        self.accepted.up(|_| {});
        self.passed_over.up(|_| {
            tracing::info!(
                "no page view is passed over any more: each was written, dropped, or kept as a dead letter"
            );
        });
    }

    async fn make_dead_letter(
        &mut self,
        spool: &Spool,
        place: i64,
        error: &StoreError,
    ) -> Result<(), SpoolError> {
        let reason = error.chain();
        let share = self.limits.share();
        match spool.make_dead_letter(place, &reason, Utc::now(), share).await? {
            DeadLetterOutcome::Kept => {
                self.metrics.dead_letters_made.inc();
                // Logged once per reason: a constraint may refuse many.
                self.buried.down_for(reason, |error| {
                    tracing::warn!(
                        error,
                        "a page view was refused by the database and is kept, as will be others for the same reason; see `headcount dead-letters \
                         list`"
                    );
                });
            }
            DeadLetterOutcome::NoRoom => self.metrics.views.dropped[Dropped::Refused].inc(),
        }
        Ok(())
    }
}
