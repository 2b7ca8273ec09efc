//! The spool folder: checks its permissions, creates spools, and adopts those whose process is gone.
//!
//! ```text
//! spool/                               mode 0700
//!   0193….spool  0193….spool-wal -shm  a spool: an SQLite database, mode 0600
//!   0193….tokens                       what its unresolved views need to be resolved
//!   0193….lock                         locked while its process lives
//!   0192….spool.set-aside              damaged, or of something else: for a person to look at
//! ```

use std::collections::HashSet;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use super::file::{self, EXTENSION, Files, Opened, UnusableFile};
use super::tokens::Tokens;
use super::{Spool, SpoolConnection, SpoolError, SpoolTotals};
use crate::batch::WriterId;
use crate::config;

/// A folder whose ownership and permissions were checked.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    fsync: bool,
    /// Spools that cannot be used, or not now: logged once.
    passed_over: Arc<Mutex<HashSet<WriterId>>>,
}

/// Why a folder cannot be used: what an operator must mend.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It could not be made.
    #[error(
        "spool.dir: {path} cannot be made ({error}); make it, for this user alone (mode 0700), or give another"
    )]
    Make {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may look into it: there are page views in it, and at times session tokens.
    #[error("spool.dir: {path} is open to others (mode {mode:04o}); run: chmod 700 {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no folder, or not writable.
    #[error(
        "spool.dir: {path} cannot be written to ({error}); make it a folder that belongs to this user, on a disk \
         that is not full, or give another"
    )]
    Write {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl Directory {
    /// Creates the folder where it is missing, and checks that it belongs to this user alone and that files can be
    /// created and locked in it.
    ///
    /// # Errors
    /// What the operator must mend.
    pub fn prepare(spool: &config::Spool) -> Result<Self, DirectoryError> {
        let path = spool.dir.clone();
        if !path.exists() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            // The mode does not depend on the process' umask.
            made.and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o700)))
                .map_err(|error| DirectoryError::Make {
                    path: path.clone(),
                    error,
                })?;
        }
        Self::check(&path)?;
        Ok(Self {
            path,
            fsync: spool.fsync,
            passed_over: Arc::default(),
        })
    }

    /// Checks a folder that may not be there yet: then it is made, and removed again.
    ///
    /// # Errors
    /// What the operator must mend.
    pub fn check(path: &Path) -> Result<(), DirectoryError> {
        let refused = |error| DirectoryError::Write {
            path: path.to_owned(),
            error,
        };
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::try_to_make(path),
            Err(error) => return Err(refused(error)),
        };
        if !metadata.is_dir() {
            return Err(refused(io::ErrorKind::NotADirectory.into()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(DirectoryError::Open {
                path: path.to_owned(),
                mode,
            });
        }
        let files = Files::of(path, WriterId::random());
        let tried = files.lock().map(drop);
        tried.and_then(|()| files.remove()).map_err(refused)
    }

    /// Makes a folder with those that it is in, and removes them.
    fn try_to_make(path: &Path) -> Result<(), DirectoryError> {
        let missing = || path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
        // From the inside out.
        let missing: Vec<_> = missing().take_while(|folder| !folder.exists()).collect();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        for folder in missing {
            // Not where something was put into it meanwhile, nor where it was not made.
            let _ = std::fs::remove_dir(folder);
        }
        made.map_err(|error| DirectoryError::Make {
            path: path.to_owned(),
            error,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates a spool.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn create(&self) -> Result<Arc<Spool>, SpoolError> {
        let id = WriterId::random();
        let files = Files::of(&self.path, id);
        // Locked before the database file exists, so that no other process adopts it.
        let Some(lock) = files.lock()? else {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        };
        let made = async {
            files.create()?;
            let connection = file::make(&files.database, self.fsync).await?;
            let tokens = Tokens::open(&files.tokens, self.fsync)?;
            Ok::<_, SpoolError>((connection, tokens))
        };
        match made.await {
            Ok((connection, tokens)) => {
                let link = SpoolConnection::Open(connection);
                let spool = Spool::new(id, files, Some(lock), link, tokens, self.fsync);
                Ok(Arc::new(Spool {
                    is_new: true,
                    next_place: AtomicI64::new(0),
                    ..spool
                }))
            }
            Err(error) => {
                let _ = files.remove();
                Err(error)
            }
        }
    }

    /// A placeholder for a spool that cannot be created now: it takes nothing and is never in place, so that the
    /// appender creates another as soon as that is possible.
    ///
    /// # Errors
    /// None that occurs: it opens what every system has.
    pub fn absent(&self) -> Result<Arc<Spool>, SpoolError> {
        let id = WriterId::random();
        let files = Files::of(&self.path, id);
        let tokens = Tokens::open(Path::new("/dev/null"), false)?;
        let spool = Spool::new(id, files, None, SpoolConnection::Closed, tokens, self.fsync);
        Ok(Arc::new(spool))
    }

    /// Adopts spools whose process is gone, except those in `held`, and at most `most`. A spool that cannot be
    /// used is set aside and logged.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn adopt(&self, held: &[WriterId], most: usize) -> Result<Vec<Arc<Spool>>, SpoolError> {
        let mut adopted = Vec::new();
        for id in self.spools()? {
            if adopted.len() >= most {
                break;
            }
            if held.contains(&id) {
                continue;
            }
            match self.adopt_one(id).await {
                Ok(Some(spool)) => {
                    let views = spool.waiting().views;
                    tracing::info!(spool = %id, views, "adopted a spool whose process is gone; those of its page views that the database has are not written again");
                    adopted.push(spool);
                }
                Ok(None) => {}
                Err(error) => {
                    if self.passes_over(id) {
                        let error = self.explain(&error);
                        tracing::warn!(spool = %id, error, "a spool cannot be adopted now; trying again");
                    }
                }
            }
        }
        Ok(adopted)
    }

    /// Notes that a spool is passed over; returns whether that is new.
    fn passes_over(&self, id: WriterId) -> bool {
        let mut passed_over = self.passed_over.lock().unwrap_or_else(PoisonError::into_inner);
        passed_over.insert(id)
    }

    /// The spools in the folder, oldest first, whoever owns them.
    pub(super) fn spools(&self) -> Result<Vec<WriterId>, SpoolError> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = PathBuf::from(entry?.file_name());
            if path.extension().is_some_and(|extension| extension == EXTENSION)
                && let Some(id) = path.file_stem().and_then(|stem| WriterId::parse(stem.to_str()?))
            {
                ids.push(id);
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// The database file of a spool.
    pub(super) fn database(&self, id: WriterId) -> PathBuf {
        Files::of(&self.path, id).database
    }

    async fn adopt_one(&self, id: WriterId) -> Result<Option<Arc<Spool>>, SpoolError> {
        let files = Files::of(&self.path, id);
        let Some(lock) = files.lock()? else {
            return Ok(None);
        };
        if !files.database.exists() {
            // Drained and removed by its owner a moment ago.
            return Ok(None);
        }
        if let Some(why) = file::check_header(&files.database)? {
            self.leave(id, &files, &why)?;
            return Ok(None);
        }
        match file::open(&files.database, self.fsync, true).await? {
            Opened::Spool(connection) => {
                let tokens = Tokens::open(&files.tokens, self.fsync)?;
                let link = SpoolConnection::Open(connection);
                let spool = Spool::new(id, files, Some(lock), link, tokens, self.fsync);
                spool.count_all().await?;
                spool.clear_tokens().await?;
                Ok(Some(Arc::new(spool)))
            }
            Opened::Nothing(connection) => {
                let _ = sqlx::Connection::close(connection).await;
                files.remove()?;
                Ok(None)
            }
            Opened::UnusableFile(why) => {
                self.leave(id, &files, &why)?;
                Ok(None)
            }
        }
    }

    /// Leaves an unusable file alone or sets it aside. One of a later version stays where that version looks for
    /// it.
    fn leave(&self, id: WriterId, files: &Files, why: &UnusableFile) -> io::Result<()> {
        let database = files.database.display();
        if let UnusableFile::Newer(_) = why {
            if self.passes_over(id) {
                tracing::error!("{database} is no spool that can be used: {why}");
            }
        } else {
            let name = files.set_aside()?;
            tracing::error!(
                "{database} is no spool that can be used: {why}; set aside as {}",
                name.display()
            );
        }
        Ok(())
    }
}

impl Spool {
    fn new(
        id: WriterId,
        files: Files,
        lock: Option<std::fs::File>,
        link: SpoolConnection,
        tokens: Tokens,
        fsync: bool,
    ) -> Self {
        Self {
            id,
            files,
            fsync,
            link: AsyncMutex::new(link),
            counted_at: AtomicI64::new(0),
            done: super::done::Done::default(),
            waiting: Mutex::new(SpoolTotals::default()),
            passed_over: super::passed_over::PassedOverRows::default(),
            offers_unresolved: AtomicBool::new(false),
            in_doubt: Mutex::default(),
            is_synced: AtomicBool::new(true),
            is_new: false,
            next_place: AtomicI64::new(0),
            fresh: super::fresh::FreshGroups::default(),
            requeues: AtomicU64::new(0),
            #[cfg(test)]
            hands_over_early: AtomicBool::new(false),
            #[cfg(test)]
            faults: Mutex::default(),
            tokens: AsyncMutex::new(tokens),
            _lock: lock,
        }
    }

    /// Whether its file is still where it was created: otherwise nothing would survive this process.
    pub fn is_in_place(&self) -> bool {
        self.files.database.exists()
    }

    /// Closes a spool whose file is damaged, in part or as a whole, and sets it aside.
    pub async fn set_aside(&self) -> Result<PathBuf, SpoolError> {
        self.disconnect().await;
        Ok(self.files.set_aside()?)
    }

    /// Closes a spool that is drained: moves its dead letters to `heir`, and removes the file; returns whether the
    /// file is gone. A file with damaged rows is set aside instead.
    pub async fn retire(&self, heir: &Self) -> Result<bool, SpoolError> {
        heir.move_letters_from(self).await?;
        if self.has_damage().await? {
            let name = self.set_aside().await?;
            tracing::error!(
                "some rows of a spool are damaged; set aside as {}",
                name.display()
            );
            return Ok(true);
        }
        self.remove().await
    }
}
