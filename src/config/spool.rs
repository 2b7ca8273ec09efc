//! `[spool]`: where page views wait on disk for the database.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

/// The folder that page views are kept in until the database has them, and what it may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// The folder, for this sidecar's user alone (mode 0700); made where it is missing. Relative to the
    /// configuration file. Several sidecars of one machine may share it.
    pub dir: PathBuf,
    /// Upper bound of what waits in it for this process. Beyond it page views are dropped and counted.
    pub max_bytes: ByteSize,
    /// Longest time, apart from the disk's own, until a page view is in the spool: what a crash can lose.
    /// Longer is fewer and larger writes.
    #[serde(with = "humantime_serde")]
    pub max_unspooled: Duration,
    /// Whether each write is synced to disk. Off, a crash of the process still loses nothing more, but one of
    /// the machine may lose what its system had not written yet.
    pub fsync: bool,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            dir: "spool".into(),
            max_bytes: ByteSize::gib(1),
            max_unspooled: Duration::from_millis(50),
            fsync: true,
        }
    }
}
