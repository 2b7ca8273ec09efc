//! The API's JSON answers: names and types; `past_visitors` has those of past visitors. Pure.

pub(super) mod past_visitors;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::SessionFacts;
use crate::json::{Key, Seconds, Timestamp};
use crate::key_type::AppKeys;
use crate::store::{Stats, VisitorRow};

/// Who is here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitorList {
    #[serde(flatten)]
    pub(super) count: CommunityCount,
    /// One page of the visitors, latest seen first. Users whose profile is gone are left out: a page may be
    /// short, or empty, while `next` still leads on.
    pub(super) visitors: Vec<Visitor>,
    /// The `cursor` of the next page; null after the last.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// How many are here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CommunityCount {
    /// The community.
    pub(super) community_id: Key,
    /// Distinct users seen within the window.
    pub(super) current_visitors: u64,
    /// Length of the window, in seconds.
    pub(super) window_seconds: Seconds,
    /// When the count was taken.
    pub(super) as_of: Timestamp,
    /// True while presence cannot be asked: the count, and the list, are then of those whom the answering
    /// sidecar has seen itself within the window, which may be fewer than there are.
    pub(super) stale: bool,
}

/// Who is at something in a community.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FinerList {
    #[serde(flatten)]
    pub(super) count: FinerCount,
    /// One page of the visitors, as of a community.
    pub(super) visitors: Vec<Visitor>,
    /// The `cursor` of the next page; null after the last.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// How many are at something in a community.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FinerCount {
    /// The community.
    pub(super) community_id: Key,
    /// The kind of things, such as `post`.
    pub(super) scope: String,
    /// Which of them, as in the path.
    pub(super) scope_id: String,
    /// Distinct users seen there within the window.
    pub(super) current_visitors: u64,
    /// Length of the window, in seconds.
    pub(super) window_seconds: Seconds,
    /// When the count was taken.
    pub(super) as_of: Timestamp,
    /// True while presence cannot be asked, as for a community.
    pub(super) stale: bool,
}

/// Who is on the whole site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineVisitors {
    #[serde(flatten)]
    pub(super) count: SiteCount,
    /// One page of the visitors, latest seen first, as of a community; `last_seen_at` is of any page. Empty where the site
    /// shows nobody who is on it.
    pub(super) visitors: Vec<Visitor>,
    /// The `cursor` of the next page; null after the last.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// How many are on the whole site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SiteCount {
    /// Distinct users seen within the window, on whichever page.
    pub(super) current_visitors: u64,
    /// Length of the window, in seconds.
    pub(super) window_seconds: Seconds,
    /// When the count was taken.
    pub(super) as_of: Timestamp,
    /// True while presence cannot be asked: the count is then of those whom the answering sidecar has seen itself within
    /// the window, which may be fewer than there are.
    pub(super) stale: bool,
}

/// Which of some users are on the site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineUsers {
    /// Length of the window, in seconds.
    pub(super) window_seconds: Seconds,
    /// True while presence cannot be asked, as for the count.
    pub(super) stale: bool,
    /// Those who are, in the order asked.
    pub(super) users: Vec<OnlineUser>,
}

/// One user who is on the site.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OnlineUser {
    /// Key of the user's profile.
    pub(super) user_id: Key,
    /// Last page view.
    pub(super) last_seen_at: Timestamp,
}

/// A value of the app's: null where it has none, and left out of the answer where the app keeps no such values.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum AppValue<T> {
    /// The app keeps none.
    Missing,
    /// It does.
    Value(Option<T>),
}

