//! Reads the next rows while those before them are written.
//!
//! They are used only if the batch before them was written as a whole, no other spool had rows in between, and nothing was
//! made to wait again since; otherwise they are read anew in their turn.

use super::spool::{Most, Row, Spool};
use crate::batch::WriterId;

/// Rows that were read ahead: one batch at most.
pub(super) struct RowsAhead {
    spool: WriterId,
    /// [`Spool::requeues`] when they were read.
    requeues: u64,
    rows: Vec<Row>,
}

impl RowsAhead {
    /// Reads the rows behind a place, at most one batch of that size, where `least` views wait beside the `views` that are
    /// being written.
    pub(super) async fn read(
        spool: &Spool,
        behind: i64,
        views: usize,
        least: usize,
        most: Most,
    ) -> Option<Self> {
        let others = spool.passed_over().views + views as u64;
        let left = spool.waiting().views.saturating_sub(others);
        if left < least as u64 {
            return None;
        }
        let requeues = spool.requeues();
        // An error shows again when they are read in their turn.
        let rows = spool.next(most, behind).await.ok()?;
        (!rows.is_empty()).then(|| Self {
            spool: spool.id(),
            requeues,
            rows,
        })
    }

    /// The rows that were read ahead, if they are of this spool and still the next. Those of another spool stay.
    pub(super) fn take(ahead: &mut Option<Self>, spool: &Spool) -> Option<Vec<Row>> {
        let ahead = ahead.take_if(|ahead| ahead.spool == spool.id())?;
        (ahead.requeues == spool.requeues()).then_some(ahead.rows)
    }
}
