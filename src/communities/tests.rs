//! What is remembered of slugs, and for how long.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::store::fake::Fake;

/// Knows one slug, as long as it has an id.
#[derive(Default)]
struct Slugs(Mutex<Option<CommunityId>>);

#[async_trait]
impl Fake for Slugs {
    async fn community_by_slug(&self, _: &str) -> Result<Option<CommunityId>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }
}

fn rust() -> CommunityRef {
    CommunityRef::Slug("rust".into())
}

/// In front of a store in which `rust` has this id; forgets at once what it found.
fn forgetting(id: Option<&str>) -> (Arc<Slugs>, Arc<Communities>) {
    let store = Arc::new(Slugs(Mutex::new(id.map(CommunityId::from))));
    let communities = Communities::remembering(store.clone(), Duration::ZERO);
    (store, Arc::new(communities))
}

#[tokio::test]
async fn the_last_id_of_a_slug_outlives_what_is_surely_known() {
    let (store, communities) = forgetting(Some("42"));
    assert_eq!(communities.last_known(&rust()).await, None);
    let found = communities.named(&rust()).await.unwrap();
    assert_eq!(found, Some("42".into()));
    assert_eq!(communities.cached(Some(&rust())).await, Err(NotCached));
    assert_eq!(communities.last_known(&rust()).await, Some("42".into()));
    // The community was renamed, and the slug is another's now; then nobody's.
    for id in [Some("43"), None] {
        *store.0.lock().unwrap() = id.map(CommunityId::from);
        communities.named(&rust()).await.unwrap();
        assert_eq!(communities.last_known(&rust()).await, id.map(CommunityId::from));
    }
}

#[tokio::test]
async fn a_slug_is_found_out_for_the_next_and_few_are_at_a_time() {
    let (_store, communities) = forgetting(Some("42"));
    let taken = communities.refreshes.clone().acquire_many_owned(8).await.unwrap();
    communities.refresh(&rust(), &Handle::current()).await;
    // It has not even begun: this waits for every lookup there is.
    drop(taken);
    let all = communities.refreshes.acquire_many(8).await.unwrap();
    assert_eq!(communities.last_known(&rust()).await, None);
    drop(all);
    communities.refresh(&rust(), &Handle::current()).await;
    let _all = communities.refreshes.acquire_many(8).await.unwrap();
    assert_eq!(communities.last_known(&rust()).await, Some("42".into()));
}
