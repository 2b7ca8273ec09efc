//! Columns and tables that a sidecar cannot write: it leaves the lease to others, and reports nothing as done.

use std::sync::Arc;
use std::time::Duration;

use headcount::config::Config;
use headcount::ids::CommunityId;
use headcount::routes::CountedTypes;
use headcount::store::{self, CounterStore};
use uuid::Uuid;

use crate::store_site::{Site, Variant, as_role};

const TTL: Duration = Duration::from_secs(3_600);

async fn site(variant: Variant) -> Site {
    let site = Site::unmigrated_with(variant, |config| config.counters.enabled = true).await;
    store::migrate(&site.config, false).await.expect("migrated");
    site
}

fn open(config: &Config) -> Arc<dyn CounterStore> {
    store::open_counters(config, CountedTypes::without_routes(&config.record)).expect("a store")
}

/// The first neither takes it nor leaves a trace of it: the other has it at once. Both are disconnected.
async fn leaves_the_lease(store: Arc<dyn CounterStore>, other: Arc<dyn CounterStore>) {
    let error = store
        .take_lease(Uuid::new_v4(), TTL)
        .await
        .expect_err("it is not taken");
    assert!(error.chain().contains("headcount check says why"), "{error:?}");
    assert!(!other.is_lease_held().await.expect("an answer"));
    let taken = other.take_lease(Uuid::new_v4(), TTL).await.expect("an answer");
    assert!(taken.is_some());
    for store in [store, other] {
        store.disconnect().await;
    }
}

#[tokio::test]
async fn k20_who_cannot_write_the_columns_takes_no_lease_and_reports_no_success() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = site(variant).await;
        let community: CommunityId = site.community("gardening").await;
        let store = open(&site.config);
        let holder = Uuid::new_v4();
        assert!(store.take_lease(holder, TTL).await.expect("an answer").is_some());
        store.disconnect().await;

        site.execute("ALTER TABLE communities_community DROP COLUMN page_views")
            .await;
        let store = open(&site.config);
        // Also where it has the lease: it does not renew it, and what it does fails.
        for taken in [holder, Uuid::new_v4()] {
            let taken = store.take_lease(taken, TTL).await;
            assert!(taken.is_err(), "{variant:?}: {taken:?}");
        }
        let published = store.publish(holder, &[(community.clone(), Some(1))]).await;
        assert!(published.is_err(), "{variant:?}: {published:?}");
        let compared = store.compare(&community).await;
        assert!(compared.is_err(), "{variant:?}: {compared:?}");
        let compared = store.compare_present(&community).await;
        assert!(compared.is_err(), "{variant:?}: {compared:?}");

        store.release_lease(holder).await.expect("an answer");
        let mut without = site.config.clone();
        without.counters.page_views = String::new();
        leaves_the_lease(store, open(&without)).await;
    }
}

#[tokio::test]
async fn k20_a_role_that_lacks_a_right_on_the_tables_of_counters_takes_no_lease() {
    let site = site(Variant::PostgresDefault).await;
    let role = format!("sidecar_{}", Uuid::new_v4().simple());
    site.execute(&format!("CREATE ROLE {role} LOGIN")).await;
    let grants = store::grants(&site.config, &role).await.expect("the rights");
    site.execute(&grants).await;
    site.execute(&format!("REVOKE INSERT ON headcount.counter_visitor FROM {role}"))
        .await;
    leaves_the_lease(open(&as_role(&site.config, &role)), open(&site.config)).await;
}
