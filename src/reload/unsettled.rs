//! Half-written files: readings that look like the middle of a change are not used at once.

use std::time::Duration;

use tokio::time::Instant;

use super::{RouteFilesResult, is_same};

/// Such a reading is used when it has stayed the same for this long …
const REST: Duration = Duration::from_secs(2);
/// … and any reading after this time, also where the files never stop changing.
const LONGEST: Duration = Duration::from_secs(10);

/// A reading that is not used yet.
pub(super) struct UnsettledFiles {
    read: RouteFilesResult,
    /// When it was first read.
    since: Instant,
    /// When the first of several doubtful readings in a row was read.
    first: Instant,
}

impl UnsettledFiles {
    /// When the files are to be read again.
    pub(super) fn until(&self) -> Instant {
        (self.since + REST).min(self.first + LONGEST)
    }

    /// Whether `read`, which looks half-written, has stayed the same for long enough. If not, it is kept as doubtful.
    pub(super) fn is_over(unsettled: &mut Option<Self>, read: &RouteFilesResult) -> bool {
        let now = Instant::now();
        match unsettled {
            Some(known) if is_same(&known.read, read) => now >= known.until(),
            Some(known) if now >= known.first + LONGEST => true,
            _ => {
                *unsettled = Some(Self {
                    read: read.clone(),
                    since: now,
                    first: unsettled.as_ref().map_or(now, |known| known.first),
                });
                false
            }
        }
    }
}
