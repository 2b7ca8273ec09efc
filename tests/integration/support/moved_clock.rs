//! A clock that a test sets, of one server alone: a library that is preloaded into it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::preload::compiled;

/// The library, and the file that says how far the clock is ahead.
pub(crate) struct MovedClock {
    home: TempDir,
}

impl MovedClock {
    /// Right as yet.
    pub(crate) fn new() -> Self {
        let home = super::cleaner::folder();
        compiled("moved_clock.c", home.path());
        Self { home }
    }

    /// What the server must be started with.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        [
            ("LD_PRELOAD", text(self.home.path().join("library.so"))),
            ("MOVED_CLOCK", text(self.file())),
        ]
    }

    /// From now on the clock is so far ahead.
    pub(crate) fn is_ahead(&self, by: Duration) {
        let new = Path::new(self.home.path()).join("new");
        std::fs::write(&new, by.as_secs().to_string()).expect("a file");
        // At once: it is never read half written.
        std::fs::rename(new, self.file()).expect("a file");
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("ahead")
    }
}
