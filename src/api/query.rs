//! Parses query parameters strictly; the forms in which a request names a community. Pure.
//! Unknown ones, repeated ones and values out of range are refused with one sentence that says what is allowed.

use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};
use utoipa::ToSchema;

use crate::config;
use crate::ids::UserId;
use crate::key_type::{AppKeys, KeyType};
use crate::presence::Seen;
use crate::store::PastSort;

use super::cursor::{self, past::PastCursor};
use super::problem::Problem;

/// The key of a community, as it is asked for
#[derive(ToSchema)]
#[schema(as = CommunityKey, value_type = String, pattern = "^[^,]+$", example = "42")]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) struct AskedKey(String);

/// Most communities in one `counts` request.
pub(super) const MAX_COMMUNITIES: usize = 100;
/// How long a cursor of past visitors is taken after its first page: the window that it names moves no further back.
const CURSOR_KEPT: TimeDelta = TimeDelta::hours(1);
const BAD_CURSOR: &str = "cursor must be a value of next from an earlier answer.";
/// Most users in one `users` request.
pub(super) const MAX_USERS: usize = 100;
/// Longest key of a user, in characters.
const MAX_USER_ID: usize = 255;
const DEFAULT_LIMIT: u32 = 50;
const DEFAULT_DAYS: u32 = 30;
/// Values of `format`, which Django REST framework reads from every request, for which it would answer with JSON.
pub(super) const FORMATS: [&str; 2] = ["json", ""];

/// Parameters of a visitor list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListQuery {
    /// Entries per page.
    pub(super) limit: usize,
    /// The last entry of the page before.
    pub(super) after: Option<Seen>,
}

impl ListQuery {
    /// `limit` and `cursor`.
    pub(super) fn parse(query: Option<&str>, settings: &config::Api) -> Result<Self, Problem> {
        let [limit, cursor] = read(query, ["limit", "cursor"])?;
        let (max, default) = limits(settings);
        let limit = number("limit", limit.as_deref(), 1..=max, default)?;
        let after = match cursor {
            None => None,
            Some(text) => Some(cursor::decode(&text).ok_or(Problem::BadRequest(BAD_CURSOR.into()))?),
        };
        Ok(Self {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            after,
        })
    }
}

/// Parameters of past visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PastQuery {
    /// Length of the window.
    pub(super) days: u32,
    /// The order.
    pub(super) sort: PastSort,
    /// Entries per page.
    pub(super) limit: usize,
    /// The end of the page before, and the window's end.
    pub(super) after: Option<PastCursor>,
}

/// Names of the orders; the first is the default.
pub(super) const SORTS: [(&str, PastSort); 3] = [
    ("last_visit", PastSort::LastVisit),
    ("visit_count", PastSort::VisitCount),
    ("first_visit", PastSort::FirstVisit),
];

impl PastQuery {
    /// `days`, `sort`, `limit` and `cursor`; a cursor whose window ended long before `now` is none.
    pub(super) fn parse(
        query: Option<&str>,
        settings: &config::Api,
        now: DateTime<Utc>,
    ) -> Result<Self, Problem> {
        let [days, sort, limit, cursor] = read(query, ["days", "sort", "limit", "cursor"])?;
        let (max, default) = days_limits(settings);
        let days = number("days", days.as_deref(), 1..=max, default)?;
        let (max, default) = limits(settings);
        let limit = number("limit", limit.as_deref(), 1..=max, default)?;
        let sort = match sort {
            None => PastSort::LastVisit,
            Some(text) => {
                let named = SORTS.iter().find(|(name, _)| *name == text);
                let (_, sort) = named.ok_or(Problem::BadRequest(
                    "sort must be last_visit, visit_count or first_visit.".into(),
                ))?;
                *sort
            }
        };
        let after = match cursor {
            None => None,
            Some(text) => {
                let cursor = PastCursor::decode(&text).filter(|cursor| now - cursor.to <= CURSOR_KEPT);
                Some(cursor.ok_or(Problem::BadRequest(BAD_CURSOR.into()))?)
            }
        };
        Ok(Self {
            days,
            sort,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            after,
        })
    }
}

/// The user of a path, in the canonical form of the app's keys. `None` where it is not UTF-8.
pub(super) fn user(text: Option<&str>, keys: &AppKeys) -> Result<UserId, Problem> {
    let kind = keys.get().ok_or(Problem::Unavailable)?.user;
    let canonical = text.and_then(|text| kind.canonical(text));
    canonical.map(|key| UserId::from(&*key)).ok_or_else(|| {
        Problem::BadRequest(
            match kind {
                KeyType::Integer(least, greatest) => {
                    format!("The user must be a whole number from {least} to {greatest}.")
                }
                KeyType::Uuid => "The user must be a UUID.".to_owned(),
                KeyType::Text(Some(limit)) | KeyType::LooseText(Some(limit)) => {
                    format!("The user must have 1 to {limit} characters.")
                }
                KeyType::Text(None) | KeyType::LooseText(None) => {
                    "The user must be text without NUL characters.".to_owned()
                }
            }
            .into(),
        )
    })
}

