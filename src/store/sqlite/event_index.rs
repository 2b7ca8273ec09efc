//! The expressions of the indexes on the event table, spelled as in `migrations/app`: otherwise they would not be used.

use crate::store::rows::SOURCE;
use crate::store::schema::EventTable;

/// Whole numbers of JSON from here on, and some before, are floating-point numbers to SQLite.
const BEYOND_INTEGERS: &str = "9.2e18";

/// The statements of [`NAMES`](crate::store::event_indexes::NAMES).
pub(in crate::store) const STATEMENTS: [&str; 2] = [
    include_str!("../../../migrations/app/sqlite/event_community.sql"),
    include_str!("../../../migrations/app/sqlite/event_visitor.sql"),
];

/// The text of the community's key.
pub(super) fn key(event: &EventTable) -> String {
    format!("CAST(json_extract({}, '$.community_id') AS TEXT)", event.metadata)
}

/// A condition: a row is the sidecar's, or is not.
pub(super) fn is_ours(event: &EventTable, is: bool) -> String {
    format!(
        "coalesce(json_extract({metadata}, '$.source') = '{SOURCE}', 0) = {number}",
        metadata = event.metadata,
        number = u8::from(is)
    )
}

/// A condition: the community's key is one of the spellings in the JSON list `?1`.
///
/// The key's text may be JSON's `true`, which is 1 here. The index has a whole number beyond 64 bits as a floating-point
/// number, which is that of other keys, too: `->` has all its digits.
pub(super) fn of_community(event: &EventTable) -> String {
    format!(
        "{key} IN (SELECT value FROM json_each(?1) UNION ALL
                                   SELECT CAST(CAST(value AS REAL) AS TEXT) FROM json_each(?1)
                                   WHERE abs(CAST(value AS REAL)) >= {BEYOND_INTEGERS})
               AND CASE json_type({metadata}, '$.community_id')
                   WHEN 'text' THEN {key} IN (SELECT value FROM json_each(?1))
                   WHEN 'integer' THEN {metadata} -> '$.community_id' IN (SELECT value FROM json_each(?1))
                   END",
        key = key(event),
        metadata = event.metadata
    )
}
