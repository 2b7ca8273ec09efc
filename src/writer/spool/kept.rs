//! Kept rows of a spool: acknowledged by the database, and offered again if it lost them.
//!
//! A server that commits asynchronously and crashes, and a replica that takes over and lags, lose their last
//! transactions whole. The ledger's rows are lost with them, so a part that the ledger lacks is lost, and writing
//! it again is safe. Which rows are kept is known in memory only: after a crash all rows of the file are offered
//! again, and the ledger knows those that it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::SqliteConnection;
use tokio::time::Instant;

use super::counts::Change;
use super::encode::DAMAGED;
use super::rows::{begin, json, number};
use super::{Spool, SpoolError};
use crate::batch::{BatchKey, WriterId};

/// Rows deleted in one commit, for which appending waits; few in tests, so that they delete in several.
pub(super) const AT_A_TIME: usize = if cfg!(test) { 2 } else { 2_000 };
/// Rows that finish within this fraction of the retention time share a mark.
const MARKS: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct KeptRows {
    /// The place up to which all rows are finished, except passed-over ones.
    pub(super) to: i64,
    /// When they finished, in the order of their places.
    marks: VecDeque<FinishedRows>,
    /// Rows that were passed over and finished after rows behind them.
    late: BTreeMap<i64, Instant>,
    /// Bytes of all kept rows in the file.
    bytes: u64,
    /// Rows were being deleted, and the outcome is unknown: `bytes` may be wrong.
    pub(super) is_weight_in_doubt: bool,
    /// Nothing is kept any longer: the disk takes no writes, or the file is no longer needed.
    pub(super) is_given_up: bool,
    #[cfg(test)]
    pub(super) was_given_up: bool,
    /// Rows that finished by then have been kept long enough.
    #[cfg(test)]
    over: Option<Instant>,
}

/// Rows up to a place, and when they finished.
#[derive(Debug, Clone, Copy)]
struct FinishedRows {
    to: i64,
    first: Instant,
    last: Instant,
}

/// Rows that have been kept long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueRows {
    to: i64,
    late: BTreeSet<i64>,
}

impl DueRows {
    /// The place of the last of them.
    pub(crate) fn last(&self) -> i64 {
        self.late.last().copied().unwrap_or(0).max(self.to)
    }
}

impl KeptRows {
    /// Rows have finished; `last` is the last of them.
    fn add(&mut self, places: &[i64], last: i64, bytes: u64, keep: Duration) {
        let now = Instant::now();
        self.bytes += bytes;
        for place in places.iter().filter(|place| **place <= self.to) {
            self.late.insert(*place, now);
        }
        if last <= self.to {
            return;
        }
        self.to = last;
        match self.marks.back_mut() {
            Some(mark) if now - mark.first < keep / MARKS => (mark.to, mark.last) = (last, now),
            _ => self.marks.push_back(FinishedRows {
                to: last,
                first: now,
                last: now,
            }),
        }
    }

    fn due(&self, keep: Duration) -> Option<DueRows> {
        let now = Instant::now();
        let is_over = |since: Instant| {
            #[cfg(test)]
            if self.over.is_some_and(|over| since <= over) {
                return true;
            }
            now.saturating_duration_since(since) >= keep
        };
        let marks = self.marks.iter().take_while(|mark| is_over(mark.last));
        let to = marks.map(|mark| mark.to).last().unwrap_or(0);
        let late = self.late.iter().filter(|(_, since)| is_over(**since));
        let late: BTreeSet<i64> = late.map(|(place, _)| *place).collect();
        (to > 0 || !late.is_empty()).then_some(DueRows { to, late })
    }

    /// The places of late rows that have not been kept long enough.
    fn late_besides(&self, due: &DueRows) -> String {
        let left = self.late.keys().filter(|place| !due.late.contains(place));
        json(&left.copied().collect::<Vec<_>>())
    }

