//! Which community is meant, by slug or by id, and whether the app has it.
//!
//! One bounded cache in front of the app's table, for the recorder and the visitors API alike. Random slugs
//! and ids must not become database load (I1): the form is checked first, what was found out is remembered
//! for a moment (also "no such community"), concurrent lookups of one are one, and only a few run at the
//! same time.
//!
//! The last id of a slug is remembered for longer, for those who cannot wait and whom an old one does not hurt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::ids::CommunityId;
use crate::routes::CommunityRef;
use crate::store::{Store, StoreError};

/// Longest id, in characters.
pub const MAX_LENGTH: usize = 64;
/// How many slugs and ids are remembered, there or not.
const CAPACITY: u64 = 20_000;
/// How long a community is taken to be still there. A renamed community's old slug counts for this long.
const FOUND_TTL: Duration = Duration::from_secs(60);
/// How long a missing community is taken to be still missing: a new one shows up within this time.
const MISSING_TTL: Duration = Duration::from_secs(5);
/// Lookups at the same time.
const MAX_LOOKUPS: usize = 8;

/// The app's communities.
pub struct Communities {
    store: Arc<dyn Store>,
    known: Cache<CommunityRef, Option<CommunityId>>,
    /// The last id of each slug, however long ago that was found out.
    last: Cache<CommunityRef, CommunityId>,
    lookups: Semaphore,
    /// Lookups that nobody waits for.
    refreshes: Arc<Semaphore>,
}

/// The app's table must be asked.
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
            store,
            known,
            last: Cache::new(CAPACITY),
            lookups: Semaphore::new(MAX_LOOKUPS),
            refreshes: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// The community that a page's path names; `None` when no community has that slug. An id is taken at its
    /// word: the app answered with that community's page.
    ///
    /// # Errors
    /// The table could not be asked. Nothing is remembered then.
    pub async fn named(&self, named: &CommunityRef) -> Result<Option<CommunityId>, Arc<StoreError>> {
        match named {
            CommunityRef::Id(id) => Ok(Some(id.clone())),
            CommunityRef::Slug(_) => self.known.try_get_with_by_ref(named, self.look_up(named)).await,
        }
    }

    /// What [`Communities::named`] would say, as far as it is known without asking anybody. Never waits for
    /// I/O.
    pub async fn cached(&self, named: Option<&CommunityRef>) -> Result<Option<CommunityId>, NotCached> {
        match named {
            None => Ok(None),
            Some(CommunityRef::Id(id)) => Ok(Some(id.clone())),
            Some(slug @ CommunityRef::Slug(_)) => self.known.get(slug).await.ok_or(NotCached),
        }
    }

    /// The community that a page's path names, as far as it was ever known: it may have another slug by now.
    /// Never waits for I/O.
    pub async fn last_known(&self, named: &CommunityRef) -> Option<CommunityId> {
        match self.cached(Some(named)).await {
            Ok(found) => found,
            Err(NotCached) => self.last.get(named).await,
        }
    }

    /// Finds out on `runtime`, where that is not known, which community has this slug: for the next to ask. Nobody
    /// waits; where many are being found out, this one is not.
    pub async fn refresh(self: &Arc<Self>, named: &CommunityRef, runtime: &Handle) {
        if self.cached(Some(named)).await.is_ok() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.refreshes).try_acquire_owned() {
            let (communities, named) = (Arc::clone(self), named.clone());
            runtime.spawn(async move {
                let _permit = permit;
                // The store logs what it cannot do, and the next page asks again.
                let _ = communities.named(&named).await;
            });
        }
    }

    /// The community with this id, under the id that the app's table has for it: presence and statistics
    /// are kept under that one. `None` when there is none.
    ///
    /// # Errors
    /// The table could not be asked. Nothing is remembered then.
    pub async fn find(&self, asked: &str) -> Result<Option<CommunityId>, Arc<StoreError>> {
        if !is_well_formed(asked) {
            return Ok(None);
        }
        let asked = CommunityRef::Id(asked.into());
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
            CommunityRef::Id(id) => {
                for candidate in candidates(id.as_str()) {
                    if self.store.community_exists(&candidate).await? {
                        return Ok(Some(candidate));
                    }
                }
                Ok(None)
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

/// The ids that text may stand for. An integer or uuid column finds its row by any spelling (`042`, upper
/// case), but the row has one id; a text column is taken at its word, which is why the spelling asked for
/// comes second.
pub fn candidates(asked: &str) -> impl Iterator<Item = CommunityId> {
    let canonical = if asked.bytes().all(|byte| byte.is_ascii_digit()) {
        asked.parse::<i64>().ok().map(|key| key.to_string())
    } else {
        Uuid::try_parse(asked).ok().map(|key| key.to_string())
    };
    let other = canonical.filter(|canonical| canonical != asked);
    other
        .map(CommunityId::new)
        .into_iter()
        .chain([CommunityId::from(asked)])
}

/// Found and missing are remembered for different times.
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
