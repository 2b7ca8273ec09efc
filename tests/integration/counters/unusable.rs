//! Columns and tables that a sidecar cannot write: it leaves the lease to others, and reports nothing as done.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use headcount::batch::Batch;
use headcount::config::Config;
use headcount::ids::CommunityId;
use headcount::routes::CountedTypes;
use headcount::store::{self, CounterStore};
use uuid::Uuid;

use crate::store_site::{SessionRow, Site, Variant, as_role, batch, page_view};

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

/// Takes the table away into which a batch puts what it adds, or gives it back.
async fn has_deltas(site: &Site, variant: Variant, is_there: bool) {
    let (schema, delta) = match variant {
        Variant::SqliteDefault => ("", "headcount_counter_delta"),
        _ => ("headcount.", "counter_delta"),
    };
    let (from, to) = if is_there {
        ("kept", delta)
    } else {
        (delta, "kept")
    };
    site.execute(&format!("ALTER TABLE {schema}{from} RENAME TO {to}"))
        .await;
}

/// Writes a view that the counters lack, as a process that ends then.
async fn writes_without_deltas(site: &Site, variant: Variant, views: &Batch) {
    has_deltas(site, variant, false).await;
    let store = store::open(&site.config).expect("a store");
    assert_eq!(store.apply(views).await.expect("it is written").views, 1);
    store.close().await;
    has_deltas(site, variant, true).await;
}

fn moment(at: &str) -> DateTime<Utc> {
    at.parse().expect("a moment")
}

/// By processes that end: what they leave is in the database.
#[tokio::test]
async fn k23_views_that_the_counters_lack_are_known_to_whoever_counts_next() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = site(variant).await;
        let alice = site.member("alice").await;
        let session = site.session(&alice, "alice", SessionRow::default()).await;
        let gardening = site.community("gardening").await;
        let baking = site.community("baking").await;
        let writes = async |at: &str| {
            let views = batch(&session, &gardening, vec![page_view(at)]);
            writes_without_deltas(&site, variant, &views).await;
        };

        let counters = open(&site.config);
        assert_eq!(counters.omission().await.expect("an answer"), None, "{variant:?}");
        for at in [
            "2024-03-01T10:00:00Z",
            "2024-02-01T10:00:00Z",
            "2024-04-01T10:00:00Z",
        ] {
            writes(at).await;
        }
        let omission = counters.omission().await.expect("an answer");
        let omission = omission.expect("views were written");
        assert_eq!(omission.since, moment("2024-02-01T10:00:00Z"), "{variant:?}");
        for (community, since, has) in [
            (&gardening, omission.since, true),
            (&gardening, moment("2024-04-01T10:00:00Z"), true),
            (&gardening, moment("2024-04-01T10:00:01Z"), false),
            (&baking, omission.since, false),
        ] {
            let found = counters.has_views(community, since).await.expect("an answer");
            assert_eq!(found, has, "{variant:?}: {community:?} {since}");
        }
        // What comes while they are compared is not forgotten with them.
        writes("2024-05-01T10:00:00Z").await;
        counters.forget_omission(omission).await.expect("an answer");
        let next = counters.omission().await.expect("an answer").expect("one more");
        assert_eq!(next.since, moment("2024-05-01T10:00:00Z"), "{variant:?}");
        // Of somebody who took it and went no further, nothing is lost.
        let again = counters.omission().await.expect("an answer").expect("the same");
        assert_eq!(again.since, next.since, "{variant:?}");
        counters.forget_omission(again).await.expect("an answer");
        assert_eq!(counters.omission().await.expect("an answer"), None, "{variant:?}");
        // With the table there is nothing to be noted.
        let store = store::open(&site.config).expect("a store");
        let views = batch(&session, &gardening, vec![page_view("2024-06-01T10:00:00Z")]);
        store.apply(&views).await.expect("it is written");
        assert_eq!(counters.omission().await.expect("an answer"), None, "{variant:?}");
        store.close().await;
        counters.disconnect().await;
    }
}

/// For longer than the ledger keeps its rows, nobody could compare.
#[tokio::test]
async fn k23_that_the_counters_lack_views_is_known_until_they_are_compared_however_long_that_takes() {
    for variant in [Variant::PostgresDefault, Variant::SqliteDefault] {
        let site = site(variant).await;
        let alice = site.member("alice").await;
        let session = site.session(&alice, "alice", SessionRow::default()).await;
        let gardening = site.community("gardening").await;
        for at in [
            "2024-03-01T10:00:00Z",
            "2024-02-01T10:00:00Z",
            "2024-04-01T10:00:00Z",
        ] {
            let views = batch(&session, &gardening, vec![page_view(at)]);
            writes_without_deltas(&site, variant, &views).await;
        }
        let age = match variant {
            Variant::SqliteDefault => {
                "UPDATE headcount_applied_batch SET applied_at = applied_at - 40 * 86400"
            }
            _ => "UPDATE headcount.applied_batch SET applied_at = applied_at - interval '40 days'",
        };
        site.execute(age).await;
        // Three parts, and the notes that the one with the oldest view stands for.
        let forgotten = site.store.forget_old_parts(Utc::now()).await;
        assert_eq!(forgotten.expect("an answer"), 5, "{variant:?}");
        let counters = open(&site.config);
        let omission = counters.omission().await.expect("an answer").expect("a note");
        assert_eq!(omission.since, moment("2024-02-01T10:00:00Z"), "{variant:?}");
        counters.forget_omission(omission).await.expect("an answer");
        assert_eq!(counters.omission().await.expect("an answer"), None, "{variant:?}");
        counters.disconnect().await;
    }
}
