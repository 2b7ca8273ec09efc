//! Community lookup: which community a slug or an id names, and whether the app has it.
//!
//! One bounded cache in front of the app's table, for the recorder and the visitors API alike. Random slugs and ids
//! must not become database load (I1): the form is checked first, results are cached for a short time (also "no such
//! community"), concurrent lookups of one community are one, and only a few run at the same time.
//!
//! The last id of a slug is kept for longer, for callers that prefer a stale id to waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::ids::CommunityId;
use crate::key_type::{AppKeys, KeyType};
use crate::routes::CommunityRef;
use crate::store::{Store, StoreError};

/// Longest id, in characters.
pub const MAX_LENGTH: usize = 64;
/// How many slugs and ids are remembered, there or not.
const CAPACITY: u64 = 20_000;
/// How long a found community is cached. A renamed community's old slug counts for this long.
const FOUND_TTL: Duration = Duration::from_secs(60);
/// How long a missing community is cached: a new one shows up within this time.
const MISSING_TTL: Duration = Duration::from_secs(5);
/// Lookups at the same time.
const MAX_LOOKUPS: usize = 8;

/// The app's communities.
pub struct Communities {
    store: Arc<dyn Store>,
    keys: AppKeys,
    known: Cache<CommunityRef, Option<CommunityId>>,
    /// The last id of each slug, however old.
    last: Cache<CommunityRef, CommunityId>,
    lookups: Semaphore,
    /// Limits lookups without a caller that waits.
    refreshes: Arc<Semaphore>,
}

/// The community that a page's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A community. One that is named by its key is taken to exist: the app answered with its page.
    Community(CommunityId),
    /// None, or a slug that no community has: the page is one of the site's.
    Nothing,
    /// Something that cannot be a community's key: the app has answered with something else than its page.
    NoKey,
}

impl From<Option<CommunityId>> for Named {
    fn from(found: Option<CommunityId>) -> Self {
        found.map_or(Self::Nothing, Self::Community)
    }
}

/// The app's table must be queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotCached;

impl Communities {
    /// An empty cache in front of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::remembering(store, FOUND_TTL)
    }

    /// The same with another [`FOUND_TTL`].
    fn remembering(store: Arc<dyn Store>, found: Duration) -> Self {
        let known = Cache::builder()
            .max_capacity(CAPACITY)
            .expire_after(ByOutcome { found })
            .build();
        Self {
            keys: store.keys(),
            store,
            known,
            last: Cache::new(CAPACITY),
            lookups: Semaphore::new(MAX_LOOKUPS),
            refreshes: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// The types of the app's keys.
    pub fn keys(&self) -> AppKeys {
        self.keys.clone()
    }

    /// The community that a page's path names.
    ///
    /// # Errors
    /// The database could not be queried. Nothing is cached then.
    pub async fn named(&self, named: &CommunityRef) -> Result<Named, Arc<StoreError>> {
        match named {
            CommunityRef::Id(spelling) => {
                let types = self.store.key_types().await?;
                Ok(by_key(types.community, spelling))
            }
            CommunityRef::Slug(_) => {
                let found = self.known.try_get_with_by_ref(named, self.look_up(named)).await?;
                Ok(found.into())
            }
        }
    }

    /// What [`Communities::named`] would return, as far as it is cached. Never waits for I/O.
    pub async fn cached(&self, named: Option<&CommunityRef>) -> Result<Named, NotCached> {
        match named {
            None => Ok(Named::Nothing),
            Some(CommunityRef::Id(spelling)) => {
                let types = self.keys.get().ok_or(NotCached)?;
                Ok(by_key(types.community, spelling))
            }
            Some(slug @ CommunityRef::Slug(_)) => {
                let found = self.known.get(slug).await.ok_or(NotCached)?;
                Ok(found.into())
            }
        }
    }

    /// The community that a page's path names, from the last known answer: it may have another slug by now. Never waits
    /// for I/O.
    pub async fn last_known(&self, named: &CommunityRef) -> Option<CommunityId> {
        match self.cached(Some(named)).await {
            Ok(Named::Community(found)) => Some(found),
            Ok(Named::Nothing | Named::NoKey) => None,
            Err(NotCached) => self.last.get(named).await,
        }
    }

    /// Looks a community up on `runtime`, where it is not cached, for later callers. Does not wait; skipped when too
    /// many such lookups run.
    pub async fn refresh(self: &Arc<Self>, named: &CommunityRef, runtime: &Handle) {
        if self.cached(Some(named)).await.is_ok() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.refreshes).try_acquire_owned() {
            let (communities, named) = (Arc::clone(self), named.clone());
            runtime.spawn(async move {
                let _permit = permit;
                // The store logs failures, and the next page tries again.
                let _ = communities.named(&named).await;
            });
        }
    }

    /// The community with this key, in its canonical form, which presence and statistics use. `None` when there is
    /// none.
    ///
    /// # Errors
    /// The table could not be queried. Nothing is cached then.
    pub async fn find(&self, asked: &str) -> Result<Option<CommunityId>, Arc<StoreError>> {
        if !is_well_formed(asked) {
            return Ok(None);
        }
        let types = self.store.key_types().await?;
        let Some(key) = types.community.canonical(asked) else {
            return Ok(None);
        };
        let asked = CommunityRef::Id((*key).into());
        self.known.try_get_with_by_ref(&asked, self.look_up(&asked)).await
    }

    async fn look_up(&self, asked: &CommunityRef) -> Result<Option<CommunityId>, StoreError> {
        // Never closed, so acquiring cannot fail.
        let _permit = self.lookups.acquire().await;
        match asked {
            CommunityRef::Slug(slug) => {
                let found = self.store.community_by_slug(slug).await?;
                match &found {
                    Some(id) => self.last.insert(asked.clone(), id.clone()).await,
                    None => self.last.invalidate(asked).await,
                }
                Ok(found)
            }
            CommunityRef::Id(key) => {
                let community = CommunityId::new(Arc::clone(key));
                let exists = self.store.community_exists(&community).await?;
                Ok(exists.then_some(community))
            }
        }
    }
}

/// Whether text can be an id at all. `.` and `..` cannot: put into the backend's path they would name
/// another one.
pub fn is_well_formed(asked: &str) -> bool {
    let length_is_fine = !asked.is_empty() && asked.chars().take(MAX_LENGTH + 1).count() <= MAX_LENGTH;
    length_is_fine && !matches!(asked, "." | "..") && !asked.chars().any(char::is_control)
}

fn by_key(key: KeyType, spelling: &str) -> Named {
    match key.canonical(spelling) {
        Some(key) => Named::Community(CommunityId::from(&*key)),
        None => Named::NoKey,
    }
}

/// Found and missing communities are cached for different times.
struct ByOutcome {
    found: Duration,
}

impl Expiry<CommunityRef, Option<CommunityId>> for ByOutcome {
    fn expire_after_create(
        &self,
        _asked: &CommunityRef,
        found: &Option<CommunityId>,
        _now: Instant,
    ) -> Option<Duration> {
        Some(if found.is_some() { self.found } else { MISSING_TTL })
    }
}

#[cfg(test)]
mod tests;
