//! Community lookup: which community a slug or an id names, and whether the app has it.
//!
//! One bounded cache in front of the app's table, for the recorder and the visitors API alike. Random slugs and ids
//! must not become database load (I1): the form is checked first, results are cached for a short time (also "no such
//! community"), concurrent lookups of one community are one, and only a few run at the same time.
//!
//! Where the app's table takes several spellings of a key as equal, keys are looked up like slugs.
//!
//! The last id of a slug and the last slug of an id are kept for longer, for callers that prefer a stale one to waiting.

mod asked;

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::CommunityKey;
use crate::ids::CommunityId;
use crate::key_type::{AppKeys, KeyType};
use crate::routes::CommunityRef;
use crate::shared_results::SharedResults;
use crate::store::{Store, StoreError};

pub use asked::{AskedCommunity, is_well_formed};

/// Longest id, in characters.
pub const MAX_LENGTH: usize = 64;
/// Longest slug, in characters.
const MAX_SLUG_LENGTH: usize = 255;
/// How many slugs and ids are remembered, there or not.
const CAPACITY: usize = 20_000;
/// How long a found community is cached. A renamed community's old slug counts for this long.
const FOUND_TTL: Duration = Duration::from_secs(60);
/// How long a missing community is cached: a new one shows up within this time.
const MISSING_TTL: Duration = Duration::from_secs(5);
/// Lookups at the same time.
const MAX_LOOKUPS: usize = 8;

/// What a name of a community stands for, or that it stands for nothing. One type for ids and slugs: there is as much code
/// again for each type of cache.
type CommunityNames = SharedResults<CommunityRef, Option<Arc<str>>, Arc<StoreError>>;
/// What a name stood for when that was looked up last; it does not end.
type LastNames = Cache<CommunityRef, Arc<str>>;

/// The app's communities.
pub struct Communities {
    store: Arc<dyn Store>,
    keys: AppKeys,
    /// The ids that names stand for.
    known: CommunityNames,
    /// The last id of each slug, and of each key that was looked up, however old.
    last: LastNames,
    /// The slugs of communities, by their ids.
    slugs: CommunityNames,
    /// The last slug of each community, however old.
    last_slugs: LastNames,
    lookups: Semaphore,
    /// Limits lookups without a caller that waits.
    refreshes: Arc<Semaphore>,
}

/// The community that a page's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageCommunity {
    /// A community. One that is named by its key is taken to exist: the app answered with its page.
    Community(CommunityId),
    /// None, or a slug that no community has: the page is one of the site's.
    Nothing,
    /// Something that cannot be a community's key: the app has answered with something else than its page.
    NoKey,
}