impl<T> AppValue<T> {
    fn new(is_kept: bool, value: Option<T>) -> Self {
        if is_kept {
            Self::Value(value)
        } else {
            Self::Missing
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// One user who is here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Visitor {
    /// Key of the user's profile.
    pub(super) user_id: Key,
    /// Name.
    pub(super) username: String,
    /// URL of the picture.
    #[schema(required = true)]
    pub(super) avatar: Option<String>,
    /// Start of the user's current site session.
    #[schema(required = true, value_type = Option<Timestamp>)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) started_at: AppValue<Timestamp>,
    /// Pages visited in that session.
    #[schema(required = true, value_type = Option<i64>)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) pages_visited: AppValue<i64>,
    /// Last page view in this community.
    pub(super) last_seen_at: Timestamp,
}

/// How many are in each of several communities.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the fields are the JSON's")]
pub(super) struct Counts {
    /// Length of the window, in seconds.
    pub(super) window_seconds: Seconds,
    /// When the counts were true: the earliest of them.
    pub(super) as_of: Timestamp,
    /// True while presence cannot be asked: the counts are then of those whom the answering sidecar has seen
    /// itself within the window, which may be fewer than there are.
    pub(super) stale: bool,
    /// In the order asked. Communities that do not exist, or that the caller may not see, are left out.
    pub(super) counts: Vec<CountOf>,
}

/// One of several counts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountOf {
    /// The community.
    pub(super) community_id: Key,
    /// Distinct users seen within the window.
    pub(super) current_visitors: u64,
}

/// Numbers of one community over the half-open window from `from` up to, but not including, `to`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct CommunityStats {
    /// The community.
    pub(super) community_id: Key,
    /// Length of the window, in days of 24 hours.
    pub(super) days: u32,
    /// Start of the window, included.
    pub(super) from: Timestamp,
    /// End of the window, excluded.
    pub(super) to: Timestamp,
    /// Distinct users with one of the `page_views`: never more than those. Other events do not count.
    pub(super) total_visitors: i64,
    /// Page views in the community: those that the sidecar recorded, and those that the app did before the sidecar's
    /// first of this community; or all of both, with `api.page_views = "all"`.
    pub(super) page_views: i64,
    /// Mean length, in seconds, of site sessions (not of the time in the community) that started and ended in the
    /// window, and whose user viewed a page of the community in the window, in whichever session. Null when there
    /// is none.
    #[schema(required = true, value_type = Option<f64>)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) avg_session_duration: AppValue<f64>,
    /// Number of sessions in that mean.
    #[schema(required = true, value_type = i64)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) ended_sessions: AppValue<i64>,
    /// The same of those sessions alone in which the user viewed a page of the community. Still the length of the
    /// whole session. Null when there is none.
    #[schema(required = true, value_type = Option<f64>)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) avg_community_session_duration: AppValue<f64>,
    /// Number of sessions in that mean.
    #[schema(required = true, value_type = i64)]
    #[serde(skip_serializing_if = "AppValue::is_missing")]
    pub(super) ended_community_sessions: AppValue<i64>,
    /// The event types that count as page views.
    #[schema(value_type = Vec<String>)]
    pub(super) event_types: Vec<Arc<str>>,
}

impl CommunityStats {
    /// Puts the numbers into their window.
    pub(super) fn new(
        community_id: Key,
        days: u32,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        stats: &Stats,
        facts: SessionFacts,
        event_types: Vec<Arc<str>>,
    ) -> Self {
        let kept = |mean| AppValue::new(facts.durations, mean);
        let count = |count| AppValue::new(facts.durations, Some(count));
        Self {
            community_id,
            days,
            from: Timestamp(from),
            to: Timestamp(to),
            total_visitors: stats.total_visitors,
            page_views: stats.page_views,
            avg_session_duration: kept(stats.avg_session_duration),
            ended_sessions: count(stats.ended_sessions),
            avg_community_session_duration: kept(stats.avg_community_session_duration),
            ended_community_sessions: count(stats.ended_community_sessions),
            event_types,
        }
    }
}

impl Visitor {
    /// Puts a profile and its last-seen time together.
    pub(super) fn new(
        row: VisitorRow,
        last_seen: DateTime<Utc>,
        avatar_base: &str,
        keys: &AppKeys,
        facts: SessionFacts,
    ) -> Self {
        Self {
            user_id: Key::of_user(&row.user_id, keys),
            avatar: row
                .avatar
                .as_deref()
                .and_then(|path| avatar_url(avatar_base, path)),
            username: row.username,
            started_at: AppValue::new(facts.started_at, row.started_at.map(Timestamp)),
            pages_visited: AppValue::new(facts.pages_visited, row.pages_visited),
            last_seen_at: Timestamp(last_seen),
        }
    }
}

/// Characters that Django's `filepath_to_uri` leaves unescaped in a stored file's path.
const FILE_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'_')
    .remove(b'.')
    .remove(b'-')
    .remove(b'~')
    .remove(b'/')
    .remove(b'!')
    .remove(b'*')
    .remove(b'(')
    .remove(b')')
    .remove(b'\'');

/// The picture's URL: a stored path below the base, as Django's `.url` builds it; an absolute URL stays as it is.
fn avatar_url(base: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return None;
    }
    if is_absolute(path) {
        return Some(path.to_owned());
    }
    // Django adds a slash to `MEDIA_URL` in the same way. A base with a query is not changed.
    let slash = if base.ends_with('/') || base.contains(['?', '#']) {
        ""
    } else {
        "/"
    };
    Some(format!("{base}{slash}{}", utf8_percent_encode(path, FILE_PATH)))
}

/// Whether a stored picture is a URL, or a path of the site, rather than a file's name below the base. Other
/// schemes than these are not used for pictures, and a file's name may contain a colon.
fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
        || ["http://", "https://", "data:"].iter().any(|scheme| {
            path.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
}
