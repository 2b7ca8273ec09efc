//! Reads the next rows while those before them are written.
//!
//! They are used only if the batch before them was written as a whole, no other spool had rows in between, and nothing was
//! made to wait again since; otherwise they are read anew in their turn.

use super::drain::Drain;
use super::spool::{Row, Spool};
use crate::batch::WriterId;

/// Rows that were read ahead: one batch at most.
pub(super) struct RowsAhead {
    spool: WriterId,
    /// [`Spool::requeues`] when they were read.
    requeues: u64,
    rows: Vec<Row>,
}

impl Drain {
    /// Reads the rows behind a place, where a batch of them waits beside the `views` that are being written.
    pub(super) async fn look_ahead(&self, spool: &Spool, behind: i64, views: usize) -> Option<RowsAhead> {
        let others = spool.passed_over().views + views as u64;
        let left = spool.waiting().views.saturating_sub(others);
        if left < self.limits.batch_views.get() as u64 {
            return None;
        }
        let requeues = spool.requeues();
        // An error shows again when they are read in their turn.
        let rows = spool.next(self.size.most(), behind).await.ok()?;
        (!rows.is_empty()).then(|| RowsAhead {
            spool: spool.id(),
            requeues,
            rows,
        })
    }

    /// The rows that were read ahead, if they are still the next.
    pub(super) fn take_ahead(&mut self, spool: &Spool) -> Option<Vec<Row>> {
        let ahead = self.ahead.take_if(|ahead| ahead.spool == spool.id())?;
        (ahead.requeues == spool.requeues()).then_some(ahead.rows)
    }
}
