//! Callers who wait for another sidecar's answer: bounded for each user, and for each part of the store that fails by
//! itself, so that neither one client nor one slow server of Redis has the others told at once that nothing is known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::known::GrantKey;
use crate::ids::UserId;
use crate::presence::failure_domain::FailureDomains;

/// Callers who wait at a time; further ones are told what is known. Half of them, for one failure domain of several.
const MOST: usize = 512;
/// The same for each user: more than the six connections that a browser opens to a site.
const MOST_PER_USER: usize = 8;

/// The places of those who wait. Cheap to clone.
#[derive(Clone)]
pub(super) struct Waiting(Arc<Places>);

struct Places {
    domains: Option<FailureDomains>,
    all: Arc<Semaphore>,
    by_domain: Vec<Arc<Semaphore>>,
    by_user: Mutex<HashMap<UserId, usize>>,
}

/// A place, until it is dropped.
pub(super) struct WaitingPlace {
    places: Arc<Places>,
    user: UserId,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Waiting {
    /// With the failure domains of the store, where it has any.
    pub(super) fn new(domains: Option<FailureDomains>) -> Self {
        let number = domains.as_ref().map_or(1, |domains| domains.all().len());
        let most = if number == 1 { MOST } else { MOST / 2 };
        Self(Arc::new(Places {
            domains,
            all: Arc::new(Semaphore::new(MOST)),
            by_domain: (0..number).map(|_| Arc::new(Semaphore::new(most))).collect(),
            by_user: Mutex::default(),
        }))
    }

    /// A place for a caller, if there is one.
    pub(super) fn enter(&self, (scope, user): &GrantKey) -> Option<WaitingPlace> {
        let places = &self.0;
        let domain = places
            .domains
            .as_ref()
            .map_or(0, |domains| domains.index_of(scope));
        let of_domain = Arc::clone(places.by_domain.get(domain)?)
            .try_acquire_owned()
            .ok()?;
        let of_all = Arc::clone(&places.all).try_acquire_owned().ok()?;
        let mut by_user = places.by_user();
        let number = by_user.entry(user.clone()).or_default();
        if *number >= MOST_PER_USER {
            return None;
        }
        *number += 1;
        drop(by_user);
        Some(WaitingPlace {
            places: Arc::clone(places),
            user: user.clone(),
            _permits: (of_domain, of_all),
        })
    }
}

impl Places {
    fn by_user(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        let mut by_user = self.places.by_user();
        if let Some(number) = by_user.get_mut(&self.user) {
            *number -= 1;
            if *number == 0 {
                by_user.remove(&self.user);
            }
        }
    }
}