/// The number of days of statistics.
pub(super) fn days(query: Option<&str>, settings: &config::Api) -> Result<u32, Problem> {
    let [days] = read(query, ["days"])?;
    let (max, default) = days_limits(settings);
    number("days", days.as_deref(), 1..=max, default)
}

/// Largest and default `limit`.
pub(super) fn limits(settings: &config::Api) -> (u32, u32) {
    let max = settings.max_limit.max(1);
    (max, DEFAULT_LIMIT.min(max))
}

/// Largest and default `days`.
pub(super) fn days_limits(settings: &config::Api) -> (u32, u32) {
    let max = settings.max_days.max(1);
    (max, DEFAULT_DAYS.min(max))
}

/// The communities asked for, each once, in the order asked.
pub(super) fn communities(query: Option<&str>) -> Result<Vec<String>, Problem> {
    let [list] = read(query, ["communities"])?;
    listed(&list.unwrap_or_default())
}

fn listed(list: &str) -> Result<Vec<String>, Problem> {
    let refused = || {
        Problem::BadRequest(
            format!("communities must be 1 to {MAX_COMMUNITIES} community ids with commas between them.")
                .into(),
        )
    };
    let mut ids: Vec<String> = Vec::new();
    for (place, id) in list.split(',').enumerate() {
        if id.is_empty() || place >= MAX_COMMUNITIES {
            return Err(refused());
        }
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    Ok(ids)
}

/// The key of a user's profile, as it is asked for
#[derive(ToSchema)]
#[schema(as = UserKey, value_type = String, pattern = "^[^,]+$", max_length = 255, example = "7")]
#[expect(dead_code, reason = "only its derived description is used")]
pub(super) struct AskedUser(String);

/// The users asked for, in the order asked.
pub(super) fn users(query: Option<&str>) -> Result<Vec<String>, Problem> {
    let [list] = read(query, ["ids"])?;
    let users: Vec<String> = match &list {
        Some(list) => list.split(',').map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let is_bounded = (1..=MAX_USERS).contains(&users.len());
    let is_id = |id: &String| (1..=MAX_USER_ID).contains(&id.chars().count());
    if is_bounded && users.iter().all(is_id) {
        return Ok(users);
    }
    let range = format!(
        "ids must be 1 to {MAX_USERS} keys of users, of 1 to {MAX_USER_ID} characters, with commas between them."
    );
    Err(Problem::BadRequest(range.into()))
}

/// What a live connection outside a community's paths is about.
pub(super) enum LiveOf {
    /// Each of these.
    Communities(Vec<String>),
    /// The whole site, and whether its user counts as present.
    Site(bool),
}

/// The communities asked for, or the whole site where none are.
pub(super) fn live_of(query: Option<&str>) -> Result<LiveOf, Problem> {
    let [list, heartbeat] = read(query, ["communities", "heartbeat"])?;
    match list {
        // It means nothing there.
        Some(list) => is_heartbeat(heartbeat.as_deref())
            .and_then(|_| listed(&list))
            .map(LiveOf::Communities),
        None => is_heartbeat(heartbeat.as_deref()).map(LiveOf::Site),
    }
}

/// Whether a live connection belongs to a page of its community; true by default.
pub(super) fn heartbeat(query: Option<&str>) -> Result<bool, Problem> {
    let [heartbeat] = read(query, ["heartbeat"])?;
    is_heartbeat(heartbeat.as_deref())
}

fn is_heartbeat(heartbeat: Option<&str>) -> Result<bool, Problem> {
    match heartbeat {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Problem::BadRequest("heartbeat must be true or false.".into())),
    }
}

/// No parameters at all.
pub(super) fn none(query: Option<&str>) -> Result<(), Problem> {
    let [] = read(query, [])?;
    Ok(())
}

/// The values of the named parameters, decoded; each at most once, and no others except `format`, which is
/// accepted if it means JSON. Another format is answered with 404, as by Django REST framework.
fn read<const N: usize>(
    query: Option<&str>,
    names: [&'static str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name == "format" {
            if !FORMATS.contains(&&*value) {
                return Err(Problem::NoSuchFormat);
            }
            continue;
        }
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Problem::BadRequest(unknown(&names).into()));
        };
        if values[place].replace(value.into_owned()).is_some() {
            return Err(Problem::BadRequest(
                format!("{} may be given once.", names[place]).into(),
            ));
        }
    }
    Ok(values)
}

fn unknown(names: &[&str]) -> String {
    if names.is_empty() {
        "This path takes no query parameters.".into()
    } else {
        format!("This path takes no query parameters but {}.", names.join(" and "))
    }
}

/// A whole number in decimal digits within a range.
fn number(name: &str, text: Option<&str>, range: RangeInclusive<u32>, default: u32) -> Result<u32, Problem> {
    let Some(text) = text else {
        return Ok(default);
    };
    // `parse` alone would accept a sign.
    let value = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    };
    value.filter(|value| range.contains(value)).ok_or_else(|| {
        Problem::BadRequest(
            format!(
                "{name} must be a whole number from {} to {}.",
                range.start(),
                range.end()
            )
            .into(),
        )
    })
}
