//! The visitor list and the current counts.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Response;

use crate::communities::AskedCommunity;
use crate::ids::{CommunityId, UserId};
use crate::presence::{Answer, Count, Scope, Seen};

use super::answers::{CommunityCount, CountOf, Counts, Visitor, VisitorList};
use super::caller::Caller;
use super::cursor;
use super::problem::Problem;
use super::problem_responses::Problems;
use super::query::{self, AskedKey, ListQuery};
use super::{ApiState, Body, json};
use crate::json::{Seconds, Timestamp};

/// Communities of one request that are checked at the same time.
const CHECKED_AT_ONCE: usize = 8;
/// How many pages in a row of users who are not shown are passed over before the list ends …
const ROUNDS: usize = 20;
/// … and the least size of such a page after the first.
const LARGE_PAGE: usize = 200;

/// Who is in a community now, latest seen first
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors",
    tag = "visitors",
    operation_id = "list_visitors",
    params(
        ("community" = String, Path, description = "The community's key", min_length = 1, example = "42"),
        ("limit" = Option<u32>, Query, minimum = 1, nullable = false, description = "Entries per page"),
        ("cursor" = Option<String>, Query, nullable = false, description = "`next` of the page before"),
    ),
    responses((status = 200, description = "One page", body = VisitorList), Problems)
)]
pub(super) async fn list(
    shared: &ApiState,
    caller: &Caller,
    community: Option<&str>,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let query = ListQuery::parse(query, &shared.settings)?;
    let community = shared.visible_community(caller, community).await?;
    let mut count = shared.count(&community).await?;
    let (visitors, next) = if shared.settings.identities {
        let page = shared.page(&community.id.into(), &query).await?;
        count.stale |= page.stale;
        page.value
    } else {
        (Vec::new(), None)
    };
    json(&VisitorList {
        count,
        visitors,
        next,
    })
}

/// How many are in a community now
#[utoipa::path(
    get,
    path = "/communities/{community}/visitors/count",
    tag = "visitors",
    operation_id = "count_visitors",
    params(("community" = String, Path, description = "The community's key", min_length = 1, example = "42")),
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
    let visible = shared.visible(caller, asked).await?;
    let mut communities: Vec<AskedCommunity> = Vec::new();
    for community in visible.into_iter().flatten() {
        if !is_among(&communities, &community) {
            communities.push(community);
        }
    }
    json(&shared.counts(&communities).await?)
}

/// Whether a community is among these, by whichever name.
pub(super) fn is_among(communities: &[AskedCommunity], community: &AskedCommunity) -> bool {
    communities.iter().any(|other| other.id == community.id)
}

impl ApiState {
    /// The community in the path, if it exists and the caller may see it.
    pub(super) async fn visible_community(
        &self,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<AskedCommunity, Problem> {
        let admitted = self.gate.admit(caller)?;
        let asked = asked.ok_or(Problem::NotFound)?;
        let community = self.gate.community(&admitted, asked).await?;
        community.ok_or(Problem::NotFound)
    }

    /// The communities asked for, in the same order: `None` for each that does not exist or that the caller may
    /// not see.
    pub(super) async fn visible(
        &self,
        caller: &Caller,
        asked: Vec<String>,
    ) -> Result<Vec<Option<AskedCommunity>>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(asked)
            .map(async |asked: String| gate.community(admitted, &asked).await)
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether the caller may see these communities, in the same order. The page of `open_page` is still open.
    pub(super) async fn still_visible(
        &self,
        caller: &Caller,
        communities: &[CommunityId],
        open_page: Option<&CommunityId>,
    ) -> Result<Vec<bool>, Problem> {
        let admitted = self.gate.admit(caller)?;
        let (gate, admitted) = (&self.gate, &admitted);
        stream::iter(communities.to_vec())
            .map(async |community: CommunityId| {
                let is_open = open_page == Some(&community);
                gate.still_shows(admitted, &community, is_open).await
            })
            .buffered(CHECKED_AT_ONCE)
            .try_collect()
            .await
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
        let counts = self.presence.all_counts(scopes).await;
        counts.map_err(|error| Problem::from_presence(&error))
    }

    /// One page and the cursor of the next. Presence lists the users; one query on the app's tables adds their
    /// profiles. Users without one, and those whom the app hides, are passed over: a cursor is that of a visitor who is
    /// shown, as it holds the user's id. Where a whole page is passed over the next one is read.
    pub(super) async fn page(
        &self,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<Answer<(Vec<Visitor>, Option<String>)>, Problem> {
        let (mut after, mut is_stale) = (query.after.clone(), false);
        for round in 0..ROUNDS {
            let size = if round == 0 {
                query.limit
            } else {
                query.limit.max(LARGE_PAGE)
            };
            let seen = self
                .presence
                .list(scope, after.as_ref(), size.saturating_add(1))
                .await;
            let seen = seen.map_err(|error| Problem::from_presence(&error))?;
            let Answer {
                value: mut seen,
                stale,
            } = seen;
            is_stale |= stale;
            let mut are_more = seen.len() > size;
            seen.truncate(size);
            after = seen.last().cloned();
            let mut shown = self.profiles(seen).await?;
            are_more |= shown.len() > query.limit;
            shown.truncate(query.limit);
            if shown.is_empty() && are_more {
                continue;
            }
            let next = shown.last().filter(|_| are_more);
            let next = next.map(|(seen, _)| cursor::encode(seen));
            let visitors = shown.into_iter().map(|(_, visitor)| visitor).collect();
            return Ok(Answer {
                value: (visitors, next),
                stale: is_stale,
            });
        }
        Ok(Answer {
            value: (Vec::new(), None),
            stale: is_stale,
        })
    }

    /// Those who are shown, in the same order.
    pub(super) async fn profiles(&self, seen: Vec<Seen>) -> Result<Vec<(Seen, Visitor)>, Problem> {
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        let users: Vec<UserId> = seen.iter().map(|seen| seen.user.clone()).collect();
        let keys = self.store.keys();
        let rows = self.store.visitors(&users).await;
        let rows = rows.map_err(|error| Problem::from_store(&error))?;
        let mut rows: HashMap<UserId, _> = rows.into_iter().map(|row| (row.user_id.clone(), row)).collect();
        Ok(seen
            .into_iter()
            .filter_map(|seen| {
                let row = rows.remove(&seen.user)?;
                let base = &self.settings.avatar_base;
                let visitor = Visitor::new(row, seen.last_seen, base, &keys, self.session_facts);
                Some((seen, visitor))
            })
            .collect())
    }
}
