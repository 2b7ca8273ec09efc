//! Past visitors of a community: who was there over days, and what each did. `page` puts a page together, `pages` says which
//! pages are told, `results` has what is computed.

mod page;
mod pages;
mod results;

use chrono::{DateTime, Days, SubsecRound as _, Utc};
use http::Response;

pub(super) use results::PastVisits;

use super::ApiState;
use super::answers::past_visitors::{PastVisitorList, PastVisitorOfCommunity};
use super::caller::Caller;
use super::cursor::past::Belonging;
use super::problem::Problem;
use super::problem_responses::{Problems, StatisticsProblems};
use super::query::{self, PastQuery, SORTS};
use super::response::{Body, json};
use crate::json::Timestamp;
use crate::store::PastAsked;

const FOREIGN_CURSOR: &str = "cursor belongs to another community, days or sort. \
     Send those of its own list, or no cursor for the first page.";

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
        ("cursor" = Option<String>, Query, nullable = false, description = "`next` of the page before, of the same community, `days` and `sort`; for an hour after the first page"),
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
    let belonging = Belonging::new(&community.id, query.days, query.sort);
    if query
        .after
        .as_ref()
        .is_some_and(|after| after.belonging != belonging)
    {
        return Err(Problem::BadRequest(FOREIGN_CURSOR.into()));
    }
    let (to, visitors, next) = if shared.settings.identities {
        shared
            .past_page(caller, &community.id, belonging, &query, now)
            .await?
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
        return Err(Problem::NoSuchVisitor);
    }
    let to = (shared.clock)().trunc_subsecs(3);
    let asked = PastAsked::One(user);
    let found = shared.past.of(&community.id, days, to, true, asked).await?;
    let shown = shared.past_profiles(caller, &found.visitors).await?;
    let (_, visitor) = shown.into_iter().next().ok_or(Problem::NoSuchVisitor)?;
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
