//! The keys of servers, replaced at runtime where they are in a file of their own: a request is compared with those that
//! were read last.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::watch::Watch;
use crate::config::{Api, ApiKey, read_api_keys};
use crate::status::Component;

/// Why the keys cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("api.key_file: {0}")]
pub struct ApiKeyFileError(String);

type KeyObserver = Box<dyn Fn(&[Arc<ApiKey>]) + Send + Sync>;

/// The keys of servers.
pub struct ApiKeyFile {
    /// `None` where they are in the configuration, and stay as they are.
    path: Option<PathBuf>,
    current: ArcSwap<Vec<Arc<ApiKey>>>,
    /// Told of the keys when they have changed.
    observers: Mutex<Vec<KeyObserver>>,
    /// Down while the file is faulty.
    pub(super) file: Component,
}

impl ApiKeyFile {
    /// Reads the keys; `None` where servers have none.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(settings: &Api) -> Result<Option<Arc<Self>>, ApiKeyFileError> {
        if !settings.enabled || !settings.takes_keys() {
            return Ok(None);
        }
        let keys = settings.keys().map_err(ApiKeyFileError)?;
        Ok(Some(Arc::new(Self::of(settings.key_file.clone(), keys))))
    }

    fn of(path: Option<PathBuf>, keys: Vec<ApiKey>) -> Self {
        Self {
            path,
            current: ArcSwap::from_pointee(shared(keys)),
            observers: Mutex::default(),
            file: Component::default(),
        }
    }

    /// Reads the file again; on error the keys in use stay. Returns whether they differ from before.
    ///
    /// # Errors
    /// As [`ApiKeyFile::read`].
    pub fn read_again(&self) -> Result<bool, ApiKeyFileError> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        let keys = shared(read_api_keys(path).map_err(ApiKeyFileError)?);
        let is_new = **self.current.load() != keys;
        if is_new {
            self.current.store(Arc::new(keys));
            let keys = self.current();
            let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
            for observer in &*observers {
                observer(&keys);
            }
        }
        Ok(is_new)
    }

    /// The keys in use.
    pub fn current(&self) -> Arc<Vec<Arc<ApiKey>>> {
        self.current.load_full()
    }

    /// Tells of the keys now, and after each change of them.
    pub fn observe(&self, observer: impl Fn(&[Arc<ApiKey>]) + Send + Sync + 'static) {
        let mut observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observer(&self.current());
        observers.push(Box::new(observer));
    }

    /// The file, for messages; `None` where there is none.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Watches the file, where there is one.
    pub(super) fn watch(&self) -> Option<Watch> {
        self.path.as_deref().map(Watch::of_file)
    }
}

impl fmt::Debug for ApiKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn shared(keys: Vec<ApiKey>) -> Vec<Arc<ApiKey>> {
    keys.into_iter().map(Arc::new).collect()
}
