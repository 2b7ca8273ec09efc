//! `[spool]`: the folder on disk in which page views wait for the database.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::files::ConfigFolder;
use super::rules::{Checked, Section, ensure, positive};

/// Folder and limits of the page views that wait for the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// The folder, accessible to the sidecar's user only (mode 0700); created if it is missing. Relative to the
    /// configuration file. Several sidecars of one machine may share it.
    pub dir: PathBuf,
    /// Upper bound of the bytes that wait in it for this process. Beyond it page views are dropped and counted.
    pub max_bytes: ByteSize,
    /// Longest time, apart from the disk's own, until a page view is in the spool: what a crash can lose.
    /// Longer is fewer and larger writes.
    #[serde(with = "humantime_serde")]
    pub max_unspooled: Duration,
    /// Whether each write is synced to disk. If off, a crash of the process loses nothing more, but a crash of the
    /// machine may lose what its system had not written yet.
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

impl Section for Spool {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        files.locate(&mut self.dir);
        Ok(())
    }

    fn check(&self) -> Checked {
        ensure(
            !self.dir.as_os_str().is_empty(),
            "spool.dir",
            "must not be empty; name a folder of the sidecar's user, for example \"/var/lib/headcount/spool\"",
        )?;
        ensure(
            self.max_unspooled <= Duration::from_secs(60),
            "spool.max_unspooled",
            "must be at most \"1m\": a crash loses what is not in the spool yet",
        )?;
        positive(&[("spool.max_unspooled", self.max_unspooled)])
    }
}
