//! Batch size: how many views the next transaction takes. Pure.
//!
//! While a backlog is written, batches grow: what a transaction costs beside its rows (its COMMIT, and the sessions and
//! profiles of its visitors, each changed once) is then shared by more of them. They shrink where a transaction takes a
//! considerable part of `database.statement_timeout`, and after a failure that may be the rows'.

use std::time::Duration;

use super::BatchLimits;
use super::spool::Most;

/// Most rows of the spool, each a part with a key of its own in the ledger.
const MOST_ROWS: usize = 1_000;

/// The size of the next batch.
#[derive(Debug)]
pub(super) struct BatchSize {
    limits: BatchLimits,
    /// Fewer after a refusal or a timeout, then more again.
    rows: usize,
    /// How many times the usual size, in views and bytes.
    factor: u64,
}

impl BatchSize {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            rows: MOST_ROWS,
            factor: 1,
        }
    }

    /// What the next batch takes.
    pub(super) fn most(&self) -> Most {
        let limits = &self.limits;
        let (views, bytes) = (limits.batch_views.get() as u64, limits.batch_bytes as u64);
        Most {
            rows: self.rows,
            views: (views * self.factor).min(limits.most_views.max(views)),
            bytes: bytes
                .saturating_mul(self.factor)
                .min(limits.most_bytes.max(bytes)),
        }
    }

    /// A batch of so many views was written, in this time. What takes a fraction of it grows faster, so that a backlog is
    /// soon written in large batches.
    pub(super) fn written(&mut self, views: usize, took: Duration) {
        let (usual, slow) = (self.limits.batch_views.get() as u64, self.limits.slow);
        let growth: usize = if took < slow / 8 {
            4
        } else if took < slow / 2 {
            2
        } else {
            1
        };
        if took > slow {
            self.factor = (self.factor / 2).max(1);
        } else if views as u64 >= usual * self.factor / 2 {
            // No further than what makes a difference: or the first that are to be smaller would not be.
            let most = self.limits.most_views.div_ceil(usual).max(1);
            self.factor = (self.factor * growth as u64).min(most);
        }
        self.rows = (self.rows * growth.max(2)).min(MOST_ROWS);
    }

    /// A batch of so many rows failed: the next takes half of them.
    pub(super) fn failed(&mut self, rows: usize) {
        self.rows = (rows / 2).max(1);
    }

    /// The same, because it took too long.
    pub(super) fn timed_out(&mut self, rows: usize) {
        self.failed(rows);
        self.factor = (self.factor / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Database, Record, Spool};

    fn size() -> BatchSize {
        let record = Record::default();
        BatchSize::new(BatchLimits::new(&record, &Spool::default(), &Database::default()))
    }

    const QUICK: Duration = Duration::from_millis(50);

    #[test]
    fn w30_batches_grow_while_they_are_full_and_quick_and_no_further_than_they_may() {
        let mut size = size();
        assert_eq!(size.most().views, 2_000);
        size.written(10, QUICK);
        assert_eq!(size.most().views, 2_000, "there was no more to write");
        for (took, then) in [
            (size.limits.slow / 4, 4_000),
            (QUICK, 16_000),
            (QUICK, size.limits.most_views),
            (QUICK, size.limits.most_views),
        ] {
            size.written(usize::try_from(size.most().views).unwrap(), took);
            assert_eq!(size.most().views, then);
        }
        assert_eq!(size.most().bytes, size.limits.most_bytes);
    }

    #[test]
    fn w30_batches_shrink_where_they_take_a_considerable_part_of_the_timeout() {
        let mut size = size();
        for _ in 0..10 {
            size.written(1 << 20, QUICK);
        }
        let slow = size.limits.slow;
        size.written(1 << 20, slow * 3 / 4);
        assert_eq!(
            size.most().views,
            size.limits.most_views,
            "neither quick nor slow"
        );
        let mut before = size.most().views;
        while before > 2_000 {
            size.written(1 << 20, slow * 2);
            let now = size.most().views;
            assert!(now < before, "{now} after {before}");
            before = now;
        }
        size.written(1 << 20, slow * 2);
        assert_eq!(size.most().views, 2_000, "never less than usual");
    }

    #[test]
    fn w30_after_a_failure_fewer_rows_are_tried() {
        let mut size = size();
        size.written(2_000, QUICK);
        size.failed(40);
        assert_eq!((size.most().rows, size.most().views), (20, 8_000));
        size.timed_out(20);
        assert_eq!((size.most().rows, size.most().views), (10, 4_000));
        size.failed(1);
        assert_eq!(size.most().rows, 1, "one at least");
        for _ in 0..20 {
            size.written(1, QUICK);
        }
        assert_eq!(size.most().rows, MOST_ROWS);
    }

    #[test]
    fn w30_no_more_at_once_than_the_queue_holds_and_little_in_sqlite() {
        let limits = |queue: usize, url: &str| {
            let record = Record {
                queue_views: queue.try_into().unwrap(),
                ..Record::default()
            };
            let database = Database {
                url: Some(crate::config::Secret::new(url)),
                ..Database::default()
            };
            BatchLimits::new(&record, &Spool::default(), &database)
                .batch_views
                .get()
        };
        assert_eq!(limits(50_000, "postgres://localhost/app"), 2_000);
        assert_eq!(limits(700, "postgres://localhost/app"), 700);
        assert_eq!(limits(50_000, "sqlite:app.db"), 500);
    }
}