impl From<Option<CommunityId>> for PageCommunity {
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
        let names = || {
            CommunityNames::with_ttl_of(
                CAPACITY,
                move |name| {
                    if name.is_some() { found } else { MISSING_TTL }
                },
            )
        };
        Self {
            slugs: names(),
            keys: store.keys(),
            store,
            known: names(),
            last: Cache::new(CAPACITY),
            last_slugs: Cache::new(CAPACITY),
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
    pub async fn named(&self, named: &CommunityRef) -> Result<PageCommunity, Arc<StoreError>> {
        match named {
            CommunityRef::Id(spelling) => {
                let types = self.store.key_types().await?;
                if !must_be_asked(types.community, spelling) {
                    return Ok(by_key(types.community, spelling));
                }
                Ok(as_found(self.looked_up(named).await?, spelling))
            }
            CommunityRef::Slug(_) | CommunityRef::Lookup(..) => Ok(self.looked_up(named).await?.into()),
        }
    }

    /// What the table says, or said a moment ago.
    async fn looked_up(&self, named: &CommunityRef) -> Result<Option<CommunityId>, Arc<StoreError>> {
        let found = self.known.get(named, self.look_up(named)).await?;
        Ok(found.map(CommunityId::new))
    }

    /// What [`Communities::named`] would return, as far as it is cached. Never waits for I/O.
    pub fn cached(&self, named: Option<&CommunityRef>) -> Result<PageCommunity, NotCached> {
        match named {
            None => Ok(PageCommunity::Nothing),
            Some(asked @ CommunityRef::Id(spelling)) => {
                let types = self.keys.get().ok_or(NotCached)?;
                if !must_be_asked(types.community, spelling) {
                    return Ok(by_key(types.community, spelling));
                }
                let found = self.known.known(asked).ok_or(NotCached)?;
                Ok(as_found(found.map(CommunityId::new), spelling))
            }
            Some(named) => {
                let found = self.known.known(named).ok_or(NotCached)?;
                Ok(found.map(CommunityId::new).into())
            }
        }
    }

    /// The community that a page's path names, from the last known answer: it may have another slug by now. Never waits
    /// for I/O.
    pub fn last_known(&self, named: &CommunityRef) -> Option<CommunityId> {
        match self.cached(Some(named)) {
            Ok(PageCommunity::Community(found)) => Some(found),
            Ok(PageCommunity::Nothing | PageCommunity::NoKey) => None,
            Err(NotCached) => self.last_id(named),
        }
    }

    fn last_id(&self, named: &CommunityRef) -> Option<CommunityId> {
        self.last.get(named).map(CommunityId::new)
    }

    /// Looks a community up on `runtime`, where it is not cached, and its slug where callers may name it so, for later
    /// callers. Does not wait; skipped when too many such lookups run.
    pub fn refresh(self: &Arc<Self>, named: &CommunityRef, key: CommunityKey, runtime: &Handle) {
        let needs_slug = key != CommunityKey::Id && !matches!(named, CommunityRef::Slug(_));
        match self.cached(Some(named)) {
            Ok(PageCommunity::Community(id)) if needs_slug && self.slugs.known(&as_name(&id)).is_none() => {}
            Ok(_) => return,
            Err(NotCached) => {}
        }
        if let Ok(permit) = Arc::clone(&self.refreshes).try_acquire_owned() {
            let (communities, named) = (Arc::clone(self), named.clone());
            runtime.spawn(async move {
                let _permit = permit;
                // The store logs failures, and the next page tries again.
                let found = communities.named(&named).await;
                if let (Ok(PageCommunity::Community(id)), true) = (found, needs_slug) {
                    let _ = communities.slug_of(&id).await;
                }
            });
        }
    }

    /// The community with this key, in its canonical form, which presence and statistics use. `None` when there is
    /// none.
    ///
    /// # Errors
    /// The table could not be queried. Nothing is cached then.
    async fn by_id(&self, asked: &str) -> Result<Option<CommunityId>, Arc<StoreError>> {
        if !is_well_formed(asked, CommunityKey::Id) {
            return Ok(None);
        }
        let types = self.store.key_types().await?;
        let Some(key) = types.community.canonical(asked) else {
            return Ok(None);
        };
        self.looked_up(&CommunityRef::Id((*key).into())).await
    }

    /// The slug of a community; `None` where it has none, or there is no such community.
    ///
    /// # Errors
    /// The table could not be queried. Nothing is cached then.
    pub async fn slug_of(&self, community: &CommunityId) -> Result<Option<Arc<str>>, Arc<StoreError>> {
        let look_up = async {
            // Never closed, so acquiring cannot fail.
            let _permit = self.lookups.acquire().await;
            let slug = self.store.community_slug(community).await?.map(Arc::from);
            keep_last(&self.last_slugs, &as_name(community), slug.as_ref());
            Ok(slug)
        };
        self.slugs.get(&as_name(community), look_up).await
    }

    /// The slug of a community as it was when it was looked up last, which may be long ago.
    fn last_slug(&self, community: &CommunityId) -> Option<Arc<str>> {
        self.last_slugs.get(&as_name(community))
    }

    /// What a page's script asks the API for its community by, from the last known answers. Never waits for I/O.
    pub fn last_known_key(&self, named: &CommunityRef, key: CommunityKey) -> Option<Arc<str>> {
        if let (CommunityRef::Slug(slug), CommunityKey::Slug) = (named, key) {
            return Some(Arc::clone(slug));
        }
        let id = self.last_known(named)?;
        match key {
            CommunityKey::Slug => self.last_slug(&id),
            CommunityKey::Id | CommunityKey::Either => Some(id.as_str().into()),
        }
    }

    /// The other name that a page may have for its community, where callers use both: its slug, from the last known answers.
    /// Never waits for I/O.
    pub fn last_known_slug(&self, named: &CommunityRef, key: CommunityKey) -> Option<Arc<str>> {
        match (named, key) {
            (_, CommunityKey::Id | CommunityKey::Slug) => None,
            (CommunityRef::Slug(slug), CommunityKey::Either) => Some(Arc::clone(slug)),
            (_, CommunityKey::Either) => {
                let id = self.last_known(named)?;
                self.last_slug(&id)
            }
        }
    }

    async fn look_up(&self, asked: &CommunityRef) -> Result<Option<Arc<str>>, Arc<StoreError>> {
        // Never closed, so acquiring cannot fail.
        let _permit = self.lookups.acquire().await;
        let found = match asked {
            CommunityRef::Slug(slug) => self.store.community_by_slug(slug).await?,
            CommunityRef::Lookup(table, key) => self.store.community_by_lookup(table, key).await?,
            CommunityRef::Id(key) => {
                let key = CommunityId::new(Arc::clone(key));
                self.store.community_by_key(&key).await?
            }
        };
        let found = found.map(|id| Arc::from(id.as_str()));
        keep_last(&self.last, asked, found.as_ref());
        Ok(found)
    }
}

/// Keeps the last answer that found something.
fn keep_last(last: &LastNames, asked: &CommunityRef, found: Option<&Arc<str>>) {
    match found {
        Some(found) => last.insert(asked.clone(), Arc::clone(found)),
        None => drop(last.remove(asked)),
    }
}

/// A community, named by its id in its one form.
fn as_name(community: &CommunityId) -> CommunityRef {
    CommunityRef::Id(community.as_str().into())
}

fn by_key(key: KeyType, spelling: &str) -> PageCommunity {
    match key.canonical(spelling) {
        Some(key) => PageCommunity::Community(CommunityId::from(&*key)),
        None => PageCommunity::NoKey,
    }
}

/// Whether only the table knows which key a spelling stands for.
fn must_be_asked(key: KeyType, spelling: &str) -> bool {
    matches!(key, KeyType::LooseText(_))
        && key.canonical(spelling).is_some()
        && is_well_formed(spelling, CommunityKey::Id)
}

/// The spelling of the row; without a row, which may be there soon, that of the path.
fn as_found(found: Option<CommunityId>, spelling: &Arc<str>) -> PageCommunity {
    PageCommunity::Community(found.unwrap_or_else(|| CommunityId::new(Arc::clone(spelling))))
}

#[cfg(test)]
mod tests;