    fn forget(&mut self, due: &DueRows) {
        self.marks.retain(|mark| mark.to > due.to);
        self.late.retain(|place, _| !due.late.contains(place));
    }

    /// Rows from a place on are no longer finished.
    fn requeue_from(&mut self, from: i64) {
        self.to = self.to.min(from - 1);
        self.late.retain(|place, _| *place < from);
        while let Some(mark) = self.marks.pop_back() {
            let before = self.marks.back().map_or(0, |mark| mark.to);
            if before < self.to {
                let to = self.to.min(mark.to);
                self.marks.push_back(FinishedRows { to, ..mark });
                break;
            }
        }
    }

    /// No kept row is left in the file.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
        self.late.clear();
        self.bytes = 0;
        self.is_weight_in_doubt = false;
        self.is_given_up = false;
    }
}

impl Spool {
    /// Bytes of the kept rows.
    pub fn kept_bytes(&self) -> u64 {
        self.done.kept().bytes
    }

    /// Whether rows are kept that were not given up.
    pub fn is_keeping(&self) -> bool {
        let kept = self.done.kept();
        !(kept.is_given_up || kept.marks.is_empty() && kept.late.is_empty())
    }

    /// The rows that have been kept for `keep`.
    pub(crate) fn kept_for(&self, keep: Duration) -> Option<DueRows> {
        let kept = self.done.kept();
        if kept.is_given_up { None } else { kept.due(keep) }
    }

    /// Marks rows that the database has acknowledged as finished, and keeps them. They are the first of those that
    /// [`Spool::next`] returned, without a gap, or were passed over.
    pub async fn keep_rows(&self, places: &[i64], keep: Duration) -> Result<(), SpoolError> {
        let last = places.iter().copied().max().unwrap_or_default();
        let is_given_up = self.done.kept().is_given_up;
        #[cfg(test)]
        {
            self.done.kept().was_given_up |= is_given_up;
        }
        if is_given_up || self.has_a_gap(places, last).await? {
            return self.remove_rows(places).await;
        }
        let mut lease = self.lease().await?;
        let sizes: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT -views, -bytes, state FROM batch
             WHERE state <> ?2 AND place IN (SELECT value FROM json_each(?1))",
        )
        .bind(json(places))
        .bind(DAMAGED)
        .fetch_all(lease.connection())
        .await?;
        let (mut change, mut kept_bytes) = (Change::default(), 0);
        for (views, bytes, state) in sizes {
            change.add(Change::of(views, bytes, state));
            kept_bytes += bytes.unsigned_abs();
        }
        self.passed_over.forget_all(places);
        self.done.kept().add(places, last, kept_bytes, keep);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Keys of at most `limit` kept rows behind a place, up to another, in the order of their places.
    pub(crate) async fn kept_keys(
        &self,
        behind: i64,
        to: i64,
        most: usize,
    ) -> Result<Vec<(i64, BatchKey)>, SpoolError> {
        let mut lease = self.lease().await?;
        let keys: Vec<(i64, String, i64)> = sqlx::query_as(
            "SELECT place, writer_id, batch_seq FROM batch
             WHERE state <> ?1 AND place > ?2 AND place <= ?3
                   AND place NOT IN (SELECT value FROM json_each(?4)) ORDER BY place LIMIT ?5",
        )
        .bind(DAMAGED)
        .bind(behind)
        .bind(self.done_to().min(to))
        .bind(self.passed_over.places())
        .bind(number(most))
        .fetch_all(lease.connection())
        .await?;
        lease.done();
        let key = |(place, writer, seq): (i64, String, i64)| {
            let writer = WriterId::parse(&writer).unwrap_or(self.id);
            (place, BatchKey { writer, seq })
        };
        Ok(keys.into_iter().map(key).collect())
    }

