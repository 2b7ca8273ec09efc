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
    async fn community_by_key(&self, key: &CommunityId) -> Result<Option<CommunityId>, StoreError> {
        Ok(self.id.lock().unwrap().clone().filter(|id| id == key))
    }

    async fn community_by_lookup(&self, lookup: &str, key: &str) -> Result<Option<CommunityId>, StoreError> {
        self.asked.lock().unwrap().push(format!("{lookup} {key}"));
        Ok(self.id.lock().unwrap().clone())
    }

    async fn community_slug(&self, community: &CommunityId) -> Result<Option<String>, StoreError> {
        self.asked.lock().unwrap().push(format!("slug of {community}"));
        let id = self.id.lock().unwrap();
        Ok(id.as_ref().map(|_| format!("slug-{community}")))
    }

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
    assert_eq!(communities.last_known(&rust), None);
    let found = communities.named(&rust).await.unwrap();
    assert_eq!(found, PageCommunity::Community("42".into()));
    assert_eq!(communities.cached(Some(&rust)), Err(NotCached));
    assert_eq!(communities.last_known(&rust), Some("42".into()));
    // The community was renamed, and another one has the slug now; then none has it.
    for id in [Some("43"), None] {
        *store.id.lock().unwrap() = id.map(CommunityId::from);
        communities.named(&rust).await.unwrap();
        assert_eq!(communities.last_known(&rust), id.map(CommunityId::from));
    }
}

#[tokio::test]
async fn a_slug_is_found_out_for_the_next_and_few_are_at_a_time() {
    let (store, communities) = forgetting("42");
    let all = u32::try_from(MAX_LOOKUPS).unwrap();
    let taken = communities.refreshes.clone().acquire_many_owned(all).await;
    communities.refresh(&slug("rust"), CommunityKey::Id, &Handle::current());
    drop(taken);
    communities.refresh(&slug("django"), CommunityKey::Id, &Handle::current());
    // Lookups under way have ended by then.
    let _all = communities.refreshes.acquire_many(all).await.unwrap();
    assert_eq!(*store.asked.lock().unwrap(), ["django"]);
    assert_eq!(communities.last_known(&slug("django")), Some("42".into()));
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
    assert_eq!(communities.cached(Some(&padded)), Err(NotCached));
    assert!(communities.named(&padded).await.is_err());
    assert_eq!(communities.last_known(&padded), None);
    for (community, named) in [
        (KeyType::BIGINT, PageCommunity::Community("7".into())),
        (KeyType::Text(None), PageCommunity::Community("007".into())),
        (KeyType::Uuid, PageCommunity::NoKey),
    ] {
        keys.learn(KeyTypes {
            community,
            user: KeyType::BIGINT,
        });
        assert_eq!(communities.cached(Some(&padded)), Ok(named.clone()));
        assert_eq!(communities.named(&padded).await.unwrap(), named);
    }
}

#[tokio::test]
async fn v23_callers_name_a_community_by_what_the_configuration_says() {
    let store = Arc::new(Slugs {
        id: Mutex::new(Some("42".into())),
        asked: Mutex::default(),
    });
    let communities = Communities::new(store.clone());
    let find = async |asked: &str, key| communities.find(asked, key).await.unwrap();
    let by_id = Some(AskedCommunity::from(CommunityId::from("42")));
    let by_slug = |slug: &str| {
        let (id, slug) = ("42".into(), Some(slug.into()));
        Some(AskedCommunity { id, slug })
    };
    assert_eq!(find("042", CommunityKey::Id).await, by_id);
    assert_eq!(find("rust", CommunityKey::Id).await, None);
    assert_eq!(find("rust", CommunityKey::Slug).await, by_slug("rust"));
    assert_eq!(
        find("42", CommunityKey::Slug).await,
        by_slug("42"),
        "a slug of digits"
    );
    // What is a community's id is that one; what only looks like an id may be a slug.
    assert_eq!(find("42", CommunityKey::Either).await, by_id);
    assert_eq!(find("43", CommunityKey::Either).await, by_slug("43"));
    assert_eq!(find("rust", CommunityKey::Either).await, by_slug("rust"));
    let long = "x".repeat(256);
    for impossible in ["", ".", "..", "a\u{7}b", &long] {
        for key in [CommunityKey::Id, CommunityKey::Slug, CommunityKey::Either] {
            assert_eq!(find(impossible, key).await, None, "{impossible:?}");
        }
    }
    assert_eq!(find(&long[1..], CommunityKey::Slug).await, by_slug(&long[1..]));
}

