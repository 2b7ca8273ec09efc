//! Passed-over rows of a spool: rows that wait so that the others can continue. Kept in memory: after a crash they
//! are tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::encode::DAMAGED;
use super::rows::json;
use super::{Row, Spool, SpoolError};

/// Most rows of a spool that are passed over at a time; few in tests, so that they reach the limit.
pub(crate) const MOST: usize = if cfg!(test) { 4 } else { 10_000 };

/// Passed-over rows, by their place.
#[derive(Debug, Default)]
pub(super) struct PassedOverRows(Mutex<BTreeMap<i64, PassedOver>>);

#[derive(Debug, Clone, Copy)]
struct PassedOver {
    /// As the file has it, whatever was resolved since: totals are subtracted from those of the file.
    views: u64,
    until: Instant,
    tries: Tries,
}

/// What was tried with a row that failed alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tries {
    /// How often it failed.
    pub(crate) count: u32,
    /// The number of successful writes before the first failure.
    pub(crate) successes: u64,
}

/// Totals of the passed-over rows of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassedOverTotals {
    /// Rows.
    pub rows: usize,
    /// Their views.
    pub views: u64,
    /// When the first of them is to be tried again.
    pub next: Option<Instant>,
}

impl PassedOverRows {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<i64, PassedOver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places, as a JSON list.
    pub(super) fn places(&self) -> String {
        let places: Vec<i64> = self.rows().keys().copied().collect();
        json(&places)
    }

    /// Sets the number of views of a passed-over row.
    pub(super) fn has_views(&self, place: i64, views: u64) {
        if let Some(row) = self.rows().get_mut(&place) {
            row.views = views;
        }
    }

    /// A row was removed.
    pub(super) fn forget(&self, place: i64) {
        self.rows().remove(&place);
    }

    /// Some rows were removed.
    pub(super) fn forget_all(&self, places: &[i64]) {
        for place in places {
            self.forget(*place);
        }
    }
}

impl Spool {
    /// Passes a row over until `until`, unless as many rows are as may be; returns whether it does.
    pub(crate) async fn pass_over(
        &self,
        place: i64,
        until: Instant,
        tries: Tries,
    ) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let views: Option<i64> =
            sqlx::query_scalar("SELECT views FROM batch WHERE place = ?1 AND state <> ?2")
                .bind(place)
                .bind(DAMAGED)
                .fetch_optional(lease.connection())
                .await?;
        lease.done();
        let mut rows = self.passed_over.rows();
        let Some(views) = views.map(i64::unsigned_abs) else {
            rows.remove(&place);
            return Ok(true);
        };
        if rows.len() >= MOST && !rows.contains_key(&place) {
            return Ok(false);
        }
        rows.insert(place, PassedOver { views, until, tries });
        Ok(true)
    }

    /// The tries of a row; `None` unless it is passed over.
    pub(crate) fn tries(&self, place: i64) -> Option<Tries> {
        self.passed_over.rows().get(&place).map(|row| row.tries)
    }

    /// Totals of the passed-over rows.
    pub fn passed_over(&self) -> PassedOverTotals {
        let rows = self.passed_over.rows();
        PassedOverTotals {
            rows: rows.len(),
            views: rows.values().map(|row| row.views).sum(),
            next: rows.values().map(|row| row.until).min(),
        }
    }

    /// Ends all pauses, as if their time had passed.
    #[cfg(test)]
    pub(crate) fn end_all_pauses(&self) {
        let now = Instant::now();
        self.passed_over
            .rows()
            .values_mut()
            .for_each(|row| row.until = now);
    }

    /// The passed-over row that is to be tried again first, if its time has come; with `before_its_time` in any
    /// case.
    ///
    /// It is one that has no waiting row before it: kept rows must have no gap ([`Spool::keep_rows`]). With
    /// `before_its_time` it may have one, where no other is left: otherwise a row that fails, and for which there is
    /// no room here, would hold up all.
    pub async fn next_passed_over(&self, before_its_time: bool) -> Result<Option<Row>, SpoolError> {
        if self.passed_over.rows().is_empty() {
            return Ok(None);
        }
        let waits_from = self.first_waiting().await?.unwrap_or(i64::MAX);
        let now = Instant::now();
        let first = {
            let rows = self.passed_over.rows();
            let due = rows.iter().filter(|(_, row)| before_its_time || row.until <= now);
            let first = due
                .clone()
                .filter(|(place, _)| **place < waits_from)
                .min_by_key(|(_, row)| row.until);
            first
                .or_else(|| due.filter(|_| before_its_time).min_by_key(|(_, row)| row.until))
                .map(|(place, _)| *place)
        };
        let Some(place) = first else {
            return Ok(None);
        };
        let row = self.row_at(place).await?;
        if row.is_none() {
            self.passed_over.forget(place);
        }
        Ok(row)
    }
    /// The place of the first row that waits and is not passed over.
    async fn first_waiting(&self) -> Result<Option<i64>, SpoolError> {
        let mut lease = self.lease().await?;
        let first = sqlx::query_scalar(
            "SELECT place FROM batch
             WHERE state <> ?1 AND place > ?2 AND place NOT IN (SELECT value FROM json_each(?3))
             ORDER BY place LIMIT 1",
        )
        .bind(DAMAGED)
        .bind(self.done_to())
        .bind(self.passed_over.places())
        .fetch_optional(lease.connection())
        .await?;
        lease.done();
        Ok(first)
    }
}
