//! Groups that were just appended: kept in memory, so that what goes straight on to the database is not read back. The
//! file is for crashes and backlogs.
//!
//! Which rows there are, and under which keys, only the file tells. A group is here if its commit is known to have
//! succeeded, under the place of its row, which is never used again; it is taken out when the row is read for the first
//! time, so whoever reads it again reads the file.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::RecordedView;

/// Most bytes of views; few in tests, so that some groups find no room.
pub(super) const MOST: usize = if cfg!(test) { 1_000 } else { 2 << 20 };

/// Groups by the places of their rows.
#[derive(Debug, Default)]
pub(super) struct FreshGroups(Mutex<Groups>);

#[derive(Debug, Default)]
struct Groups {
    by_place: BTreeMap<i64, (Vec<RecordedView>, usize)>,
    bytes: usize,
}

impl FreshGroups {
    /// Keeps a group, if there is room: those before it are read first.
    pub(super) fn put(&self, place: i64, views: Vec<RecordedView>) {
        let bytes = views.iter().map(|recorded| recorded.view.weight()).sum();
        let mut groups = self.lock();
        if groups.bytes + bytes <= MOST {
            groups.bytes += bytes;
            groups.by_place.insert(place, (views, bytes));
        }
    }

    /// Takes a group out; `None` if it is not here, but only in the file.
    pub(super) fn take(&self, place: i64) -> Option<Vec<RecordedView>> {
        let mut groups = self.lock();
        let (views, bytes) = groups.by_place.remove(&place)?;
        groups.bytes -= bytes;
        Some(views)
    }

    /// Takes all out.
    #[cfg(test)]
    pub(super) fn clear(&self) {
        *self.lock() = Groups::default();
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
