//! The keys of servers, replaced at runtime where they are in a file of their own: a request is compared with those that
//! were read last.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;

use super::watch::Watch;
use crate::config::{Api, ApiKey, PlacedKeys, check_communities, read_api_keys};
use crate::key_type::AppKeys;
use crate::status::Component;

/// Why the keys cannot be used, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ApiKeyFileError(String);

impl ApiKeyFileError {
    fn of_file(problem: &str) -> Self {
        Self(format!("api.key_file: {problem}"))
    }
}

type KeyObserver = Box<dyn Fn(&[Arc<ApiKey>]) + Send + Sync>;

struct KeysInUse {
    keys: Arc<Vec<Arc<ApiKey>>>,
    /// Where the `communities` of each stand in the file or the configuration.
    places: Vec<String>,
}

impl From<PlacedKeys> for KeysInUse {
    fn from(PlacedKeys { keys, places }: PlacedKeys) -> Self {
        Self {
            keys: Arc::new(keys.into_iter().map(Arc::new).collect()),
            places,
        }
    }
}

/// The keys of servers.
pub struct ApiKeyFile {
    /// `None` where they are in the configuration, and stay as they are.
    path: Option<PathBuf>,
    in_use: ArcSwap<KeysInUse>,
    /// The types of the app's keys, once there is a database.
    app_keys: OnceLock<AppKeys>,
    /// The types were not known yet when the communities were to be checked.
    is_unchecked: AtomicBool,
    /// Told of the keys when they have changed.
    observers: Mutex<Vec<KeyObserver>>,
    /// Down while the file is faulty, or a key in the configuration.
    pub(crate) file: Component,
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
        let keys = settings
            .keys()
            .map_err(|problem| ApiKeyFileError::of_file(&problem))?;
        Ok(Some(Arc::new(Self::of(settings.key_file.clone(), keys))))
    }

    fn of(path: Option<PathBuf>, keys: PlacedKeys) -> Self {
        Self {
            path,
            in_use: ArcSwap::from_pointee(keys.into()),
            app_keys: OnceLock::new(),
            is_unchecked: AtomicBool::new(false),
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
        let keys = read_api_keys(path, |named| self.no_community(named))
            .map_err(|problem| ApiKeyFileError::of_file(&problem))?;
        let read = KeysInUse::from(keys);
        let keys = Arc::clone(&read.keys);
        let is_new = self.in_use.load().keys != keys;
        // Where they stand may have changed.
        self.in_use.store(Arc::new(read));
        if is_new {
            let observers = self.observers.lock().unwrap_or_else(PoisonError::into_inner);
            for observer in &*observers {
                observer(&keys);
            }
        }
        Ok(is_new)
    }

    /// Checks the communities that keys name, now and whenever the file is read, against the types of the app's keys as far
    /// as they are known then.
    ///
    /// # Errors
    /// One of them is no community's key.
    pub fn check_against(&self, app_keys: AppKeys) -> Result<(), ApiKeyFileError> {
        // The first that was given stays: there is one database.
        let app_keys = self.app_keys.get_or_init(|| app_keys);
        self.is_unchecked
            .store(app_keys.get().is_none(), Ordering::Relaxed);
        self.check()
    }

    /// Checks the communities as soon as the types of the app's keys are known, where a check came too early: the keys are in
    /// use by then, and one that names no community is refused everywhere. The file is not read for that. `None` if there is
    /// nothing to check.
    pub fn check_at_last(&self) -> Option<Result<(), ApiKeyFileError>> {
        self.app_keys.get()?.get()?;
        let is_due = self.is_unchecked.swap(false, Ordering::Relaxed);
        is_due.then(|| self.check())
    }

    fn check(&self) -> Result<(), ApiKeyFileError> {
        let in_use = self.in_use.load();
        for (index, key) in in_use.keys.iter().enumerate() {
            let key = std::slice::from_ref(&**key);
            let fault = |named: &str| self.no_community(named);
            check_communities(key, "key", fault).map_err(|(_, problem)| {
                let place = in_use.places.get(index).map_or("", |place| place);
                let problem = |table: &str| format!("{place}: {table}[{index}].communities: {problem}");
                match &self.path {
                    Some(_) => ApiKeyFileError::of_file(&problem("key")),
                    None => ApiKeyFileError(problem("api.key")),
                }
            })?;
        }
        Ok(())
    }

    fn no_community(&self, named: &str) -> Option<String> {
        self.app_keys.get()?.no_community(named)
    }

    /// The keys in use.
    pub fn current(&self) -> Arc<Vec<Arc<ApiKey>>> {
        Arc::clone(&self.in_use.load().keys)
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
