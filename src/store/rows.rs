//! Converts page views to rows of the event table, for both databases alike. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use memchr::memchr;
use serde::Serialize;
use uuid::{Builder, Uuid};

use super::ip_text;
use super::schema::{Column, EventInsert, EventTable};
use crate::batch::{Batch, RecordedView};
use crate::config::CommunityIdAs;
use crate::geoip::Location;
use crate::ids::CommunityId;
use crate::key_type::KeyType;
use crate::page_view::device::DeviceInfo;
use crate::routes::PAGE_VIEW;

/// A condition: the column holds one of these event types. They have neither quotes nor backslashes. Of one type it is a
/// comparison, as an index of that type alone has it.
pub(super) fn is_of_type(column: &impl fmt::Display, types: &[Arc<str>]) -> String {
    let quoted: Vec<_> = types.iter().map(|name| format!("'{name}'")).collect();
    match &*quoted {
        [only] => format!("{column} = {only}"),
        all => format!("{column} IN ({})", all.join(", ")),
    }
}

/// `metadata.source` of rows that the sidecar writes.
pub(super) const SOURCE: &str = "headcount";

/// `ip_address` of a view without one, where the column is NOT NULL.
const NO_ADDRESS: &str = "0.0.0.0";

/// One event, its values as text in the form that the input functions of the columns' types take. What a table has no column
/// for is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventRow<'a> {
    pub user_id: &'a str,
    pub event_type: &'a str,
    pub description: Cow<'a, str>,
    pub metadata: Cow<'a, str>,
    pub ip_address: Option<Cow<'a, str>>,
    pub user_agent: Cow<'a, str>,
    pub device_info: Cow<'a, str>,
    pub location_data: Cow<'a, str>,
    pub at: DateTime<Utc>,
}

impl EventRow<'_> {
    /// The values of [`EventInsert::optional`], in its order.
    pub(super) fn optional(&self) -> [Option<&str>; 5] {
        [
            Some(&self.description),
            self.ip_address.as_deref(),
            Some(&self.user_agent),
            Some(&self.device_info),
            Some(&self.location_data),
        ]
    }

    /// The row with only ASCII characters, which every encoding has: `?` for each other one.
    fn in_ascii(mut self) -> Self {
        for text in [
            &mut self.description,
            &mut self.metadata,
            &mut self.user_agent,
            &mut self.device_info,
            &mut self.location_data,
        ] {
            let in_ascii = text.chars().map(|c| if c.is_ascii() { c } else { '?' });
            *text = in_ascii.collect::<String>().into();
        }
        self
    }
}

/// A new key of an event. Its random part comes from the thread's generator, which is seeded by the system:
/// [`Uuid::new_v4`] asks the system for each, which is a system call per row.
pub(super) fn new_key() -> Uuid {
    Builder::from_random_bytes(rand::random::<u128>().to_ne_bytes()).into_uuid()
}

/// The beginning of the statement that inserts events: the table and its columns. Their values: user, type,
/// metadata, time, those of the optional columns that there are, the key where we make it, and the constants.
pub(super) fn insert_into(event: &EventTable, insert: &EventInsert) -> String {
    format!("INSERT INTO {}", table_and_columns(event, insert))
}

/// The table and, in parentheses, the columns that [`insert_into`] has, in its order.
pub(super) fn table_and_columns(event: &EventTable, insert: &EventInsert) -> String {
    let more = insert.more().map(|column| format!(", {column}"));
    format!(
        "{table} ({user_id}, {event_type}, {metadata}, {timestamp}{more})",
        table = event.table,
        user_id = event.user_id,
        event_type = event.event_type,
        metadata = event.metadata,
        timestamp = event.timestamp,
        more = more.collect::<String>(),
    )
}

/// The events of a batch, each made when it is asked for: a batch may be large.
#[derive(Clone, Copy)]
pub(super) struct EventRows<'a> {
    pub batch: &'a Batch,
    pub columns: &'a EventInsert,
    /// Of communities.
    pub key: KeyType,
    pub community_id_as: CommunityIdAs,
    /// Whether only ASCII characters are written.
    pub in_ascii: bool,
}

