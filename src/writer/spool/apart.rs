//! Rows that are passed over for a while, so that the others go on. In memory: after a crash they are tried again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::rows::json;
use super::{Row, Spool, SpoolError};

/// Most rows of a spool that are passed over at a time.
pub(crate) const MOST: usize = 1_000;

/// Rows that are passed over, by their place.
#[derive(Debug, Default)]
pub(super) struct Apart(Mutex<BTreeMap<i64, PassedOver>>);

#[derive(Debug, Clone, Copy)]
struct PassedOver {
    views: u64,
    until: Instant,
}

/// What of a spool is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Rows.
    pub rows: usize,
    /// Their views.
    pub views: u64,
    /// When the first of them is to be tried again.
    pub next: Option<Instant>,
}

impl Apart {
    fn rows(&self) -> MutexGuard<'_, BTreeMap<i64, PassedOver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places, as a JSON list.
    pub(super) fn places(&self) -> String {
        let places: Vec<i64> = self.rows().keys().copied().collect();
        json(&places)
    }

    /// A row is gone.
    pub(super) fn forget(&self, place: i64) {
        self.rows().remove(&place);
    }

    /// Some rows are gone.
    pub(super) fn forget_all(&self, places: &[i64]) {
        for place in places {
            self.forget(*place);
        }
    }
}

impl Spool {
    /// Passes a row over until then.
    pub fn pass_over(&self, place: i64, views: u64, until: Instant) {
        self.apart.rows().insert(place, PassedOver { views, until });
    }

    /// What is passed over.
    pub fn passed_over(&self) -> Waits {
        let rows = self.apart.rows();
        Waits {
            rows: rows.len(),
            views: rows.values().map(|row| row.views).sum(),
            next: rows.values().map(|row| row.until).min(),
        }
    }

    /// As if time had passed.
    #[cfg(test)]
    pub(crate) fn end_all_pauses(&self) {
        let now = Instant::now();
        self.apart.rows().values_mut().for_each(|row| row.until = now);
    }

    /// A row that was passed over and is to be tried again by now.
    pub async fn next_passed_over(&self) -> Result<Option<Row>, SpoolError> {
        let now = Instant::now();
        let due = {
            let rows = self.apart.rows();
            let due = rows.iter().filter(|(_, row)| row.until <= now);
            due.min_by_key(|(_, row)| row.until).map(|(place, _)| *place)
        };
        let Some(place) = due else {
            return Ok(None);
        };
        let row = self.rows_at(&[place]).await?.pop();
        if row.is_none() {
            self.apart.forget(place);
        }
        Ok(row)
    }
}
