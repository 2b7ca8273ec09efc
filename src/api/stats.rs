//! Statistics of a community over days.
//!
//! Statistics read many rows. So that they cannot become database load, identical requests share one
//! computation and its result for a few seconds, and only a few computations run at the same time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use http::Response;
use tokio::sync::Semaphore;

use crate::config::SessionFacts;
use crate::ids::CommunityId;
use crate::shared_results::SharedResults;
use crate::store::Store;

use super::ApiState;
use super::answers::CommunityStats;
use super::caller::Caller;
use super::parameters::CommunityInPath;
use super::problem::Problem;
use super::problem_responses::{Problems, StatisticsProblems};
use super::query;
use super::response::{Body, json};
use crate::json::Key;

/// How long a result is reused; `to` in the answer tells its age.
const TTL: Duration = Duration::from_secs(5);
/// Cached results.
const CAPACITY: usize = 1_000;
/// Computations at the same time; more wait, up to `api.timeout`.
const MAX_COMPUTATIONS: usize = 4;

/// Numbers of a community over the last days, up to now
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/stats",
    tag = "statistics",
    operation_id = "community_statistics",
    params(
        CommunityInPath,
        ("days" = Option<u32>, Query, minimum = 1, nullable = false, description = "Length of the window"),
    ),
    responses((status = 200, description = "The numbers", body = CommunityStats), Problems, StatisticsProblems)
)]
pub(super) async fn stats(
    shared: &ApiState,
    caller: &Caller,
    community: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let days = query::days(query, &shared.settings)?;
    let community = shared.visible_community(caller, community).await?;
    let now = (shared.clock)();
    let stats = shared.statistics.of(community.id.clone(), days, now).await?;
    json(&CommunityStats {
        community_id: community.key(&shared.store.keys()),
        ..stats
    })
}

/// Computes statistics, identical requests once.
pub(super) struct Statistics {
    store: Arc<dyn Store>,
    facts: SessionFacts,
    results: SharedResults<(CommunityId, u32), CommunityStats, Problem>,
    permits: Semaphore,
}

impl Statistics {
    pub(super) fn new(store: Arc<dyn Store>, facts: SessionFacts) -> Self {
        Self {
            store,
            facts,
            results: SharedResults::new(CAPACITY, TTL),
            permits: Semaphore::new(MAX_COMPUTATIONS),
        }
    }

    /// Statistics over the half-open window that ends now, or ended a few seconds ago if the result is cached.
    async fn of(
        &self,
        community: CommunityId,
        days: u32,
        now: DateTime<Utc>,
    ) -> Result<CommunityStats, Problem> {
        let compute = self.compute(community.clone(), days, now);
        self.results.get(&(community, days), compute).await
    }

    async fn compute(
        &self,
        community: CommunityId,
        days: u32,
        now: DateTime<Utc>,
    ) -> Result<CommunityStats, Problem> {
        let from = now
            .checked_sub_days(Days::new(days.into()))
            .ok_or(Problem::Internal)?;
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Problem::Unavailable);
        };
        let stats = self.store.stats(&community, from, now).await;
        let stats = stats.map_err(|error| Problem::from_store(&error))?;
        let community = Key::of_community(&community, &self.store.keys());
        let (facts, types) = (self.facts, self.store.counted_event_types());
        Ok(CommunityStats::new(
            community, days, from, now, &stats, facts, types,
        ))
    }
}
