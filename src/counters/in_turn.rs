//! Comparisons with the events, one at a time: each in one statement, with a pause as long as it took, for as long as this
//! process has the lease.

use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::Metrics;
use super::lease::HeldLease;
use crate::config;
use crate::ids::CommunityId;
use crate::status::Component;
use crate::store::{CounterComparisons, StoreError};

/// Communities that are looked up at a time.
pub(super) const PAGE: i64 = 100;

/// Most communities of one pass that are remembered because they could not be compared.
pub(super) const MOST_FAILED: usize = 100;

/// Why a pass does not go on now.
#[derive(Debug)]
pub(super) enum Interruption {
    /// Another holder goes on from here; this one, once it has the lease again.
    LeaseLost,
    Failed(StoreError),
}

impl From<StoreError> for Interruption {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Compares counters with the events, and counts those that differ.
pub(super) struct Reconciler {
    pub(super) config: config::Counters,
    pub(super) store: Arc<dyn CounterComparisons>,
    /// Whether `current_visitors` is written, and so compared.
    pub(super) of_present: bool,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lease: HeldLease,
    /// Whether comparisons succeed.
    pub(super) comparisons: Component,
}

impl Reconciler {
    /// One comparison, then a pause as long as it took; an error only where the lease is gone.
    pub(super) async fn in_turn<T>(
        &self,
        comparison: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<Result<T, StoreError>, Interruption> {
        if !self.lease.is_held() {
            return Err(Interruption::LeaseLost);
        }
        let began = Instant::now();
        let outcome = comparison.await;
        sleep(began.elapsed()).await;
        Ok(outcome)
    }

    /// Compares one community with its events, and counts it where it differs; by how much it did.
    pub(super) async fn reconcile(&self, community: &CommunityId) -> Result<u64, StoreError> {
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
