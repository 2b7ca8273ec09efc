//! Readings that look like the middle of a change are not believed at once.

use std::time::Duration;

use tokio::time::Instant;

use super::{Reading, is_same};

/// Such a reading is believed when the same has been there for this long …
const REST: Duration = Duration::from_secs(2);
/// … and any after this time, also where they never stop changing.
const LONGEST: Duration = Duration::from_secs(10);

/// A reading that is not believed yet.
pub(super) struct Doubt {
    read: Reading,
    /// When this was first read.
    since: Instant,
    /// When the first of the readings was that were doubted one after the other.
    first: Instant,
}

impl Doubt {
    /// When the files are to be read again.
    pub(super) fn until(&self) -> Instant {
        (self.since + REST).min(self.first + LONGEST)
    }

    /// Whether `read`, which looks doubtful, has been there for long enough. If not, it is doubted from now on, or goes
    /// on being.
    pub(super) fn is_over(doubt: &mut Option<Self>, read: &Reading) -> bool {
        let now = Instant::now();
        match doubt {
            Some(known) if is_same(&known.read, read) => now >= known.until(),
            Some(known) if now >= known.first + LONGEST => true,
            _ => {
                *doubt = Some(Self {
                    read: read.clone(),
                    since: now,
                    first: doubt.as_ref().map_or(now, |known| known.first),
                });
                false
            }
        }
    }
}
