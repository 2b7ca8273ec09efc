//! Visitors of something finer than a community, such as a post: list and count. A route says what there is (`presence`).
//! They may be seen by those who may see the community's and, where the app's own pages decide (`api.access = "visited"`),
//! were shown a page of the thing itself.

use http::Response;

use crate::presence::Scope;

use super::answers::{FinerCount, FinerList};
use super::caller::Caller;
use super::parameters::{CommunityInPath, FinerInPath, PageOfList};
use super::paths::AskedFiner;
use super::problem::Problem;
use super::problem_responses::Problems;
use super::query::{self, ListQuery};
use super::response::{Body, json};
use super::{ApiPath, ApiState};
use crate::communities::AskedCommunity;
use crate::ids::Finer;
use crate::json::Timestamp;

/// Who is at something in a community now, latest seen first
#[utoipa::path(
    get,
    path = "/communities/{community}/{scopes}/{scope}/visitors",
    tag = "visitors",
    operation_id = "list_visitors",
    params(CommunityInPath, FinerInPath, PageOfList),
    responses((status = 200, description = "One page", body = FinerList), Problems)
)]
pub(super) async fn list(
    shared: &ApiState,
    caller: &Caller,
    path: &ApiPath,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let query = ListQuery::parse(query, &shared.settings)?;
    let finer = asked(path)?;
    let community = shared
        .visible_scope(caller, path.community.as_deref(), Some(finer))
        .await?;
    let mut count = shared.finer_count(&community, finer).await?;
    let scope = Scope::Finer(community.id, finer.clone());
    let page = shared.page_if(shared.settings.identities, &scope, &query).await?;
    count.stale |= page.stale;
    let (visitors, next) = page.value;
    json(&FinerList {
        count,
        visitors,
        next,
    })
}

/// How many are at something in a community now
#[utoipa::path(
    get,
    path = "/communities/{community}/{scopes}/{scope}/visitors/count",
    tag = "visitors",
    operation_id = "count_visitors",
    params(CommunityInPath, FinerInPath),
    responses((status = 200, description = "The count", body = FinerCount), Problems)
)]
pub(super) async fn count(
    shared: &ApiState,
    caller: &Caller,
    path: &ApiPath,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    query::none(query)?;
    let finer = asked(path)?;
    let community = shared
        .visible_scope(caller, path.community.as_deref(), Some(finer))
        .await?;
    json(&shared.finer_count(&community, finer).await?)
}

/// The finer thing that a path names.
pub(super) fn asked(path: &ApiPath) -> Result<&Finer, Problem> {
    match &path.finer {
        Some(AskedFiner::Known(finer)) => Ok(finer),
        Some(AskedFiner::NoKey(kind)) => Err(Problem::BadRequest(
            format!(
                "The key of a {kind} has 1 to {} characters and no control characters.",
                Finer::MAX_CHARS
            )
            .into(),
        )),
        None => Err(Problem::NotFound),
    }
}

impl ApiState {
    async fn finer_count(&self, community: &AskedCommunity, finer: &Finer) -> Result<FinerCount, Problem> {
        let scope = Scope::Finer(community.id.clone(), finer.clone());
        let (count, stale) = self.count_of(scope).await?;
        Ok(FinerCount {
            community_id: community.key(&self.store.keys()),
            scope: finer.kind().into(),
            scope_id: finer.key().into(),
            current_visitors: count.current,
            window_seconds: self.window(),
            as_of: Timestamp(count.as_of),
            stale,
        })
    }
}
