//! File watcher: notices changed files, by the system's notifications and by comparison every few seconds. The latter
//! also finds changes without a notification (a folder that was replaced or created again, a network file system, a
//! notification queue that overflowed).

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::status::Component;

/// Time between two comparisons without a notification.
const LOOK: Duration = Duration::from_secs(2);
/// A change is reported when nothing has changed for this long, so that an editor's several steps are one reload.
const QUIET: Duration = Duration::from_millis(200);
/// The same where the files look half-written: one is empty or missing.
const QUIET_IF_UNLIKELY: Duration = Duration::from_secs(2);
/// Changes are reported at the latest after this time, also where they never stop.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The watched files, listed anew for each comparison because names change.
type ListFiles = Box<dyn Fn() -> std::io::Result<Vec<PathBuf>> + Send>;

/// Files in a folder, and their state at the last comparison.
pub(super) struct Watch {
    folder: PathBuf,
    files: ListFiles,
    seen: Stamp,
    /// A change that `changed` has not returned for yet.
    is_due: bool,
    /// The folder that notifications come from, with its identity, to notice when it is replaced.
    armed: Option<Armed>,
    /// Down while nothing notifies.
    notifications: Component,
    notices: mpsc::Receiver<()>,
    notice: mpsc::Sender<()>,
}

struct Armed {
    folder: Identity,
    _watcher: RecommendedWatcher,
}

/// Device and inode: they distinguish files and folders of the same name.
type Identity = (u64, u64);

/// The state of the files: each watched file, or why they cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stamp {
    FileState(Vec<FileState>),
    Nothing(std::io::ErrorKind),
}

/// A file at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileState {
    path: PathBuf,
    /// `None` where the file cannot be read.
    state: Option<(Identity, u64, Option<SystemTime>)>,
}

impl Watch {
    /// Watches one file.
    pub(super) fn of_file(path: &Path) -> Self {
        let files = vec![path.to_owned()];
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self::new(folder.unwrap_or(Path::new(".")), move || Ok(files.clone()))
    }

    /// Watches `files` from now on. The system notifies of changes in `folder`; files elsewhere are compared
    /// periodically.
    pub(super) fn new(
        folder: &Path,
        files: impl Fn() -> std::io::Result<Vec<PathBuf>> + Send + 'static,
    ) -> Self {
        let (notice, notices) = mpsc::channel(1);
        let mut watch = Self {
            folder: folder.to_owned(),
            seen: Stamp::of(files()),
            files: Box::new(files),
            // Files that were read before may have changed since.
            is_due: true,
            armed: None,
            notifications: Component::default(),
            notices,
            notice,
        };
        watch.arm();
        watch
    }

    /// Returns once something has changed, and nothing changes any more. May return without a change; it loses none
    /// when it is dropped before it returns.
    pub(super) async fn changed(&mut self) {
        while !self.is_due {
            let noticed = tokio::select! {
                _ = self.notices.recv() => true,
                () = sleep(LOOK) => false,
            };
            self.arm();
            self.is_due = noticed || self.look() != self.seen;
        }
        self.rest().await;
        self.is_due = false;
    }

    /// Waits until nothing changes any more.
    async fn rest(&mut self) {
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            let found = self.look();
            let quiet = if found.is_likely() {
                QUIET
            } else {
                QUIET_IF_UNLIKELY
            };
            let until = (Instant::now() + quiet).min(latest);
            let noticed = tokio::select! {
                _ = self.notices.recv() => true,
                () = sleep_until(until) => false,
            };
            self.seen = self.look();
            let is_over = Instant::now() >= latest;
            if is_over || (!noticed && self.seen == found) {
                return;
            }
        }
    }

    fn look(&self) -> Stamp {
        Stamp::of((self.files)())
    }

    /// Subscribes to notifications of the folder that has the name now.
    fn arm(&mut self) {
        let now = std::fs::metadata(&self.folder).ok().map(|found| identity(&found));
        if self.armed.as_ref().map(|armed| armed.folder) == now && now.is_some() {
            return;
        }
        let was_armed = self.armed.take().is_some();
        let path = self.folder.display();
        let Some(identity) = now else {
            self.notifications.down("the folder does not exist", |_| {
                if was_armed {
                    tracing::warn!(%path, "does not exist any more; it is checked for every {LOOK:?}");
                }
            });
            return;
        };
        match self.watcher() {
            Ok(watcher) => {
                self.armed = Some(Armed {
                    folder: identity,
                    _watcher: watcher,
                });
                let mut is_new = was_armed;
                if was_armed {
                    tracing::info!(%path, "was replaced; the new one is watched");
                }
                self.notifications.up(|_| {
                    is_new = true;
                    if !was_armed {
                        tracing::info!(%path, "is watched now");
                    }
                });
                if is_new {
                    // Its files may be new.
                    let _ = self.notice.try_send(());
                }
            }
            Err(error) => self.notifications.down(error.to_string(), |error| {
                tracing::warn!(%path, %error, "cannot be watched; it is compared every {LOOK:?}");
            }),
        }
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let notice = self.notice.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may stand for any change. A full channel already holds a notice.
            if event.map_or(true, |event| !event.kind.is_access()) {
                let _ = notice.try_send(());
            }
        })?;
        watcher.watch(&self.folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

impl Stamp {
    fn of(files: std::io::Result<Vec<PathBuf>>) -> Self {
        match files {
            Ok(paths) => Self::FileState(paths.into_iter().map(FileState::of).collect()),
            Err(error) => Self::Nothing(error.kind()),
        }
    }

    /// Whether the files look complete: there are some, and none is empty or missing.
    fn is_likely(&self) -> bool {
        match self {
            Self::Nothing(_) => false,
            Self::FileState(files) => {
                let holds_something = |file: &FileState| file.state.is_some_and(|(_, size, _)| size > 0);
                !files.is_empty() && files.iter().all(holds_something)
            }
        }
    }
}

impl FileState {
    fn of(path: PathBuf) -> Self {
        let found = std::fs::metadata(&path);
        let state = found.map(|found| (identity(&found), found.len(), found.modified().ok()));
        Self {
            path,
            state: state.ok(),
        }
    }
}

fn identity(found: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (found.dev(), found.ino())
}
