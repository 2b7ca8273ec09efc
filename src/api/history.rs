//! Past visitors of a community: who was there over days, and what each did.
//!
//! As with statistics, identical requests share one computation and its result for a few seconds, and only a few
//! computations run at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, SubsecRound as _, Utc};
use http::Response;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::answers::{PastVisitorAnswer, PastVisitorList, PastVisitorOfCommunity};
use super::caller::Caller;
use super::cursor::past::PastCursor;
use super::problem::Problem;
use super::problem_responses::{Problems, StatisticsProblems};
use super::query::{self, PastQuery, SORTS};
use super::{ApiState, Body, json};
use crate::ids::{CommunityId, UserId};
use crate::json::Timestamp;
use crate::store::{PastAsked, PastPlace, PastSort, PastVisitor, PastWindow, Store};

/// How long a result is reused; `to` in the answer tells its age.
const TTL: Duration = Duration::from_secs(5);
/// Cached results; each is a page.
const CAPACITY: u64 = 200;
/// Computations at the same time; more wait, up to `api.timeout`.
const MAX_COMPUTATIONS: usize = 4;
/// How many pages in a row of users who are not shown are passed over before the list ends …
const ROUNDS: usize = 20;
/// … and the least size of such a page after the first.
const LARGE_PAGE: usize = 200;

