//! The expressions of the indexes on the event table, spelled as in `migrations/app`: otherwise they would not be used.

use std::sync::Arc;

use crate::key_type::KeyType;
use crate::store::event_indexes::{MOST_OF_KEY, MOST_OF_TYPE, size, start_of_type};
use crate::store::rows::{SOURCE, is_of_type};
use crate::store::schema::{AppSchema, EventTable, Kind};

/// The statements of [`NAMES`](crate::store::event_indexes::NAMES).
pub(in crate::store) const STATEMENTS: [&str; 2] = [
    include_str!("../../../migrations/app/postgres/event_community.sql"),
    include_str!("../../../migrations/app/postgres/event_visitor.sql"),
];

/// The statements of [`VISITS`](crate::store::event_indexes::VISITS).
pub(in crate::store) const VISITS_STATEMENTS: [&str; 2] = [
    include_str!("../../../migrations/app/postgres/event_visits.sql"),
    include_str!("../../../migrations/app/postgres/event_visits_large.sql"),
];

/// What an index is of, its row of `pg_index` being `x`; NULL where it is not in ascending order.
pub(in crate::store) const COLUMNS: &str = "CASE
    WHEN NOT x.indisunique AND 0 = ALL (x.indoption) AND EXISTS (
        SELECT FROM pg_catalog.pg_class i JOIN pg_catalog.pg_am m ON m.oid = i.relam
        WHERE i.oid = x.indexrelid AND m.amname = 'btree'
    ) THEN (
        SELECT string_agg(pg_catalog.pg_get_indexdef(x.indexrelid, place, false),
                          CASE WHEN place = x.indnkeyatts + 1 THEN ' INCLUDE ' ELSE ',' END ORDER BY place)
        FROM generate_series(1, x.indnatts::int) AS place
    ) || coalesce(' WHERE ' || pg_catalog.pg_get_expr(x.indpred, x.indrelid), '') END";

/// The text of the community's key.
fn key(event: &EventTable) -> String {
    format!("({} ->> 'community_id')", event.metadata)
}

/// What indexes have of the community's key.
fn start_of_key(event: &EventTable) -> String {
    format!("left({}, {MOST_OF_KEY})", key(event))
}

/// A condition: a row has one of these event types.
pub(super) fn is_counted(event: &EventTable, types: &[Arc<str>]) -> String {
    let column = &event.event_type;
    let is_short = |name: &Arc<str>| name.chars().count() < MOST_OF_TYPE;
    // Of texts that the database compares in its own way the index is of no use.
    if column.is_loose || !types.iter().all(is_short) {
        return is_of_type(column, types);
    }
    is_of_type(&start_of_type(column), types)
}

/// A condition: a row is the sidecar's, or is not. A number, as the planner would not take a boolean for the index's.
pub(super) fn is_ours(event: &EventTable, is: bool) -> String {
    format!(
        "(CASE WHEN {metadata} ->> 'source' = '{SOURCE}' THEN 1 ELSE 0 END) = {number}",
        metadata = event.metadata,
        number = u8::from(is)
    )
}

/// A condition: a row is in the first of the indexes of visits, or in the second.
pub(super) fn is_small(event: &EventTable, is: bool) -> String {
    let small = format!("{} <= 500", size(event));
    if is {
        small
    } else {
        format!("(CASE WHEN {small} THEN 0 ELSE 1 END) = 1")
    }
}

/// Which of the community's spellings, which are the parameter `$1` of every statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spelling<'a> {
    /// Each.
    Any,
    /// The one at this place, from 1 on.
    Nth(usize),
    /// The one that this expression is.
    Is(&'a str),
}

/// A condition: a row's key is such a spelling.
pub(super) fn has_key(app: &AppSchema, event: &EventTable, spelling: Spelling<'_>) -> String {
    let (key, start) = (key(event), start_of_key(event));
    let type_of_key = app.keys().community;
    let one = match spelling {
        Spelling::Is(expression) => expression.to_owned(),
        Spelling::Nth(place) => format!("($1::text[])[{place}]"),
        // Text has one spelling.
        Spelling::Any if !matches!(type_of_key, KeyType::Integer(..) | KeyType::Uuid) => {
            "($1::text[])[1]".to_owned()
        }
        Spelling::Any => return format!("{start} = ANY ($1::text[])"),
    };
    let is_short = match type_of_key {
        KeyType::Integer(..) | KeyType::Uuid => true,
        KeyType::Text(limit) | KeyType::LooseText(limit) => limit.is_some_and(|limit| limit < MOST_OF_KEY),
    };
    if is_short {
        // A text that is shorter than what the index has of a key is the key.
        format!("{start} = {one}")
    } else {
        format!("{start} = left({one}, {MOST_OF_KEY}) AND {key} = {one}")
    }
}

/// A condition: a row is of the community.
pub(super) fn of_community(app: &AppSchema, event: &EventTable, spelling: Spelling<'_>) -> String {
    let has_key = has_key(app, event, spelling);
    match app.keys().community {
        KeyType::Integer(..) | KeyType::Uuid => has_key,
        // The text of JSON's `true` may be a key of a text column.
        KeyType::Text(_) | KeyType::LooseText(_) => {
            let type_of = match event.metadata.kind {
                Kind::Json => "json_typeof",
                _ => "jsonb_typeof",
            };
            format!(
                "{has_key} AND {type_of}({metadata} -> 'community_id') IN ('string', 'number')",
                metadata = event.metadata
            )
        }
    }
}
