//! The file with the keys of JWTs, replaced at runtime: a verification uses the keys that were read last.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::watch::Watch;
use crate::config::{Jwt, JwtKeys, KeyFingerprint};
use crate::status::Component;

/// Why the keys cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("session.jwt: {0}")]
pub struct KeyFileError(String);

/// The keys of JWTs.
#[derive(Debug)]
pub struct KeyFile {
    settings: Jwt,
    path: PathBuf,
    current: ArcSwap<NumberedKeys>,
    /// Down while the file is faulty.
    pub(super) file: Component,
}

/// Keys, with the number of the reading that differed from the one before.
#[derive(Debug)]
struct NumberedKeys {
    number: u64,
    keys: Arc<JwtKeys>,
}

impl KeyFile {
    /// Reads the configured file; `None` where JWTs are not read.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(settings: &Jwt) -> Result<Option<Arc<Self>>, KeyFileError> {
        let Some(path) = settings.file().filter(|_| settings.is_on()) else {
            return Ok(None);
        };
        let keys = JwtKeys::read(settings).map_err(KeyFileError)?;
        Ok(Some(Arc::new(Self {
            settings: settings.clone(),
            path: path.clone(),
            current: ArcSwap::from_pointee(NumberedKeys {
                number: 0,
                keys: Arc::new(keys),
            }),
            file: Component::default(),
        })))
    }

    /// Reads the file again; on error the keys in use stay. Returns whether they differ from before.
    ///
    /// # Errors
    /// As [`KeyFile::read`].
    pub fn read_again(&self) -> Result<bool, KeyFileError> {
        let keys = JwtKeys::read(&self.settings).map_err(KeyFileError)?;
        let before = self.current.load();
        let is_new = !before.keys.is_same(&keys);
        if is_new {
            self.current.store(Arc::new(NumberedKeys {
                number: before.number + 1,
                keys: Arc::new(keys),
            }));
        }
        Ok(is_new)
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in use, with a number that changes when they do.
    pub fn current(&self) -> (u64, Arc<JwtKeys>) {
        let current = self.current.load();
        (current.number, Arc::clone(&current.keys))
    }

    /// Whether a key is in use.
    pub fn holds(&self, key: KeyFingerprint) -> bool {
        self.current.load().keys.holds(key)
    }

    /// Watches the file.
    pub(super) fn watch(&self) -> Watch {
        Watch::of_file(&self.path)
    }
}