impl<'a> EventRows<'a> {
    /// The rows, in the order of the views.
    pub(super) fn iter(self) -> impl Iterator<Item = Result<EventRow<'a>, sqlx::Error>> {
        self.batch.views().map(move |recorded| {
            let row = event_row(recorded, self.columns, self.key, self.community_id_as)?;
            Ok(if self.in_ascii { row.in_ascii() } else { row })
        })
    }
}

fn event_row<'a>(
    recorded: &'a RecordedView,
    columns: &EventInsert,
    key: KeyType,
    community_id_as: CommunityIdAs,
) -> Result<EventRow<'a>, sqlx::Error> {
    let view = &recorded.view;
    let url = without_nul(&view.url);
    let metadata = Metadata {
        community_id: recorded
            .community
            .as_ref()
            .and_then(|community| WrittenCommunity::of(community, key, community_id_as)),
        page_type: view.page_type.as_deref(),
        referrer: view.referrer.as_deref().map(without_nul),
        search_query: view.search_query.as_deref().map(without_nul),
        route: view.route.as_deref(),
        status: view.status,
        duration_ms: view.duration_ms,
        source: SOURCE,
        url: &url,
        more: &view.event.metadata,
    };
    Ok(EventRow {
        user_id: recorded.user_id.as_str(),
        event_type: view.event.event_type.as_deref().unwrap_or(PAGE_VIEW),
        metadata: json(&metadata)?,
        description: of_column(columns.description.as_ref(), || match &view.event.description {
            Some(description) => without_nul(description),
            None => ["Page view: ", &url].concat().into(),
        }),
        ip_address: ip_address(view.client_ip, columns.ip_address.as_ref()),
        user_agent: of_column(columns.user_agent.as_ref(), || without_nul(&view.user_agent)),
        device_info: match &columns.device_info {
            Some(_) => device_info(&view.device)?,
            None => "".into(),
        },
        location_data: match &columns.location_data {
            Some(_) if recorded.location == Location::default() => "{}".into(),
            Some(_) => json(&recorded.location)?,
            None => "".into(),
        },
        at: view.at,
    })
}

/// A text, as much of it as its column takes; empty where the table has no such column.
fn of_column<'a>(column: Option<&Column>, text: impl FnOnce() -> Cow<'a, str>) -> Cow<'a, str> {
    match column {
        Some(column) => cut(text(), Some(column)),
        None => "".into(),
    }
}

fn ip_address(ip: Option<IpAddr>, column: Option<&Column>) -> Option<Cow<'static, str>> {
    let column = column?;
    match ip {
        Some(ip) => Some(cut(ip_text(ip).into(), Some(column))),
        None if column.nullable => None,
        None => Some(cut(NO_ADDRESS.into(), Some(column))),
    }
}

fn device_info(device: &DeviceInfo) -> Result<Cow<'static, str>, sqlx::Error> {
    json(&Device {
        browser: without_nul(&device.browser),
        os: without_nul(&device.os),
        kind: without_nul(&device.device),
    })
}

/// `metadata` as the app's own events have it, and what only the sidecar knows. Absent values are null, as
/// the app writes them; `search_query` is there only on search pages.
#[derive(Serialize)]
struct Metadata<'a> {
    url: &'a str,
    community_id: Option<WrittenCommunity<'a>>,
    page_type: Option<&'a str>,
    referrer: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_query: Option<Cow<'a, str>>,
    route: Option<&'a str>,
    status: u16,
    duration_ms: u32,
    source: &'static str,
    #[serde(flatten)]
    more: &'a BTreeMap<Arc<str>, String>,
}

/// `device_info`: a [`DeviceInfo`] without NUL.
#[derive(Serialize)]
struct Device<'a> {
    browser: Cow<'a, str>,
    os: Cow<'a, str>,
    #[serde(rename = "device")]
    kind: Cow<'a, str>,
}

