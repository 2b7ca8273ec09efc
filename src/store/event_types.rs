//! Event types that routes write: whether the event table accepts them, and how many events of each it had in the last day.
//! Pure: the statements are in `postgres` and `sqlite`.

use std::fmt;
use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::from_row::from_row;
use crate::routes::WrittenType;

/// Why the event table does not take an event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeFault {
    /// It is longer than the column: its limit, in characters.
    TooLong(usize),
    /// A CHECK constraint of the column forbids it: its name, or its words.
    Forbidden(String),
}

impl fmt::Display for TypeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(limit) => write!(f, "is longer than its column, which takes {limit} characters"),
            Self::Forbidden(constraint) => {
                write!(f, "is forbidden by the constraint {constraint} of its column")
            }
        }
    }
}

/// A sentence for each route whose event type is among the faults, with its place and remedy.
pub(super) fn refused<'a>(
    written: impl Iterator<Item = WrittenType<'a>>,
    faults: &[(Arc<str>, TypeFault)],
) -> Vec<String> {
    let of = |written: WrittenType<'a>| {
        let (_, fault) = faults.iter().find(|(name, _)| name == written.event_type)?;
        Some(format!(
            "{}: route `{}`: `event_type` {:?} {fault}; use a type that the column takes, or let it take this one",
            written.source, written.route, written.event_type
        ))
    };
    written.filter_map(of).collect()
}

/// Events of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeCount {
    /// The type.
    pub event_type: String,
    /// Those that a sidecar wrote.
    pub ours: i64,
    /// All others.
    pub theirs: i64,
}

from_row!(PgRow, SqliteRow => TypeCount { event_type, ours, theirs });

/// What `headcount check` says of them: `own` are those that routes write.
pub(super) fn notes(counts: &[TypeCount], own: &[Arc<str>], are_own_events: bool) -> Vec<String> {
    let twice = counts.iter().filter(|count| count.theirs > 0);
    let twice = twice.map(|count| {
        format!(
            "the app writes events of the type {:?} itself: {} in the last day, beside {} of the sidecar's; api.page_views says \
             which of them count",
            count.event_type, count.theirs, count.ours
        )
    });
    let is_new = |name: &&Arc<str>| !counts.iter().any(|count| *count.event_type == ***name);
    let new = own.iter().filter(|_| !are_own_events).filter(is_new).map(|name| {
        format!(
            "no event of the last day has the type {name:?}, which a route writes: if the app has a list of its event types, \
             see that it is in it (headcount check --django looks there)"
        )
    });
    twice.chain(new).collect()
}
