//! Upkeep of the sidecar's own tables, beside the applier: deletes old entries of the ledger, a bounded number of rows at
//! a time, and makes partitions ahead of time.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::sleep;

use crate::store::Store;

/// Before the first run, so that it does not coincide with the first batch.
const FIRST: Duration = Duration::from_secs(300);
/// From the end of one run to the next.
const BETWEEN: Duration = Duration::from_secs(600);
/// Between two steps, so that others get the database.
const PAUSE: Duration = Duration::from_millis(250);

/// Deletes old entries periodically; never returns.
pub(super) async fn forget(store: Arc<dyn Store>) {
    sleep(FIRST).await;
    loop {
        make_partitions(&*store).await;
        forget_all(&*store).await;
        sleep(BETWEEN).await;
    }
}

async fn make_partitions(store: &dyn Store) {
    match store.make_partitions(Utc::now()).await {
        Ok(0) => {}
        Ok(partitions) => tracing::info!(
            partitions,
            "made partitions of headcount.page_view for the next months"
        ),
        Err(error) => tracing::warn!(
            error = error.chain(),
            "partitions of headcount.page_view could not be made; the default partition takes what they would"
        ),
    }
}

async fn forget_all(store: &dyn Store) {
    let mut forgotten = 0;
    loop {
        match store.forget_old_parts(Utc::now()).await {
            Ok(0) => break,
            Ok(parts) => forgotten += parts,
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "old entries of the ledger could not be deleted"
                );
                break;
            }
        }
        sleep(PAUSE).await;
    }
    if forgotten > 0 {
        tracing::info!(parts = forgotten, "deleted old entries of the ledger");
    }
}
