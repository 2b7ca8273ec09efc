//! The expressions of the indexes on the event table, spelled as in `migrations/app`: otherwise they would not be used.

use crate::key_type::KeyType;
use crate::store::rows::SOURCE;
use crate::store::schema::{AppSchema, EventTable, Kind};

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
