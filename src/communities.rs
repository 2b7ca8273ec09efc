//! Communities as paths name them, to primary keys: slugs through the app's table, cached, with negatives.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::ids::CommunityId;
use crate::routes::CommunityRef;
use crate::store::{Store, StoreError};

/// How long a slug's meaning is used. A renamed community's old slug may count for this long.
const LIFETIME: Duration = Duration::from_secs(60);
/// Upper bound of remembered slugs, found or not.
const CAPACITY: u64 = 10_000;

/// Answers which community a path names.
pub struct Communities {
    by_slug: Cache<Arc<str>, Option<CommunityId>>,
    store: Arc<dyn Store>,
}

impl Communities {
    /// An empty cache in front of `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let by_slug = Cache::builder()
            .max_capacity(CAPACITY)
            .time_to_live(LIFETIME)
            .build();
        Self { by_slug, store }
    }

    /// The id of the community named; `None` when no community has that slug. Concurrent calls for one slug
    /// share one lookup.
    ///
    /// # Errors
    /// The table could not be asked. Nothing is remembered then.
    pub async fn resolve(&self, named: &CommunityRef) -> Result<Option<CommunityId>, Arc<StoreError>> {
        match named {
            CommunityRef::Id(id) => Ok(Some(id.clone())),
            CommunityRef::Slug(slug) => {
                let look_up = self.store.community_by_slug(slug);
                self.by_slug.try_get_with(slug.clone(), look_up).await
            }
        }
    }
}
