//! Has the ledger forget what is too old to matter, beside the applier, a bounded number of rows at a time.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::sleep;

use crate::store::Store;

/// Before the first time: not together with the first batch.
const FIRST: Duration = Duration::from_secs(300);
/// From the end of one time to the next.
const BETWEEN: Duration = Duration::from_secs(600);
/// Between two steps, in which others have the database.
const PAUSE: Duration = Duration::from_millis(250);

/// Forgets from time to time, without end.
pub(super) async fn forget(store: Arc<dyn Store>) {
    sleep(FIRST).await;
    loop {
        forget_all(&*store).await;
        sleep(BETWEEN).await;
    }
}

async fn forget_all(store: &dyn Store) {
    let mut forgotten = 0;
    loop {
        match store.forget_old_parts(Utc::now()).await {
            Ok(0) => break,
            Ok(parts) => forgotten += parts,
            Err(error) => {
                tracing::warn!(error = error.chain(), "the ledger could not be tidied up");
                break;
            }
        }
        sleep(PAUSE).await;
    }
    if forgotten > 0 {
        tracing::info!(
            parts = forgotten,
            "the ledger forgot parts of sidecars that are long gone"
        );
    }
}
