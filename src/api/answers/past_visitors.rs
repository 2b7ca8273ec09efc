//! Answers about past visitors. Pure.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::avatar_url;
use crate::json::{Key, Timestamp};
use crate::key_type::AppKeys;
use crate::store::{PastVisitor, VisitorRow};

/// Who was in a community over the half-open window from `from` up to, but not including, `to`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PastVisitorList {
    /// The community.
    pub(in crate::api) community_id: Key,
    /// Length of the window, in days of 24 hours.
    pub(in crate::api) days: u32,
    /// Start of the window, included.
    pub(in crate::api) from: Timestamp,
    /// End of the window, excluded: the same on all pages.
    pub(in crate::api) to: Timestamp,
    /// The order.
    pub(in crate::api) sort: &'static str,
    /// The event types that count as page views.
    #[schema(value_type = Vec<String>)]
    pub(in crate::api) event_types: Vec<Arc<str>>,
    /// One page: the latest, or the most visits, first. Users whose profile is gone are left out: a page may be short, or
    /// empty, while `next` still leads on.
    pub(in crate::api) visitors: Vec<PastVisitorAnswer>,
    /// The `cursor` of the next page; null after the last.
    #[schema(required = true)]
    pub(in crate::api) next: Option<String>,
}

/// What one user did in a community over that window.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PastVisitorOfCommunity {
    /// The community.
    pub(in crate::api) community_id: Key,
    /// Length of the window, in days of 24 hours.
    pub(in crate::api) days: u32,
    /// Start of the window, included.
    pub(in crate::api) from: Timestamp,
    /// End of the window, excluded.
    pub(in crate::api) to: Timestamp,
    /// The event types that count as page views.
    #[schema(value_type = Vec<String>)]
    pub(in crate::api) event_types: Vec<Arc<str>>,
    #[serde(flatten)]
    pub(in crate::api) visitor: PastVisitorAnswer,
}

/// What one user did in a community.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PastVisitor)]
pub(in crate::api) struct PastVisitorAnswer {
    /// Key of the user's profile.
    user_id: Key,
    /// Name.
    username: String,
    /// URL of the picture.
    #[schema(required = true)]
    avatar: Option<String>,
    /// Visits: page views of the community in the window, of which one that comes more than 30 minutes after the user's
    /// former one begins another.
    visit_count: i64,
    /// Page views of the community in the window. Those of `pages` may be fewer, as only some pages are named, and more, where
    /// pages of the whole site are.
    page_views: i64,
    /// The first of them.
    first_visit: Timestamp,
    /// The last of them.
    last_visit: Timestamp,
    /// Of the pages seen most those that the caller is told of, at most five: the most views first. By default only the
    /// community's own.
    pages: Vec<PastPage>,
}

/// A page that a user has seen.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PastPage {
    /// As it was recorded: the path, and the query parameters that may be.
    url: String,
    /// Views of it.
    views: i64,
}

impl PastVisitorAnswer {
    /// Puts a profile and its visits together.
    pub(in crate::api) fn new(
        row: VisitorRow,
        visits: &PastVisitor,
        pages: Vec<(String, i64)>,
        avatar_base: &str,
        keys: &AppKeys,
    ) -> Self {
        let avatar = row.avatar.as_deref();
        Self {
            user_id: Key::of_user(&row.user_id, keys),
            avatar: avatar.and_then(|path| avatar_url(avatar_base, path)),
            username: row.username,
            visit_count: visits.visit_count,
            page_views: visits.page_views,
            first_visit: Timestamp(visits.first_visit),
            last_visit: Timestamp(visits.last_visit),
            pages: pages
                .into_iter()
                .map(|(url, views)| PastPage { url, views })
                .collect(),
        }
    }
}
