//! The expressions of the indexes on the event table, spelled as in `migrations/app`: otherwise they would not be used.

use crate::key_type::KeyType;
use crate::store::rows::SOURCE;
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
pub(super) fn key(event: &EventTable) -> String {
    format!("({} ->> 'community_id')", event.metadata)
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
    let small = format!("octet_length({}::text) <= 500", event.metadata);
    if is {
        small
    } else {
        format!("(CASE WHEN {small} THEN 0 ELSE 1 END) = 1")
    }
}

/// A condition: the community's key compares like this.
pub(super) fn of_community(app: &AppSchema, event: &EventTable, compares: &str) -> String {
    let key = key(event);
    match app.keys().community {
        KeyType::Integer(..) | KeyType::Uuid => format!("{key} {compares}"),
        // The text of JSON's `true` may be a key of a text column.
        KeyType::Text(_) | KeyType::LooseText(_) => {
            let type_of = match event.metadata.kind {
                Kind::Json => "json_typeof",
                _ => "jsonb_typeof",
            };
            format!(
                "{key} {compares} AND {type_of}({metadata} -> 'community_id') IN ('string', 'number')",
                metadata = event.metadata
            )
        }
    }
}