/// `community_id`: a key in its canonical form.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum WrittenCommunity<'a> {
    Number(i64),
    Text(Cow<'a, str>),
}

impl<'a> WrittenCommunity<'a> {
    /// `None` for text that is no key, which a spool of an earlier version may hold.
    fn of(community: &'a CommunityId, key: KeyType, community_id_as: CommunityIdAs) -> Option<Self> {
        let community = key.canonical(community.as_str())?;
        let number = match community_id_as {
            CommunityIdAs::Number => key.number(&community),
            CommunityIdAs::String => None,
        };
        Some(number.map_or(Self::Text(community), Self::Number))
    }
}

fn json(value: &impl Serialize) -> Result<Cow<'static, str>, sqlx::Error> {
    // Room for what most views have: growing copies it again and again.
    let mut text = Vec::with_capacity(256);
    serde_json::to_writer(&mut text, value).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let text = String::from_utf8(text).map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(text.into())
}

/// W2: neither text nor jsonb takes NUL.
fn without_nul(text: &str) -> Cow<'_, str> {
    if memchr(0, text.as_bytes()).is_none() {
        return text.into();
    }
    text.replace('\0', "").into()
}

/// W3: `varchar(n)` counts characters and refuses what is longer.
pub(super) fn cut<'a>(text: Cow<'a, str>, column: Option<&Column>) -> Cow<'a, str> {
    let limit = column.and_then(|column| column.max_length);
    // A character has at least one byte.
    let Some(limit) = limit.filter(|limit| text.len() > *limit) else {
        return text;
    };
    let Some((end, _)) = text.char_indices().nth(limit) else {
        return text;
    };
    match text {
        Cow::Borrowed(text) => text[..end].into(),
        Cow::Owned(mut text) => {
            text.truncate(end);
            text.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{Dialect, Kind};

    fn column(max_length: Option<usize>) -> Column {
        Column {
            max_length,
            ..Column::sample(Dialect::Postgres, Kind::Text)
        }
    }

    #[test]
    fn w3_text_is_cut_to_characters_not_bytes() {
        assert_eq!(cut("äöü".into(), Some(&column(Some(2)))), "äö");
        assert_eq!(cut("äöü".into(), Some(&column(Some(3)))), "äöü");
        assert_eq!(cut("👩‍🚀".into(), Some(&column(Some(1)))), "👩");
        assert_eq!(cut("äöü".into(), Some(&column(None))), "äöü");
    }

    #[test]
    fn v31_the_keys_of_our_own_are_those_that_routes_may_not_have() {
        let metadata = Metadata {
            community_id: None,
            page_type: None,
            referrer: None,
            search_query: Some("".into()),
            route: None,
            status: 200,
            duration_ms: 1,
            source: SOURCE,
            url: "/",
            more: &BTreeMap::new(),
        };
        let value = serde_json::to_value(&metadata).unwrap();
        let mut written: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        let mut reserved = crate::routes::OWN_KEYS.map(str::to_owned).to_vec();
        written.sort();
        reserved.sort();
        assert_eq!(written, reserved);
    }

    #[test]
    fn v22_a_community_is_a_number_only_where_asked_and_where_keys_are_integers() {
        let json = |id: &str, key, written| {
            let id = CommunityId::from(id);
            WrittenCommunity::of(&id, key, written).map(|key| serde_json::to_value(key).unwrap())
        };
        let (string, number) = (CommunityIdAs::String, CommunityIdAs::Number);
        assert_eq!(json("42", KeyType::BIGINT, string), Some("42".into()));
        assert_eq!(json("42", KeyType::BIGINT, number), Some(42.into()));
        assert_eq!(json("042", KeyType::BIGINT, number), Some(42.into()));
        assert_eq!(json("42", KeyType::Text(None), number), Some("42".into()));
        assert_eq!(json("007", KeyType::Text(None), string), Some("007".into()));
        assert_eq!(json("a-b", KeyType::BIGINT, number), None);
    }
}
