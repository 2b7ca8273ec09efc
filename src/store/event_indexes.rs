//! Indexes on the event table: which there should be by `migrations/app`, and whether a live one is the same. Pure: the live
//! ones are read in `postgres` and `sqlite`.

use std::iter;

use super::schema::{Column, EventTable, Kind};

/// Their names.
pub(super) const NAMES: [&str; 2] = ["headcount_event_community", "headcount_event_visitor"];
/// Names of the two that are made where `record.visits_index` says so: of small rows, and of the others.
pub(super) const VISITS: [&str; 2] = ["headcount_event_visits", "headcount_event_visits_large"];

/// An index that is there and can be used: its name, and what it is of, in the database's words; `None` where it is of
/// another kind than any of ours.
pub(super) type LiveIndex = (String, Option<String>);

/// Most characters of a community's key in an index on Postgres, which has the first ones of longer ones: what takes more than a
/// third of a page has no place in an index, and the app's INSERT would fail. As in `migrations/app`.
pub(super) const MOST_OF_KEY: usize = 256;
/// The same of an event type: with a key and a user's key of 255 characters, of four bytes each, it fits.
pub(super) const MOST_OF_TYPE: usize = 100;

/// What indexes on Postgres have of the event type.
pub(super) fn start_of_type(column: &Column) -> String {
    let is_bounded = column.max_length.is_some_and(|limit| limit <= MOST_OF_TYPE);
    if column.kind != Kind::Text || is_bounded {
        return column.to_string();
    }
    format!("left({column}::text, {MOST_OF_TYPE})")
}

/// The bytes of the columns of the index of small rows that may be of any length, at most, on Postgres.
pub(super) fn size(event: &EventTable) -> String {
    let texts = [&event.user_id, &event.event_type].into_iter();
    let columns = iter::once(&event.metadata).chain(texts.filter(|column| column.kind == Kind::Text));
    let sizes: Vec<_> = columns
        .map(|column| format!("octet_length({column}::text)"))
        .collect();
    sizes.join(" + ")
}

/// A statement with the names of the event table.
pub(super) fn named(template: &str, event: &EventTable) -> String {
    [
        ("{event.table}", event.table.to_string()),
        ("{event.user_id}", event.user_id.to_string()),
        ("{event.metadata}", event.metadata.to_string()),
        ("{event.timestamp}", event.timestamp.to_string()),
        ("{event.event_type}", event.event_type.to_string()),
        ("{event.start_of_type}", start_of_type(&event.event_type)),
        ("{event.size}", size(event)),
    ]
    .into_iter()
    .fold(template.trim_end().to_owned(), |sql, (placeholder, name)| {
        sql.replace(placeholder, &name)
    })
}

/// What the index that a statement makes on a table is of: the part after the table's name.
pub(super) fn columns<'a>(create: &'a str, table: &str) -> &'a str {
    let columns = create.split_once(&format!(" ON {table} "));
    columns.map_or("", |(_, columns)| columns)
}

/// Whether an index is of what it should be. A database writes expressions with parentheses, quotes, spaces and casts of its
/// own.
pub(super) fn is_of(live: Option<&str>, columns: &str) -> bool {
    live.is_some_and(|live| bare(live) == bare(columns))
}

/// Without what a database writes in its own way.
fn bare(columns: &str) -> String {
    let mut bare = String::with_capacity(columns.len());
    let mut rest = columns;
    while let Some(next) = rest.chars().next() {
        if let Some(cast) = rest.strip_prefix("::") {
            rest = cast.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
            continue;
        }
        if !(next.is_whitespace() || matches!(next, '(' | ')' | '"')) {
            bare.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    bare
}

/// A sentence for each that is missing, or of something else than it should be, or not wanted. `templates` are the statements,
/// `visits` those of the indexes of visits where they are wanted.
pub(super) fn faults(
    live: &[LiveIndex],
    templates: [&str; 2],
    visits: Option<[&str; 2]>,
    event: &EventTable,
) -> Vec<String> {
    let usual = NAMES
        .into_iter()
        .zip(templates)
        .map(|index| (index, "statistics and past visitors read the whole event table"));
    let wanted = visits.into_iter().flat_map(|templates| {
        let indexes = VISITS.into_iter().zip(templates);
        indexes.map(|index| {
            (
                index,
                "past visitors are sorted by visits as slowly as without record.visits_index",
            )
        })
    });
    let table = event.table.to_string();
    let fault = |((name, template), so_that): ((&str, &str), &str)| {
        let create = named(template, event);
        let what = match live.iter().find(|(live, _)| live == name) {
            None => "missing",
            Some((_, live)) if is_of(live.as_deref(), columns(&create, &table)) => return None,
            Some(_) => "that of an earlier version, or of other columns",
        };
        Some(format!(
            "the index {name} is {what}, so that {so_that}: run headcount migrate"
        ))
    };
    let missing = usual.chain(wanted).filter_map(fault);
    // They take time with each of the app's rows.
    let unwanted = VISITS
        .into_iter()
        .filter(|name| visits.is_none() && live.iter().any(|(live, _)| live == name));
    let unwanted = unwanted.map(|name| {
        format!("the index {name} is there, though record.visits_index is false: run headcount migrate, which drops it")
    });
    missing.chain(unwanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_writes_of_an_index_is_compared_with_the_statement() {
        let ours = "(\n  (\"metadata\" ->> 'community_id'),\n (CASE WHEN \"metadata\" ->> 'source' = 'headcount' THEN 1 ELSE 0 END))";
        let theirs = "((metadata ->> 'community_id'::text)),(CASE\n    WHEN ((metadata ->> 'source'::text) = 'headcount'::text) \
                      THEN 1\n    ELSE 0\nEND)";
        assert!(is_of(Some(theirs), ours));
        assert!(!is_of(Some(theirs), "((\"metadata\" ->> 'community_id'))"));
        assert!(!is_of(
            Some("user_id,\"timestamp\""),
            "(\"timestamp\", \"user_id\")"
        ));
        assert!(!is_of(None, ours));
        let ours = "(left(\"kind\"::text, 256)) WHERE octet_length(\"user\"::text) + octet_length(\"kind\"::text) <= 500";
        let theirs =
            "\"left\"(kind, 256) WHERE ((octet_length((\"user\")::text) + octet_length(kind)) <= 500)";
        assert!(is_of(Some(theirs), ours));
        let ours = "(\"user_id\", \"timestamp\") INCLUDE (\"metadata\") WHERE octet_length(\"metadata\"::text) <= 500";
        let theirs = "user_id,\"timestamp\" INCLUDE metadata WHERE (octet_length((metadata)::text) <= 500)";
        assert!(is_of(Some(theirs), ours));
        for other in [
            "user_id,\"timestamp\" INCLUDE metadata",
            "user_id,\"timestamp\" WHERE (octet_length((metadata)::text) <= 500)",
            "user_id,\"timestamp\",metadata WHERE (octet_length((metadata)::text) <= 500)",
        ] {
            assert!(!is_of(Some(other), ours), "{other}");
        }
    }
}