#[tokio::test]
async fn v25_the_community_of_a_topic_is_asked_for_once_like_that_of_a_slug() {
    let store = Arc::new(Slugs {
        id: Mutex::new(Some("42".into())),
        asked: Mutex::default(),
    });
    let communities = Communities::new(store.clone());
    let topic = CommunityRef::Lookup("topic".into(), "7".into());
    assert_eq!(communities.cached(Some(&topic)), Err(NotCached));
    for _ in 0..3 {
        let named = communities.named(&topic).await.unwrap();
        assert_eq!(named, PageCommunity::Community("42".into()));
    }
    *store.id.lock().unwrap() = None;
    let unknown = CommunityRef::Lookup("topic".into(), "8".into());
    for _ in 0..3 {
        assert_eq!(communities.named(&unknown).await.unwrap(), PageCommunity::Nothing);
    }
    assert_eq!(*store.asked.lock().unwrap(), ["topic 7", "topic 8"]);
    assert_eq!(communities.last_known(&topic), Some("42".into()));
}

/// A page of a topic, where callers name communities by slugs.
#[tokio::test]
async fn v24_a_page_says_a_key_that_its_script_may_ask_for() {
    let (_, communities) = forgetting("42");
    let topic = CommunityRef::Lookup("topic".into(), "7".into());
    let key = |named: &CommunityRef, key| communities.last_known_key(named, key);
    assert_eq!(key(&slug("rust"), CommunityKey::Slug).as_deref(), Some("rust"));
    assert_eq!(key(&topic, CommunityKey::Slug), None, "not known yet");
    communities.named(&topic).await.unwrap();
    assert_eq!(key(&topic, CommunityKey::Id).as_deref(), Some("42"));
    assert_eq!(key(&topic, CommunityKey::Either).as_deref(), Some("42"));
    let communities = Arc::new(Communities::new(communities.store.clone()));
    communities.refresh(&topic, CommunityKey::Slug, &Handle::current());
    let all = u32::try_from(MAX_LOOKUPS).unwrap();
    let _ended = communities.refreshes.acquire_many(all).await.unwrap();
    let known = communities.last_known_key(&topic, CommunityKey::Slug);
    assert_eq!(known.as_deref(), Some("slug-42"));
}

/// A page of a topic long after the community's slug was looked up: both names are in the page, and the slug is asked for again.
#[tokio::test]
async fn v23_the_last_slug_of_a_community_outlives_what_is_surely_known() {
    let (store, communities) = forgetting("42");
    let topic = CommunityRef::Lookup("topic".into(), "7".into());
    let refresh = async |key| {
        communities.refresh(&topic, key, &Handle::current());
        let all = u32::try_from(MAX_LOOKUPS).unwrap();
        drop(communities.refreshes.acquire_many(all).await.unwrap());
        std::mem::take(&mut *store.asked.lock().unwrap())
    };
    let slug = || communities.last_known_slug(&topic, CommunityKey::Either);
    let both = ["topic 7", "slug of 42"];
    for _ in 0..2 {
        assert_eq!(
            refresh(CommunityKey::Either).await,
            both,
            "it is not cached any more"
        );
        assert!(
            communities
                .slugs
                .known(&as_name(&CommunityId::from("42")))
                .is_none()
        );
        assert_eq!(slug().as_deref(), Some("slug-42"));
        let key = communities.last_known_key(&topic, CommunityKey::Slug);
        assert_eq!(key.as_deref(), Some("slug-42"));
    }
    // It has none any more.
    *store.id.lock().unwrap() = None;
    assert_eq!(communities.slug_of(&"42".into()).await.unwrap(), None);
    assert_eq!(slug(), None);
}