    /// Makes all rows from a place on wait again.
    pub async fn requeue_from(&self, from: i64) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        self.done.kept().requeue_from(from);
        self.requeues.fetch_add(1, Ordering::Relaxed);
        self.recount(lease.connection()).await?;
        self.sum_kept_bytes(lease.connection()).await?;
        lease.done();
        Ok(())
    }

    /// Deletes rows that have been kept long enough. On a disk that takes no writes all kept rows are given up.
    pub(crate) async fn forget_kept(&self, due: &DueRows) -> Result<(), SpoolError> {
        loop {
            match self.delete_due(due).await {
                Ok(rows) if rows < AT_A_TIME as u64 => break,
                Ok(_) => {}
                Err(error) => {
                    if error.is_unwritable() {
                        self.give_up_kept();
                    }
                    return Err(error);
                }
            }
        }
        self.done.kept().forget(due);
        Ok(())
    }

    /// Deletes kept rows, oldest first, until they take at most this many bytes.
    pub async fn keep_at_most(&self, bytes: u64) -> Result<(), SpoolError> {
        while self.kept_bytes() > bytes {
            let due = {
                let kept = self.done.kept();
                let late = kept.late.keys().copied().collect();
                let to = kept.marks.front().map_or(0, |mark| mark.to);
                DueRows { to, late }
            };
            if due.to == 0 && due.late.is_empty() {
                break;
            }
            self.forget_kept(&due).await?;
        }
        Ok(())
    }

    async fn delete_due(&self, due: &DueRows) -> Result<u64, SpoolError> {
        let not_due = self.done.kept().late_besides(due);
        let late: Vec<i64> = due.late.iter().copied().collect();
        let mut lease = self.lease().await?;
        if self.done.kept().is_weight_in_doubt {
            self.sum_kept_bytes(lease.connection()).await?;
        }
        let mut transaction = begin(lease.connection()).await?;
        self.done.kept().is_weight_in_doubt = true;
        let gone: Vec<i64> = sqlx::query_scalar(
            "DELETE FROM batch WHERE place IN (
                 SELECT place FROM batch
                 WHERE place <= ?1 AND state <> ?2 AND place NOT IN (SELECT value FROM json_each(?3))
                       AND place NOT IN (SELECT value FROM json_each(?4))
                 UNION ALL
                 SELECT place FROM batch WHERE place > ?1 AND place IN (SELECT value FROM json_each(?5))
                 LIMIT ?6)
             RETURNING bytes",
        )
        .bind(due.to)
        .bind(DAMAGED)
        .bind(self.passed_over.places())
        .bind(not_due)
        .bind(json(&late))
        .bind(number(AT_A_TIME))
        .fetch_all(&mut *transaction)
        .await?;
        self.commit(transaction).await?;
        {
            let mut kept = self.done.kept();
            let bytes = gone.iter().map(|bytes| bytes.unsigned_abs()).sum();
            kept.bytes = kept.bytes.saturating_sub(bytes);
            kept.is_weight_in_doubt = false;
        }
        lease.done();
        Ok(gone.len() as u64)
    }

    /// Sums up the bytes of the kept rows.
    async fn sum_kept_bytes(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let bytes: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(bytes), 0) FROM batch
             WHERE state <> ?1 AND place <= ?2 AND place NOT IN (SELECT value FROM json_each(?3))",
        )
        .bind(DAMAGED)
        .bind(self.done_to())
        .bind(self.passed_over.places())
        .fetch_one(connection)
        .await?;
        let mut kept = self.done.kept();
        kept.bytes = bytes.unsigned_abs();
        kept.is_weight_in_doubt = false;
        Ok(())
    }

    /// Ends the time of all kept rows, as if it had passed.
    #[cfg(test)]
    pub(crate) fn end_all_keeping(&self) {
        self.done.kept().over = Some(Instant::now());
    }

    /// Whether rows were given up since the last call.
    #[cfg(test)]
    pub(crate) fn was_given_up(&self) -> bool {
        std::mem::take(&mut self.done.kept().was_given_up)
    }
}
