//! Finds the table that page views are written to: the app's own table of events, else the sidecar's.

use super::super::catalogue::{AppTable, AppTables, is_address, is_json, is_moment, is_text};
use super::Guess;
use crate::store::catalogue::CatalogueColumn;

const NAMES: &[&str] = &[
    "event",
    "activity",
    "activitylog",
    "pageview",
    "page_view",
    "visit",
    "log",
    "action",
    "history",
];

/// A key of `[schema.event.columns]`, the usual names of its column, and whether a column's type fits.
type ColumnRule = (
    &'static str,
    &'static [&'static str],
    fn(crate::store::schema::Kind) -> bool,
);

/// Columns without which a table is not taken.
const NEEDED: &[ColumnRule] = &[
    ("event_type", &["event_type"], is_text),
    ("metadata", &["metadata"], is_json),
    ("timestamp", &["timestamp", "created_at"], is_moment),
];
/// Further columns.
const OPTIONAL: &[ColumnRule] = &[
    (
        "description",
        &["description", "text", "message", "summary"],
        is_text,
    ),
    (
        "ip_address",
        &["ip_address", "ip", "remote_addr", "client_ip"],
        is_address,
    ),
    ("user_agent", &["user_agent", "useragent", "agent"], is_text),
    ("device_info", &["device_info", "device"], is_json),
    ("location_data", &["location_data", "location", "geo"], is_json),
];

/// A table for events, and what is written to it.
struct GuessedEventTable<'t> {
    table: &'t AppTable,
    user: &'t CatalogueColumn,
    columns: Vec<(&'static str, Option<&'t CatalogueColumn>)>,
    constants: Vec<(&'t str, &'t str)>,
}

/// A table that refers to the users, has the columns that an event needs, and whose further `NOT NULL` columns have a known
/// value.
fn find<'t>(tables: &'t AppTables, people: &'t AppTable) -> Option<GuessedEventTable<'t>> {
    tables.that_refer_to(people).find_map(|(table, user)| {
        let is_named = NAMES
            .iter()
            .any(|name| table.is_of(name) || table.word().ends_with(name));
        if !is_named {
            return None;
        }
        let column = |(key, names, fits): &ColumnRule| {
            let mut found = names.iter().filter_map(|name| table.named(&[name], *fits));
            (
                *key,
                found.find(|column| column.name != user.name && !column.is_key),
            )
        };
        let mut columns: Vec<_> = NEEDED.iter().map(column).collect();
        if columns.iter().any(|(_, column)| column.is_none()) {
            return None;
        }
        columns.extend(OPTIONAL.iter().map(column));
        // Tells page views from other events, such as those of a calendar.
        let is_of_visitors = |key| {
            columns
                .iter()
                .any(|(known, column)| *known == key && column.is_some())
        };
        if !is_of_visitors("ip_address") || !is_of_visitors("user_agent") {
            return None;
        }
        let is_filled = |column: &&CatalogueColumn| {
            column.is_nullable
                || column.has_default
                || column.is_key
                || column.name == user.name
                || columns
                    .iter()
                    .any(|(_, written)| written.is_some_and(|written| written.name == column.name))
        };
        let empty: Vec<_> = table.columns.iter().filter(|column| !is_filled(column)).collect();
        let constants: Option<Vec<_>> = empty
            .into_iter()
            .map(|column| Some((&*column.name, &**table.defaults.get(&column.name)?)))
            .collect();
        Some(GuessedEventTable {
            table,
            user,
            columns,
            constants: constants?,
        })
    })
}

/// Adds its settings.
pub(super) fn add_settings(guess: &mut Guess, tables: &AppTables, people: Option<&AppTable>) {
    const SECTION: &str = "schema.event.columns";
    let Some(found) = people.and_then(|people| find(tables, people)) else {
        guess.set_text(
            "record",
            "events",
            "own",
            "no table of the app has the columns that an event needs: `headcount migrate` creates headcount.page_view",
        );
        return;
    };
    guess.set_text(
        "schema.event",
        "table",
        &found.table.configured(),
        "it refers to the users and has a type, JSON and a time; with record.events = \"own\" the sidecar writes to a table of \
         its own instead",
    );
    guess.set_column(SECTION, "id", found.table.key(), "id");
    guess.set_column(SECTION, "user_id", Some(found.user), "user_id");
    for (key, column) in &found.columns {
        guess.set_column(SECTION, key, *column, key);
    }
    for (column, value) in &found.constants {
        guess.set_text(
            "schema.event.constants",
            column,
            value,
            "NOT NULL; the model's default",
        );
    }
}