/// Who was in a community over the last days, and what they did
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/history",
    tag = "statistics",
    operation_id = "past_visitors",
    params(
        ("community" = String, Path, description = "The community's key", min_length = 1, example = "42"),
        ("days" = Option<u32>, Query, minimum = 1, nullable = false, description = "Length of the window"),
        ("sort" = Option<String>, Query, nullable = false, description = "The order: the greatest first"),
        ("limit" = Option<u32>, Query, minimum = 1, nullable = false, description = "Entries per page"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next` of the page before, of the same order; for an hour after the first page"),
    ),
    responses((status = 200, description = "One page", body = PastVisitorList), Problems, StatisticsProblems)
)]
pub(super) async fn history(
    shared: &ApiState,
    caller: &Caller,
    community: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let now = (shared.clock)();
    let query = PastQuery::parse(query, &shared.settings, now)?;
    let community = shared.visible_community(caller, community).await?;
    let (to, visitors, next) = if shared.settings.identities {
        shared.past_page(&community.id, &query, now).await?
    } else {
        (end(&query, now), Vec::new(), None)
    };
    let name = SORTS.iter().find(|(_, sort)| *sort == query.sort);
    json(&PastVisitorList {
        community_id: community.key(&shared.store.keys()),
        days: query.days,
        from: Timestamp(start(to, query.days)?),
        to: Timestamp(to),
        sort: name.map(|(name, _)| *name).unwrap_or_default(),
        event_types: shared.store.counted_event_types(),
        visitors,
        next,
    })
}

/// What one user did in a community over the last days
///
/// Not found, too, where the user was not there in the window, is hidden, or does not exist.
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/history/{user}",
    tag = "statistics",
    operation_id = "past_visitor",
    params(
        ("community" = String, Path, description = "The community's key", min_length = 1, example = "42"),
        ("user" = String, Path, description = "The user's key", min_length = 1, example = "7"),
        ("days" = Option<u32>, Query, minimum = 1, nullable = false, description = "Length of the window"),
    ),
    responses((status = 200, description = "The user", body = PastVisitorOfCommunity), Problems, StatisticsProblems)
)]
pub(super) async fn history_of_one(
    shared: &ApiState,
    caller: &Caller,
    community: Option<&str>,
    user: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let days = query::days(query, &shared.settings)?;
    let user = query::user(user, &shared.store.keys())?;
    let community = shared.visible_community(caller, community).await?;
    if !shared.settings.identities {
        return Err(Problem::NotFound);
    }
    let to = (shared.clock)().trunc_subsecs(3);
    let asked = PastAsked::One(user);
    let found = shared.past.of(&community.id, days, to, true, asked).await?;
    let shown = shared.past_profiles(&found.visitors).await?;
    let (_, visitor) = shown.into_iter().next().ok_or(Problem::NotFound)?;
    json(&PastVisitorOfCommunity {
        community_id: community.key(&shared.store.keys()),
        days,
        from: Timestamp(start(found.to, days)?),
        to: Timestamp(found.to),
        event_types: shared.store.counted_event_types(),
        visitor,
    })
}

/// The end of the window: that of the first page.
fn end(query: &PastQuery, now: DateTime<Utc>) -> DateTime<Utc> {
    let now = now.trunc_subsecs(3);
    query.after.as_ref().map_or(now, |after| after.to.min(now))
}

fn start(to: DateTime<Utc>, days: u32) -> Result<DateTime<Utc>, Problem> {
    to.checked_sub_days(Days::new(days.into()))
        .ok_or(Problem::Internal)
}

impl ApiState {
    /// One page, its window's end, and the cursor of the next. Users without a profile, and those whom the app hides, are
    /// passed over: a cursor is that of a visitor who is shown, as it holds the user's id.
    async fn past_page(
        &self,
        community: &CommunityId,
        query: &PastQuery,
        now: DateTime<Utc>,
    ) -> Result<(DateTime<Utc>, Vec<PastVisitorAnswer>, Option<String>), Problem> {
        let mut to = end(query, now);
        let mut after = query.after.as_ref().map(|after| after.place.clone());
        for round in 0..ROUNDS {
            let size = if round == 0 {
                query.limit
            } else {
                query.limit.max(LARGE_PAGE)
            };
            let asked = PastAsked::Page {
                sort: query.sort,
                after: after.clone(),
                limit: size.saturating_add(1),
            };
            let is_first = query.after.is_none() && round == 0;
            let found = self.past.of(community, query.days, to, is_first, asked).await?;
            to = found.to;
            let mut are_more = found.visitors.len() > size;
            let visitors = found.visitors.get(..size).unwrap_or(&found.visitors);
            after = visitors.last().map(|last| place(last, query.sort));
            let mut shown = self.past_profiles(visitors).await?;
            are_more |= shown.len() > query.limit;
            shown.truncate(query.limit);
            if shown.is_empty() && are_more {
                continue;
            }
            let next = shown.last().filter(|_| are_more).map(|(last, _)| {
                let place = place(last, query.sort);
                PastCursor { to, place }.encode()
            });
            let visitors = shown.into_iter().map(|(_, visitor)| visitor).collect();
            return Ok((to, visitors, next));
        }
        Ok((to, Vec::new(), None))
    }

    /// Those who are shown, in the same order.
    async fn past_profiles<'v>(
        &self,
        visitors: &'v [PastVisitor],
    ) -> Result<Vec<(&'v PastVisitor, PastVisitorAnswer)>, Problem> {
        if visitors.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<UserId> = visitors.iter().map(|visitor| visitor.user_id.clone()).collect();
        let rows = self.store.visitors(&users).await;
        let rows = rows.map_err(|error| Problem::from_store(&error))?;
        let mut rows: HashMap<UserId, _> = rows.into_iter().map(|row| (row.user_id.clone(), row)).collect();
        let (keys, base) = (self.store.keys(), &self.settings.avatar_base);
        let shown = visitors.iter().filter_map(|visitor| {
            let row = rows.remove(&visitor.user_id)?;
            Some((visitor, PastVisitorAnswer::new(row, visitor, base, &keys)))
        });
        Ok(shown.collect())
    }
}

fn place(visitor: &PastVisitor, sort: PastSort) -> PastPlace {
    PastPlace {
        value: visitor.value(sort),
        user: visitor.user_id.clone(),
    }
}

/// Computes past visitors, identical requests once.
pub(super) struct PastVisits {
    store: Arc<dyn Store>,
    results: Cache<HistoryQuery, Arc<HistoryFound>>,
    permits: Semaphore,
}

/// What is computed: community, days, the window's end where it is not now, and who.
type HistoryQuery = (CommunityId, u32, Option<DateTime<Utc>>, PastAsked);

struct HistoryFound {
    /// End of the window.
    to: DateTime<Utc>,
    visitors: Vec<PastVisitor>,
}

impl PastVisits {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            results: Cache::builder().max_capacity(CAPACITY).time_to_live(TTL).build(),
            permits: Semaphore::new(MAX_COMPUTATIONS),
        }
    }

    /// Past visitors over the days up to `to`. Where that `is_now`, the window may have ended a few seconds ago.
    async fn of(
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
            let visitors = visitors.map_err(|error| Problem::from_store(&error))?;
            Ok(Arc::new(HistoryFound { to, visitors }))
        };
        self.results
            .try_get_with(request, compute)
            .await
            .map_err(Arc::unwrap_or_clone)
    }
}
