//! Starts the counters, and ends them: the last use of the database, whose connections are closed after it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::shared_parts::SharedParts;
use crate::counters::CommunityCounters;
use crate::routes::CountedTypes;
use crate::shutdown::Shutdown;
use crate::store::{self, Store};

/// Longest time for the counters to be written once more at shutdown.
const COUNTERS_LIMIT: Duration = Duration::from_secs(2);
/// Longest time for the database's connections to close at shutdown.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Keeps the counters from when `serves` is set, where they are switched on. `counted` says which event types count.
///
/// # Errors
/// The database's URL is invalid.
pub(super) fn start(
    shared: &SharedParts,
    counted: CountedTypes,
    serves: Shutdown,
) -> anyhow::Result<Option<CommunityCounters>> {
    let config = &shared.config;
    if !config.counters.enabled {
        return Ok(None);
    }
    let state = shared.store.state();
    let store = store::open_counters_sharing(config, counted, state).context("the database")?;
    let metrics = shared.metrics.counters.clone();
    Ok(Some(CommunityCounters::start(
        config,
        store,
        &shared.presence,
        metrics,
        &shared.tasks,
        serves,
    )))
}

/// Writes the counters of what was recorded last, and closes the database's connections.
pub(super) async fn finish(counters: Option<CommunityCounters>, store: &Arc<dyn Store>) {
    if let Some(counters) = counters {
        counters.finish(COUNTERS_LIMIT).await;
    }
    // Best effort: connections that a hung database still holds end with the process.
    let _ = tokio::time::timeout(CLOSE_LIMIT, store.close()).await;
}
