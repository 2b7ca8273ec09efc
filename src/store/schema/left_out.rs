//! Updates beside the events that the database has found impossible since the schema was read, such as those of a table
//! under a publication: they are tried once, and not with each batch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After this the schema is read again, and what was impossible is tried again: it may have been mended.
const AGE: Duration = Duration::from_secs(5);

/// What is left out, and why. Clones share it; it is no part of what makes schemas equal.
#[derive(Debug, Clone, Default)]
pub struct LeftOut(Arc<Mutex<Omissions>>);

#[derive(Debug, Default)]
struct Omissions {
    /// By column.
    reasons: BTreeMap<&'static str, String>,
    since: Option<Instant>,
}

impl LeftOut {
    /// Whether the update of this column is left out.
    pub(in crate::store) fn contains(&self, column: &str) -> bool {
        self.lock().reasons.contains_key(column)
    }

    /// Leaves it out from now on.
    pub(in crate::store) fn insert(&self, column: &'static str, reason: String) {
        let mut found = self.lock();
        found.since.get_or_insert_with(Instant::now);
        found.reasons.insert(column, reason);
    }

    /// A sentence each.
    pub(in crate::store) fn sentences(&self) -> Vec<String> {
        let found = self.lock();
        let reasons = found.reasons.iter();
        reasons
            .map(|(column, reason)| format!("{column}: {reason}"))
            .collect()
    }

    /// Whether it is time to try again.
    pub(in crate::store) fn is_due(&self) -> bool {
        self.lock().since.is_some_and(|since| since.elapsed() >= AGE)
    }

    fn lock(&self) -> MutexGuard<'_, Omissions> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for LeftOut {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LeftOut {}
