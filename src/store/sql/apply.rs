//! Writes a batch, and sees to what its transaction has found out: updates that are left out, and partitions that lack.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};

use super::SqlStore;
use crate::batch::Batch;
use crate::store::operations::{Apply, Backend, MakePartitions, is_tried};
use crate::store::{Applied, StoreError};

impl<B: Backend> SqlStore<B> {
    /// Writes a batch in one transaction, and once more where that has made the partition which it lacked.
    pub(super) async fn apply_batch(&self, batch: &Batch) -> Result<Applied, StoreError> {
        if batch.parts.is_empty() {
            return Ok(Applied::default());
        }
        let [noted, committing, left_out] = [const { AtomicBool::new(false) }; 3];
        let apply = Apply {
            batch,
            rules: &self.rules,
            noted: &noted,
            committing: &committing,
            left_out: &left_out,
        };
        let mut outcome = self.connections.run(&apply).await;
        if left_out.load(Ordering::Relaxed) {
            if let Ok(applied) = &mut outcome
                && let Ok(schema) = self.connections.renew().await
            {
                // Of what is not tried any more the check of the tables tells, with the remedy.
                applied
                    .left_out
                    .retain(|left_out| schema.app.as_ref().is_some_and(|app| is_tried(app, left_out)));
            }
            self.connections.state().check_tables.notify_one();
        }
        if self.rules.partitions
            && let Err(error) = outcome
        {
            outcome = if error.lacks_partition() && self.make_partitions_of(batch).await {
                self.connections.run(&apply).await
            } else {
                // Whoever may make it, will.
                Err(error.until_there_is_a_partition())
            };
        }
        match (noted.into_inner(), committing.into_inner()) {
            (_, true) => outcome,
            (true, false) => outcome.map_err(StoreError::before_commit),
            (false, false) => outcome.map_err(StoreError::before_noting),
        }
    }

    /// Makes the partitions that page views lack, where none is the default one; whether it made any.
    async fn make_partitions_of(&self, batch: &Batch) -> bool {
        let rows: Vec<DateTime<Utc>> = batch.views().map(|view| view.view.at).collect();
        let make = MakePartitions {
            database: &self.rules.database,
            now: Utc::now(),
            rows: &rows,
        };
        matches!(self.connections.run(&make).await, Ok(1..))
    }
}
