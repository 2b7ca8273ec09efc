//! What is computed of past visitors. As with statistics, identical requests share one computation and its result for a few
//! seconds, and only a few computations run at the same time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;

use super::{pages, start};
use crate::api::problem::Problem;
use crate::ids::CommunityId;
use crate::reload::SharedRoutes;
use crate::shared_results::SharedResults;
use crate::store::{PastAsked, PastVisitor, PastWindow, Store};

/// How long a result is reused; `to` in the answer tells its age.
const TTL: Duration = Duration::from_secs(5);
/// Cached results; each is a page.
const CAPACITY: usize = 200;
/// Computations at the same time; more wait, up to `api.timeout`.
const MAX_COMPUTATIONS: usize = 4;

/// Computes past visitors, identical requests once.
pub(in crate::api) struct PastVisits {
    store: Arc<dyn Store>,
    routes: SharedRoutes,
    results: SharedResults<HistoryQuery, Arc<HistoryFound>, Problem>,
    permits: Semaphore,
}

/// What is computed: community, days, the window's end where it is not now, and who.
type HistoryQuery = (CommunityId, u32, Option<DateTime<Utc>>, PastAsked);

pub(super) struct HistoryFound {
    /// End of the window.
    pub(super) to: DateTime<Utc>,
    pub(super) visitors: Vec<PastVisitor>,
}

impl PastVisits {
    pub(in crate::api) fn new(store: Arc<dyn Store>, routes: SharedRoutes) -> Self {
        Self {
            store,
            routes,
            results: SharedResults::new(CAPACITY, TTL),
            permits: Semaphore::new(MAX_COMPUTATIONS),
        }
    }

    /// Past visitors over the days up to `to`. Where that `is_now`, the window may have ended a few seconds ago.
    pub(super) async fn of(
        &self,
        community: &CommunityId,
        days: u32,
        to: DateTime<Utc>,
        is_now: bool,
        asked: PastAsked,
    ) -> Result<Arc<HistoryFound>, Problem> {
        let request = (community.clone(), days, (!is_now).then_some(to), asked.clone());
        let compute = async {
            let window = PastWindow {
                community: community.clone(),
                from: start(to, days)?,
                to,
            };
            let Ok(_permit) = self.permits.acquire().await else {
                return Err(Problem::Unavailable);
            };
            let visitors = self.store.past_visitors(&window, &asked).await;
            let mut visitors = visitors.map_err(|error| Problem::from_store(&error))?;
            let routes = self.routes.load();
            for visitor in &mut visitors {
                pages::shorten(&routes, &mut visitor.pages);
            }
            Ok(Arc::new(HistoryFound { to, visitors }))
        };
        self.results.get(&request, compute).await
    }
}
