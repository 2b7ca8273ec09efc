//! The visitor list and the current counts.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use crate::communities::AskedCommunity;
use crate::presence::{Answer, Count, Scope};

use super::ApiState;
use super::answers::{CommunityCount, CountOf, Counts, VisitorList};
use super::caller::Caller;
use super::joined_reads::JoinedReads;
use super::parameters::{CommunityInPath, PageOfList};
use super::problem::Problem;
use super::problem_responses::Problems;
use super::query::{self, AskedKey, ListQuery};
use super::response::{Body, json, json_response, json_text};
use crate::json::{Seconds, Timestamp};

/// Who is in a community now, latest seen first
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors",
    tag = "visitors",
    operation_id = "list_visitors",
    params(CommunityInPath, PageOfList),
    responses((status = 200, description = "One page", body = VisitorList), Problems)
)]
pub(super) async fn list(
    shared: &Arc<ApiState>,
    caller: &Caller,
    community: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let query = ListQuery::parse(query, &shared.settings)?;
    let community = shared.visible_community(caller, community).await?;
    let text = if query.after.is_none() {
        let page = (community.clone(), query.limit);
        let read = {
            let shared = Arc::clone(shared);
            move || Arc::clone(&shared).list_text_in_time(community.clone(), query.clone())
        };
        shared
            .first_pages
            .read(page, read)
            .await
            .ok_or(Problem::Internal)??
    } else {
        shared.list_text(&community, &query).await?
    };
    Ok(json_response(text))
}

/// First pages, which are the same for all who may see the community: of a community as asked, by their size.
pub(super) type FirstPages = JoinedReads<(AskedCommunity, usize), Result<Bytes, Problem>>;

/// How many are in a community now
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/count",
    tag = "visitors",
    operation_id = "count_visitors",
    params(CommunityInPath),
    responses((status = 200, description = "The count", body = CommunityCount), Problems)
)]
pub(super) async fn count(
    shared: &ApiState,
    caller: &Caller,
    community: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    query::none(query)?;
    let community = shared.visible_community(caller, community).await?;
    json(&shared.count(&community).await?)
}

/// How many are in each of several communities now
#[utoipa::path(
    get,
    path = "/visitors/counts",
    tag = "visitors",
    operation_id = "count_visitors_of_many",
    params(("communities" = Vec<AskedKey>, Query, style = Form, explode = false,
        description = "Community keys with commas between them")),
    responses((status = 200, description = "The counts", body = Counts), Problems)
)]
pub(super) async fn counts(
    shared: &ApiState,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let asked = query::communities(query)?;
    let visible = shared.visible(caller, asked, None).await?;
    let mut communities: Vec<AskedCommunity> = Vec::new();
    for community in visible.into_iter().flatten() {
        if !communities.contains(&community) {
            communities.push(community);
        }
    }
    json(&shared.counts(&communities).await?)
}

impl ApiState {
    /// The same within the time that an answer may take, for a task of its own.
    async fn list_text_in_time(
        self: Arc<Self>,
        community: AskedCommunity,
        query: ListQuery,
    ) -> Result<Bytes, Problem> {
        let text = self.list_text(&community, &query);
        let text = tokio::time::timeout(self.settings.timeout, text).await;
        text.unwrap_or(Err(Problem::Unavailable))
    }

    /// One page of a community's visitors, as it is sent.
    async fn list_text(&self, community: &AskedCommunity, query: &ListQuery) -> Result<Bytes, Problem> {
        let mut count = self.count(community).await?;
        let page = self
            .page_if(self.settings.identities, &(&community.id).into(), query)
            .await?;
        count.stale |= page.stale;
        let (visitors, next) = page.value;
        json_text(&VisitorList {
            count,
            visitors,
            next,
        })
    }

    async fn count(&self, community: &AskedCommunity) -> Result<CommunityCount, Problem> {
        let (count, stale) = self.count_of((&community.id).into()).await?;
        Ok(CommunityCount {
            community_id: community.key(&self.store.keys()),
            current_visitors: count.current,
            window_seconds: self.window(),
            as_of: Timestamp(count.as_of),
            stale,
        })
    }

    /// The count of one scope, and whether it is stale.
    pub(super) async fn count_of(&self, scope: Scope) -> Result<(Count, bool), Problem> {
        let counts = self.presences(&[scope]).await?;
        let [count] = counts.value[..] else {
            return Err(Problem::Internal);
        };
        Ok((count, counts.stale))
    }

    async fn counts(&self, communities: &[AskedCommunity]) -> Result<Counts, Problem> {
        let scopes: Vec<_> = communities
            .iter()
            .map(|community| (&community.id).into())
            .collect();
        let Answer { value: counts, stale } = self.presences(&scopes).await?;
        let keys = self.store.keys();
        let as_of = counts.iter().map(|count| count.as_of).min();
        Ok(Counts {
            window_seconds: self.window(),
            as_of: Timestamp(as_of.unwrap_or_else(|| (self.clock)())),
            stale,
            counts: communities
                .iter()
                .zip(&counts)
                .map(|(community, count)| CountOf {
                    community_id: community.key(&keys),
                    current_visitors: count.current,
                })
                .collect(),
        })
    }

    /// The presence window of counts.
    pub(super) fn window(&self) -> Seconds {
        Seconds(self.presence.window_in_force(self.window.0))
    }

    /// One count per scope, in the same order.
    async fn presences(&self, scopes: &[Scope]) -> Result<Answer<Vec<Count>>, Problem> {
        // A page's own script asks at once: its visitor is among those counted and listed, unless the store is slow.
        self.intake.recorder.catch_up(scopes).await;
        let counts = self.presence.all_counts(scopes).await;
        counts.map_err(|error| Problem::from_presence(&error))
    }
}
