//! Visitors of the whole site: how many are on it, who, and which of some users.
//!
//! Nobody decides about the whole site as the app does about a community, so it has a rule of its own
//! ([`Gate::site`](super::access::Gate::site)): its count belongs to whoever may use the API with a session, or to
//! everybody where communities do; who is on it only to those whom the configuration lets see that.

use http::Response;

use crate::ids::UserId;
use crate::presence::{Answer, Scope};

use super::ApiState;
use super::answers::{OnlineUser, OnlineUsers, OnlineVisitors, SiteCount};
use super::caller::Caller;
use super::parameters::PageOfList;
use super::problem::Problem;
use super::problem_responses::Problems;
use super::query::{self, AskedUser, ListQuery};
use super::response::{Body, json};
use crate::json::{Key, Timestamp};

/// How many are on the whole site now
///
/// Everybody with a page view that counts within the window, on pages of communities and of none, once.
#[utoipa::path(
    get,
    path = "/visitors/count",
    tag = "site",
    operation_id = "count_site_visitors",
    responses((status = 200, description = "The count", body = SiteCount), Problems)
)]
pub(super) async fn count(
    shared: &ApiState,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    query::none(query)?;
    shared.gate.site(caller)?;
    json(&shared.site_count().await?)
}

/// Who is on the whole site now, latest seen first
///
/// Without entries where the site shows nobody who is on it.
#[utoipa::path(
    get,
    path = "/visitors/online",
    tag = "site",
    operation_id = "list_site_visitors",
    params(PageOfList),
    responses((status = 200, description = "One page", body = OnlineVisitors), Problems)
)]
pub(super) async fn online(
    shared: &ApiState,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let query = ListQuery::parse(query, &shared.settings)?;
    let shows_users = shared.gate.site(caller)?;
    let mut count = shared.site_count().await?;
    let page = shared.page_if(shows_users, &Scope::Site, &query).await?;
    count.stale |= page.stale;
    let (visitors, next) = page.value;
    json(&OnlineVisitors {
        count,
        visitors,
        next,
    })
}

/// Which of some users are on the site now
///
/// Users who are not, who do not exist, or whom the app hides are left out alike. Not found where the site shows nobody
/// who is on it.
#[utoipa::path(
    get,
    path = "/visitors/users",
    tag = "site",
    operation_id = "users_on_site",
    params(("ids" = Vec<AskedUser>, Query, style = Form, explode = false,
        description = "Keys of users' profiles with commas between them")),
    responses((status = 200, description = "Those who are", body = OnlineUsers), Problems)
)]
pub(super) async fn users(
    shared: &ApiState,
    caller: &Caller,
    query: Option<&str>,
) -> Result<Response<Body>, Problem> {
    let asked = query::users(query)?;
    if !shared.gate.site(caller)? {
        return Err(Problem::NobodyShown);
    }
    let keys = shared.store.keys();
    let mut users: Vec<UserId> = Vec::new();
    for asked in asked {
        // What is no key is nobody's.
        if let Some(user) = keys.user_key(&asked)
            && !users.contains(&user)
        {
            users.push(user);
        }
    }
    shared.intake.recorder.catch_up(&[Scope::Site]).await;
    let present = shared.presence.present(&Scope::Site, &users).await;
    let Answer { mut value, stale } = present.map_err(|error| Problem::from_presence(&error))?;
    value.sort_by_key(|seen| users.iter().position(|user| *user == seen.user));
    let shown = shared.profiles(value).await?;
    json(&OnlineUsers {
        window_seconds: shared.window(),
        stale,
        users: shown
            .into_iter()
            .map(|(seen, _)| OnlineUser {
                user_id: Key::of_user(&seen.user, &keys),
                last_seen_at: Timestamp(seen.last_seen),
            })
            .collect(),
    })
}

impl ApiState {
    async fn site_count(&self) -> Result<SiteCount, Problem> {
        let (count, stale) = self.count_of(Scope::Site).await?;
        Ok(SiteCount {
            current_visitors: count.current,
            window_seconds: self.window(),
            as_of: Timestamp(count.as_of),
            stale,
        })
    }
}
