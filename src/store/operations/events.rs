//! Operations on events as they were written: past visitors, and what there is to say of the types.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::StoreOperation;
use crate::store::event_types::{TypeCount, TypeFault};
use crate::store::past_visitors::{PastAsked, PastVisitor, PastWindow};
use crate::store::schema::{AppSchema, EventTable};

/// Past visitors of one community. Which views count, and whose: as for the statistics.
pub(in crate::store) struct PastVisitors<'a> {
    pub window: &'a PastWindow,
    pub asked: &'a PastAsked,
    /// As in the statistics.
    pub until_ours: bool,
    /// The event types that count.
    pub types: Vec<Arc<str>>,
}

impl StoreOperation for PastVisitors<'_> {
    /// `None` where there is no event table.
    type Output = Option<Vec<PastVisitor>>;
    const WHAT: &'static str = "a list of past visitors";
}

impl PastVisitors<'_> {
    /// Every text that may stand for the community in metadata; none if its id cannot be a key.
    pub(in crate::store) fn spellings(&self, app: &AppSchema) -> Vec<String> {
        let kind = app.keys().community;
        let key = kind.canonical(self.window.community.as_str());
        key.map(|key| kind.spellings(&key)).unwrap_or_default()
    }
}

/// The types that the event table does not take.
pub(in crate::store) struct FaultyTypes<'a> {
    pub types: &'a [Arc<str>],
}

impl StoreOperation for FaultyTypes<'_> {
    type Output = Vec<(Arc<str>, TypeFault)>;
}

impl FaultyTypes<'_> {
    /// Those that are too long.
    pub(in crate::store) fn too_long(&self, event: &EventTable) -> Vec<(Arc<str>, TypeFault)> {
        let Some(limit) = event.event_type.max_length else {
            return Vec::new();
        };
        let types = self.types.iter().filter(|name| name.chars().count() > limit);
        types
            .map(|name| (Arc::clone(name), TypeFault::TooLong(limit)))
            .collect()
    }
}

/// A sentence for each of the indexes on the event table that is missing, not valid, or of other columns than it should be.
pub(in crate::store) struct FaultyIndexes {
    /// Those of visits are wanted.
    pub visits: bool,
}

impl StoreOperation for FaultyIndexes {
    type Output = Vec<String>;
}

/// How many events of the types there were since a moment.
pub(in crate::store) struct LookAtEvents<'a> {
    pub types: &'a [Arc<str>],
    pub since: DateTime<Utc>,
}

impl StoreOperation for LookAtEvents<'_> {
    type Output = Vec<TypeCount>;
}
