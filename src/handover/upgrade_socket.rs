//! The Unix socket on which the new process of a hand-over waits, in a private folder. A process that could write there
//! could take the site's sockets, or pass off sockets of its own as the site's.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Listen;

/// The Unix socket on which the new process waits, and how long each process waits for the other.
#[derive(Debug, Clone)]
pub struct UpgradeSocket {
    /// The socket's file. It exists only while a new process waits.
    pub(super) path: PathBuf,
    /// Longest wait.
    pub(super) limit: Duration,
}

/// Why the socket cannot be used, with the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct UpgradeSocketError {
    place: String,
    problem: String,
}

impl UpgradeSocket {
    /// The configured socket.
    pub fn new(listen: &Listen) -> Self {
        Self {
            // `Config::parse` always sets it.
            path: listen.upgrade_socket.clone().unwrap_or_default(),
            limit: listen.upgrade_timeout,
        }
    }

    /// How messages name the socket.
    pub(super) fn name(&self) -> String {
        format!("listen.upgrade_socket ({})", self.path.display())
    }

    pub(super) fn error(&self, problem: impl Into<String>) -> UpgradeSocketError {
        UpgradeSocketError {
            place: self.name(),
            problem: problem.into(),
        }
    }

    /// Checks that no other user can write to the folder.
    pub(super) fn check_folder(&self) -> Result<(), UpgradeSocketError> {
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let name = folder.display();
        let metadata = std::fs::metadata(folder).map_err(|error| {
            self.error(format!(
                "the folder {name} cannot be used ({error}); make it, mode 0700, or name another path"
            ))
        })?;
        match shared_with(metadata.uid(), metadata.mode(), own_user()) {
            None => Ok(()),
            Some(problem) => Err(self.error(format!(
                "the folder {name} {problem}, so that others could take the site's sockets; name a path in a \
                 folder that only the sidecar's user can write to (mode 0700)"
            ))),
        }
    }
}

/// This process' user.
fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a process of that user may take part in a hand-over.
pub(super) fn is_trusted(user: u32) -> bool {
    user == own_user() || user == 0
}

/// Why a user other than `own` and root could write to a folder of `owner` with `mode`.
fn shared_with(owner: u32, mode: u32, own: u32) -> Option<String> {
    if owner != own && owner != 0 {
        Some(format!("belongs to user {owner}"))
    } else if mode & 0o022 != 0 {
        Some(format!(
            "can be written to by others (mode {:04o})",
            mode & 0o7777
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_where_only_its_owner_writes_who_is_ourselves_or_root() {
        assert_eq!(shared_with(1000, 0o40_700, 1000), None);
        assert_eq!(shared_with(0, 0o40_755, 1000), None);
        assert!(shared_with(1001, 0o40_700, 1000).is_some());
        assert!(shared_with(1000, 0o40_770, 1000).is_some());
        assert!(shared_with(1000, 0o40_702, 1000).is_some());
        assert!(shared_with(0, 0o41_777, 1000).is_some(), "as /tmp is");
        assert!(shared_with(1001, 0o40_755, 0).is_some(), "for root, too");
    }
}
