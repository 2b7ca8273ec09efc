//! Which community the caller means, and whether the app has it.
//!
//! Random ids must not become database load: the form is checked first, what was found out is remembered
//! for a moment (also "no such community"), the memory is bounded, concurrent lookups of one id are one, and
//! only a few run at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::ids::CommunityId;
use crate::store::Store;

use super::problem::Problem;

/// Longest id, in characters.
const MAX_LENGTH: usize = 64;
/// How many ids are remembered, there or not.
const CAPACITY: u64 = 10_000;
/// How long a community is taken to be still there.
const FOUND_TTL: Duration = Duration::from_secs(60);
/// How long a missing community is taken to be still missing: a new one shows up within this time.
const MISSING_TTL: Duration = Duration::from_secs(5);
/// Lookups at the same time.
const MAX_LOOKUPS: usize = 8;

/// The app's communities, by id.
pub(super) struct Communities {
    store: Arc<dyn Store>,
    known: Cache<String, Option<CommunityId>>,
    permits: Semaphore,
}

impl Communities {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            known: Cache::builder()
                .max_capacity(CAPACITY)
                .expire_after(ByOutcome)
                .build(),
            permits: Semaphore::new(MAX_LOOKUPS),
        }
    }

    /// The community with this id, under the id that the app's table has for it: presence and statistics
    /// are kept under that one. `None` when there is none.
    pub(super) async fn find(&self, asked: &str) -> Result<Option<CommunityId>, Problem> {
        if !is_well_formed(asked) {
            return Ok(None);
        }
        self.known
            .try_get_with_by_ref(asked, self.look_up(asked))
            .await
            .map_err(Arc::unwrap_or_clone)
    }

    async fn look_up(&self, asked: &str) -> Result<Option<CommunityId>, Problem> {
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(Problem::Unavailable);
        };
        for candidate in candidates(asked) {
            let exists = self.store.community_exists(&candidate).await;
            if exists.map_err(|error| Problem::from_store(&error))? {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}

/// Whether text can be an id at all. `.` and `..` cannot: put into the backend's path they would name
/// another one.
pub(super) fn is_well_formed(asked: &str) -> bool {
    let length_is_fine = !asked.is_empty() && asked.chars().take(MAX_LENGTH + 1).count() <= MAX_LENGTH;
    length_is_fine && !matches!(asked, "." | "..") && !asked.chars().any(char::is_control)
}

/// The ids that text may stand for. An integer or uuid column finds its row by any spelling (`042`, upper
/// case), but the row has one id; a text column is taken at its word, which is why the spelling asked for
/// comes second.
pub(super) fn candidates(asked: &str) -> impl Iterator<Item = CommunityId> {
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
struct ByOutcome;

impl Expiry<String, Option<CommunityId>> for ByOutcome {
    fn expire_after_create(
        &self,
        _asked: &String,
        found: &Option<CommunityId>,
        _now: Instant,
    ) -> Option<Duration> {
        Some(if found.is_some() { FOUND_TTL } else { MISSING_TTL })
    }
}
