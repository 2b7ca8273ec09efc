//! Finished rows of a spool: the database has them, or they have no visitor. They are behind a mark,
//! [`Spool::done_to`], and do not count as waiting; most are kept for a while (`kept`). On a disk that takes no
//! writes, where deleting needs room as well, all of them are given up, and the file is removed when nothing else
//! is in it (W12).

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counts::Change;
use super::encode::DAMAGED;
use super::kept::{AT_A_TIME, KeptRows};
use super::rows::{begin, delete, json, number};
use super::{Spool, SpoolError};

/// Finished rows that may still be in the file.
#[derive(Debug, Default)]
pub(super) struct Done(Mutex<KeptRows>);

impl Done {
    pub(super) fn kept(&self) -> MutexGuard<'_, KeptRows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// The place up to which all rows are finished, though some may still be in the file; passed-over rows
    /// excepted.
    pub(super) fn done_to(&self) -> i64 {
        self.done.kept().to
    }

    /// Gives up the kept rows: the next [`Spool::make_room`] deletes them.
    pub fn give_up_kept(&self) {
        let mut kept = self.done.kept();
        kept.is_given_up = true;
        #[cfg(test)]
        {
            kept.was_given_up = true;
        }
    }

    /// Deletes rows that need not be kept. On a disk that takes no writes they are moved behind the mark instead, and
    /// deleted later (W12).
    ///
    /// # Errors
    /// The disk takes no writes, and rows before them wait: they stay as they are.
    pub async fn remove_rows(&self, places: &[i64]) -> Result<(), SpoolError> {
        match self.delete_rows(places).await {
            Err(error) if error.is_unwritable() => {
                let last = places.iter().copied().max().unwrap_or_default();
                if self.has_a_gap(places, last).await? {
                    // Rows before these are not finished: these stay until those are. The ledger knows them.
                    return Err(error);
                }
                self.passed_over.forget_all(places);
                {
                    let mut kept = self.done.kept();
                    kept.to = kept.to.max(last);
                }
                self.give_up_kept();
                self.count_all().await.map(drop)
            }
            outcome => outcome,
        }
    }

    /// Whether a row below `last` is neither finished, nor passed over, nor among `places`.
    pub(super) async fn has_a_gap(&self, places: &[i64], last: i64) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let gap = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE state <> ?1 AND place > ?2 AND place < ?3
                            AND place NOT IN (SELECT value FROM json_each(?4))
                            AND place NOT IN (SELECT value FROM json_each(?5)))",
        )
        .bind(DAMAGED)
        .bind(self.done_to())
        .bind(last)
        .bind(self.passed_over.places())
        .bind(json(places))
        .fetch_one(lease.connection())
        .await?;
        lease.done();
        Ok(gap)
    }

    /// Deletes rows that were given up. Where the disk takes no writes and nothing else is in the file, removes
    /// the file, which needs no room and frees some: returns true then, and the spool is closed.
    pub async fn make_room(&self) -> Result<bool, SpoolError> {
        if !self.done.kept().is_given_up {
            return Ok(false);
        }
        let done_to = self.done_to();
        match self.delete_done(done_to).await {
            Ok(()) => {
                self.clear_tokens().await?;
                return Ok(false);
            }
            Err(error) if error.is_unwritable() => {}
            Err(error) => return Err(error),
        }
        let mut lease = self.lease().await?;
        let is_needed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE place > ?1 OR state = ?2
                                                   OR place IN (SELECT value FROM json_each(?3)))
                    OR EXISTS (SELECT 1 FROM dead_letter)",
        )
        .bind(done_to)
        .bind(DAMAGED)
        .bind(self.passed_over.places())
        .fetch_one(lease.connection())
        .await?;
        if is_needed {
            lease.done();
            return Ok(false);
        }
        self.files.remove()?;
        self.close_removed(lease).await?;
        Ok(true)
    }

    /// Deletes all rows up to a place, a bounded number in each commit, except damaged and passed-over ones.
    async fn delete_done(&self, done_to: i64) -> Result<(), SpoolError> {
        // Until the last commit: one of them may fail.
        self.done.kept().is_weight_in_doubt = true;
        loop {
            let mut lease = self.lease().await?;
            let mut transaction = begin(lease.connection()).await?;
            let gone = sqlx::query(
                "DELETE FROM batch WHERE place IN (
                     SELECT place FROM batch
                     WHERE place <= ?1 AND state <> ?2 AND place NOT IN (SELECT value FROM json_each(?3))
                     LIMIT ?4)",
            )
            .bind(done_to)
            .bind(DAMAGED)
            .bind(self.passed_over.places())
            .bind(number(AT_A_TIME))
            .execute(&mut *transaction)
            .await?;
            self.commit(transaction).await?;
            lease.done();
            if gone.rows_affected() < AT_A_TIME as u64 {
                break;
            }
        }
        self.done.kept().clear();
        Ok(())
    }

    async fn delete_rows(&self, places: &[i64]) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        let mut change = Change::default();
        for place in places {
            change.add(delete(&mut transaction, *place).await?);
        }
        self.commit(transaction).await?;
        self.passed_over.forget_all(places);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }
}
