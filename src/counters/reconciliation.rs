//! Reconciliation: once a day each counter is compared with the events, and counted from them where it differs. The app
//! may have written or deleted events, or have overwritten the columns.
//!
//! One community at a time, each in one statement, with a pause as long as it took.

use std::time::Duration;

use chrono::Utc;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::metrics::Operation;
use super::rounds::unix_now;
use crate::ids::CommunityId;
use crate::store::StoreError;

/// Between two looks at whether it is time.
const LOOK: Duration = Duration::from_secs(10);
/// Communities that are looked up at a time.
const PAGE: i64 = 100;

impl Shared {
    pub(super) async fn keep_reconciled(&self) {
        loop {
            self.held().await;
            let outcome = self.pass_if_due().await;
            let failed: Vec<String> = outcome.err().iter().map(StoreError::chain).collect();
            if !failed.is_empty() {
                self.metrics.failures[Operation::Compare].inc();
            }
            self.comparisons.down_for(failed, |error| {
                tracing::warn!(
                    error,
                    "the counters of communities cannot be compared with the events"
                );
            });
            sleep(LOOK).await;
        }
    }

    async fn pass_if_due(&self) -> Result<(), StoreError> {
        let last = self.store.last_pass().await?;
        let now = Utc::now();
        let due = self.config.reconcile_at.last_before(now);
        match last {
            Some(last) if last >= due => Ok(()),
            Some(_) => self.pass(due).await,
            // The first time, or what counts is another thing now: those that were compared before are, too.
            None => self.pass(now).await,
        }
    }

    /// Compares all communities that were not compared since.
    async fn pass(&self, since: chrono::DateTime<Utc>) -> Result<(), StoreError> {
        let (mut drift, mut after, mut failed) = (0, None, None);
        // Without counts of events there is nothing to compare.
        while self.config.of_events() {
            let (communities, last) = self.store.unchecked(after.as_ref(), since, PAGE).await?;
            for community in communities {
                // Another holder goes on from here.
                if !self.is_held() {
                    return Ok(());
                }
                let began = Instant::now();
                match self.reconcile(&community).await {
                    Ok(difference) => drift += difference,
                    Err(error) => {
                        self.metrics.failures[Operation::Compare].inc();
                        failed = Some(error);
                    }
                }
                sleep(began.elapsed()).await;
            }
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        self.store.forget_absent().await?;
        self.store.note_pass().await?;
        self.metrics.drift.set(drift.try_into().unwrap_or(i64::MAX));
        self.metrics.last_reconciliation.set(unix_now());
        failed.map_or(Ok(()), Err)
    }

    /// Compares one community, and counts it where it differs; how far it differed.
    async fn reconcile(&self, community: &CommunityId) -> Result<u64, StoreError> {
        let comparison = self.store.compare(community).await?;
        let drift = comparison.drift();
        if comparison.agrees() {
            self.store.note_checked(community).await?;
            return Ok(0);
        }
        self.store.recount(community).await?;
        if drift > 0 {
            self.metrics.repaired.inc();
            tracing::info!(
                drift,
                "the counters of a community differed from its events and are counted anew"
            );
        }
        Ok(drift)
    }
}
