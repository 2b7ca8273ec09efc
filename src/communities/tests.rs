//! Tests of the community cache: how long slugs are kept.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::key_type::KeyTypes;
use crate::store::fake::Fake;

/// A table in which every slug has the same id, or none.
struct Slugs {
    id: Mutex<Option<CommunityId>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Fake for Slugs {
    async fn community_by_slug(&self, slug: &str) -> Result<Option<CommunityId>, StoreError> {
        self.asked.lock().unwrap().push(slug.into());
        Ok(self.id.lock().unwrap().clone())
    }
}

fn slug(slug: &str) -> CommunityRef {
    CommunityRef::Slug(slug.into())
}

/// Communities over a table in which slugs have this id; found ones are evicted at once.
fn forgetting(id: &str) -> (Arc<Slugs>, Arc<Communities>) {
    let store = Arc::new(Slugs {
        id: Mutex::new(Some(id.into())),
        asked: Mutex::default(),
    });
    let communities = Communities::remembering(store.clone(), Duration::ZERO);
    (store, Arc::new(communities))
}

#[tokio::test]
async fn the_last_id_of_a_slug_outlives_what_is_surely_known() {
    let (store, communities) = forgetting("42");
    let rust = slug("rust");
    assert_eq!(communities.last_known(&rust).await, None);
    let found = communities.named(&rust).await.unwrap();
    assert_eq!(found, Named::Community("42".into()));
    assert_eq!(communities.cached(Some(&rust)).await, Err(NotCached));
    assert_eq!(communities.last_known(&rust).await, Some("42".into()));
    // The community was renamed, and another one has the slug now; then none has it.
    for id in [Some("43"), None] {
        *store.id.lock().unwrap() = id.map(CommunityId::from);
        communities.named(&rust).await.unwrap();
        assert_eq!(communities.last_known(&rust).await, id.map(CommunityId::from));
    }
}

#[tokio::test]
async fn a_slug_is_found_out_for_the_next_and_few_are_at_a_time() {
    let (store, communities) = forgetting("42");
    let all = u32::try_from(MAX_LOOKUPS).unwrap();
    let taken = communities.refreshes.clone().acquire_many_owned(all).await;
    communities.refresh(&slug("rust"), &Handle::current()).await;
    drop(taken);
    communities.refresh(&slug("django"), &Handle::current()).await;
    // Lookups under way have ended by then.
    let _all = communities.refreshes.acquire_many(all).await.unwrap();
    assert_eq!(*store.asked.lock().unwrap(), ["django"]);
    assert_eq!(communities.last_known(&slug("django")).await, Some("42".into()));
}

/// A store that answers nothing, and knows only the types of the app's keys that the test sets.
struct Away(AppKeys);

#[async_trait]
impl Fake for Away {
    fn known_keys(&self) -> AppKeys {
        self.0.clone()
    }
}

#[tokio::test]
async fn v20_what_a_key_stands_for_is_known_once_its_type_is() {
    let keys = AppKeys::default();
    let communities = Communities::new(Arc::new(Away(keys.clone())));
    let padded = CommunityRef::Id("007".into());
    assert_eq!(communities.cached(Some(&padded)).await, Err(NotCached));
    assert!(communities.named(&padded).await.is_err());
    assert_eq!(communities.last_known(&padded).await, None);
    for (community, named) in [
        (KeyType::BIGINT, Named::Community("7".into())),
        (KeyType::Text(None), Named::Community("007".into())),
        (KeyType::Uuid, Named::NoKey),
    ] {
        keys.learn(KeyTypes {
            community,
            user: KeyType::BIGINT,
        });
        assert_eq!(communities.cached(Some(&padded)).await, Ok(named.clone()));
        assert_eq!(communities.named(&padded).await.unwrap(), named);
    }
}
