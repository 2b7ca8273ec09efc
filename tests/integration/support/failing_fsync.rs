//! A disk that does not sync: a library that is preloaded into a sidecar, compiled when it is first wanted.

use std::path::PathBuf;

use tempfile::TempDir;

use super::preload::compiled;
use super::service::wait_until;

/// What `fsync` answers on such a disk.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Errno {
    Io = 5,
    NoSpace = 28,
    Quota = 122,
}

/// The library, and the file that has it fail.
pub struct FailingFsync {
    home: TempDir,
}

impl FailingFsync {
    /// Compiles the library. Nothing fails yet.
    pub fn new() -> Self {
        let home = super::cleaner::folder();
        compiled("failing_fsync.c", home.path());
        Self { home }
    }

    /// What a sidecar must be started with.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        [
            ("LD_PRELOAD", text(self.home.path().join("library.so"))),
            ("FAILING_FSYNC", text(self.flag())),
        ]
    }

    /// From now on syncs fail, until [`FailingFsync::mend`].
    pub fn fail(&self, errno: Errno) {
        std::fs::write(self.flag(), (errno as i32).to_string()).expect("a file");
    }

    /// Waits until so many syncs have failed since the last call of [`FailingFsync::mend`].
    pub fn wait_for_failures(&self, failures: u64) {
        wait_until("failed syncs", || {
            std::fs::metadata(self.hits()).is_ok_and(|file| file.len() >= failures)
        });
    }

    /// From now on syncs go well.
    pub fn mend(&self) {
        std::fs::remove_file(self.flag()).expect("it failed until now");
        std::fs::remove_file(self.hits()).expect("it has failed");
    }

    fn flag(&self) -> PathBuf {
        self.home.path().join("failing")
    }

    fn hits(&self) -> PathBuf {
        self.home.path().join("failing.hits")
    }
}
