//! Counters in the columns of the app's table: used as they are, and put right where something else writes or deletes.

use std::sync::Arc;

use headcount::config::CommunityKey;
use headcount::ids::CommunityId;
use headcount::routes::CountedTypes;
use headcount::store::{self, CounterStore, Published};
use uuid::Uuid;

use super::{Counting, TTL};
use crate::store_contract::{in_community, viewed};
use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view, stored_key};
use crate::support::examined;

contract! {
    k5_what_the_app_deletes_or_writes_is_found_and_put_right,
    k5_columns_that_the_app_overwrites_are_put_right,
    k6_a_deleted_community_is_no_error,
    k11_current_visitors_that_somebody_else_wrote_is_written_again_once_it_is_known,
    k8_columns_of_the_app_are_used_as_they_are,
}

async fn k5_what_the_app_deletes_or_writes_is_found_and_put_right(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let alice = counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"; 4])
        .await;
    counting.views("bob", &gardening, &["2024-03-01T12:00:00Z"]).await;
    counting.round().await;
    counting.agree(&gardening, (2, 5)).await;
    let unchecked = async |since: &str| {
        let (communities, last) = counting.counters.unchecked(None, at(since), 10).await.unwrap();
        assert_eq!(last.as_ref(), Some(&gardening));
        communities
    };
    assert_eq!(unchecked("2024-01-01T00:00:00Z").await, []);
    assert_eq!(
        unchecked("2999-01-01T00:00:00Z").await,
        std::slice::from_ref(&gardening)
    );

    let names = &site.config.schema.event;
    site.execute(&format!(
        r#"DELETE FROM {} WHERE "{}" = '{}'"#,
        site.table(&names.table),
        names.columns.user_id,
        stored_key(alice.as_str())
    ))
    .await;
    let comparison = counting.counters.compare(&gardening).await.unwrap();
    assert!(!comparison.agrees());
    assert_eq!(comparison.drift(), 5);
    counting.counters.recount(&gardening).await.unwrap();
    counting.round().await;
    counting.agree(&gardening, (1, 1)).await;

    // Who was deleted and comes again is a visitor once more.
    site.app_event(
        &alice,
        "page_view",
        &in_community(&gardening),
        "2024-03-04T00:00:00Z",
    )
    .await;
    assert_eq!(counting.counters.compare(&gardening).await.unwrap().drift(), 2);
    counting.counters.recount(&gardening).await.unwrap();
    counting.round().await;
    counting.agree(&gardening, (2, 2)).await;
}

async fn k5_columns_that_the_app_overwrites_are_put_right(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    counting.round().await;
    let overwrite = format!(
        "UPDATE {} SET page_views = 0, total_visitors = 0",
        site.table(&site.config.schema.community.table)
    );
    site.execute(&overwrite).await;
    let comparison = counting.counters.compare(&gardening).await.unwrap();
    assert!(!comparison.agrees() && comparison.drift() == 0, "{comparison:?}");
    counting.counters.recount(&gardening).await.unwrap();
    assert_eq!(counting.round().await.written, 1);
    counting.agree(&gardening, (1, 1)).await;

    // The next view does so, too: counts are written, not added.
    site.execute(&overwrite).await;
    counting.views("bob", &gardening, &["2024-03-01T12:00:00Z"]).await;
    counting.round().await;
    counting.agree(&gardening, (2, 2)).await;
}

async fn k11_current_visitors_that_somebody_else_wrote_is_written_again_once_it_is_known(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, counters) = (&counting.site, &counting.counters);
    let gardening = site.community("gardening").await;
    let here = [(gardening.clone(), Some(2))];
    counters.publish(counting.holder, &here).await.unwrap();
    let found = async || counters.compare_present(&gardening).await.unwrap().unwrap();
    assert!(found().await.shows(2) && !found().await.is_overwritten());

    let overwrite = async || {
        let table = site.table(&site.config.schema.community.table);
        site.execute(&format!("UPDATE {table} SET current_visitors = 7"))
            .await;
    };
    overwrite().await;
    let overwritten = found().await;
    assert!(
        overwritten.is_overwritten() && (overwritten.shown, overwritten.noted) == (Some(7), 2),
        "{overwritten:?}"
    );
    let pending = async || counters.pending(None, 10).await.unwrap();
    let only_gardening = std::slice::from_ref(&gardening);
    let publish = async |counters: &Arc<dyn CounterStore>, there| {
        let one = [(gardening.clone(), there)];
        counters.publish(counting.holder, &one).await.unwrap().unwrap()
    };
    assert!(counters.note_pending(&gardening).await.unwrap());
    assert!(
        !counters.note_pending(&gardening).await.unwrap(),
        "it was noted before"
    );
    // Where who is there is not known it waits for that, and what was written last stays known. Other columns do not wait.
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    counters.recount(&gardening).await.unwrap();
    for written in [1, 0] {
        let published = publish(counters, None).await;
        assert_eq!((published.written, published.unknown), (written, 1));
        assert_eq!(pending().await, only_gardening);
        assert_eq!(found().await, overwritten);
    }
    let published = publish(counters, Some(2)).await;
    assert_eq!((published.written, published.unknown), (1, 0));
    assert_eq!(
        (counting.shown(&gardening).await[0], pending().await),
        (2, vec![])
    );
    assert!(!found().await.is_overwritten());
    // What is not overwritten waits for nobody.
    counters.note_pending(&gardening).await.unwrap();
    assert_eq!(publish(counters, None).await, Published::default());
    assert_eq!(pending().await, []);
    let behind = async |key: &str| {
        counters.note_pending(&gardening).await.unwrap();
        counters.pending(Some(&CommunityId::from(key)), 10).await.unwrap()
    };
    assert_eq!(behind(" ").await, only_gardening);
    assert_eq!(behind(gardening.as_str()).await, []);

    // Where nobody keeps presence the column is the app's.
    overwrite().await;
    counters.note_pending(&gardening).await.unwrap();
    assert_eq!(
        publish(&counting.without_presence(), None).await,
        Published::default()
    );
    assert_eq!(
        (counting.shown(&gardening).await[0], pending().await),
        (7, vec![])
    );

    // One that was never written.
    let cooking = site.community("cooking").await;
    let never = counters.compare_present(&cooking).await.unwrap().unwrap();
    assert!(never.shows(0) && !never.is_overwritten(), "{never:?}");
    assert_eq!(
        counters
            .compare_present(&CommunityId::from("no-key"))
            .await
            .unwrap(),
        None
    );
    assert!(counters.is_lease_held().await.unwrap());
    counters.release_lease(counting.holder).await.unwrap();
    assert!(!counters.is_lease_held().await.unwrap());
}

async fn k6_a_deleted_community_is_no_error(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let cooking = site.community("cooking").await;
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    counting.views("bob", &cooking, &["2024-03-01T11:00:00Z"]).await;
    let here = [(gardening.clone(), Some(3))];
    counting.counters.publish(counting.holder, &here).await.unwrap();
    let names = &site.config.schema.community;
    site.execute(&format!(
        r#"DELETE FROM {} WHERE "{}" = '{}'"#,
        site.table(&names.table),
        names.columns.id,
        stored_key(gardening.as_str())
    ))
    .await;
    assert_eq!(
        counting.round().await,
        Published {
            written: 1,
            ..Published::default()
        }
    );
    let absent = [
        (gardening.clone(), Some(1)),
        (CommunityId::from("no key at all"), Some(1)),
    ];
    let published = counting.counters.publish(counting.holder, &absent).await;
    assert_eq!(published.unwrap(), Some(Published::default()));
    assert_eq!(counting.counters.pending(None, 10).await.unwrap(), []);
    assert_eq!(counting.counters.shown_present(10).await.unwrap(), []);
    // More rows than one transaction deletes.
    let visitors = if variant.is_postgres() {
        "headcount.counter_visitor"
    } else {
        "headcount_counter_visitor"
    };
    let many = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
         INSERT INTO {visitors} (community, user_id) SELECT '{gardening}', 'user-' || CAST(i AS text) FROM n"
    );
    site.execute(&many).await;
    assert_eq!(counting.counters.forget_absent().await.unwrap(), 1);
    let left = format!("SELECT CAST(count(*) AS text) FROM {visitors}");
    assert_eq!(site.text(&left).await, "1");
    assert_eq!(counting.counters.forget_absent().await.unwrap(), 0);
    let found = counting.counters.find(gardening.as_str(), CommunityKey::Id).await;
    assert_eq!(found.unwrap(), None);
    counting.agree(&cooking, (1, 1)).await;
}

/// Of any integer type, with a default or nullable; counts beyond the type are its greatest number.
async fn k8_columns_of_the_app_are_used_as_they_are(variant: Variant) {
    let site = Site::unmigrated_with(variant, |config| {
        config.counters.enabled = true;
        config.counters.page_views = "views".into();
        config.counters.total_visitors = String::new();
        config.counters.updated_at = String::new();
        config.counters.current_visitors = "here".into();
    })
    .await;
    let table = site.table(&site.config.schema.community.table);
    site.execute(&format!("ALTER TABLE {table} ADD COLUMN views smallint"))
        .await;
    site.execute(&format!("ALTER TABLE {table} ADD COLUMN here integer"))
        .await;
    let steps = store::migrate(&site.config, false).await.unwrap();
    assert!(
        steps.iter().all(|step| !step.title.contains("for counts")),
        "{steps:?}"
    );
    assert_eq!(examined::tables(&site.config).await.unwrap(), []);
    let gardening = site.community("gardening").await;
    let counters =
        store::open_counters(&site.config, CountedTypes::without_routes(&site.config.record)).unwrap();
    let holder = Uuid::new_v4();
    counters.take_lease(holder, TTL).await.unwrap();
    let alice = site.member("alice").await;
    viewed(&site, &alice, &gardening, "2024-03-04T00:00:00Z").await;
    counters.recount(&gardening).await.unwrap();
    // No number is none, as was written last.
    let unknown = [(gardening.clone(), None)];
    let published = counters.publish(holder, &unknown).await.unwrap().unwrap();
    assert_eq!((published.written, published.unknown), (1, 0));
    let wish = [(gardening.clone(), Some(i64::MAX))];
    let published = counters.publish(holder, &wish).await.unwrap().unwrap();
    assert_eq!(published.written, 1);
    // More than the column holds is in it as that.
    counters.note_pending(&gardening).await.unwrap();
    let published = counters.publish(holder, &unknown).await.unwrap().unwrap();
    assert_eq!(published, Published::default());
    let sql = format!("SELECT CAST(views AS TEXT) || ' ' || CAST(here AS TEXT) FROM {table}");
    // SQLite has one type of integers.
    let greatest = if variant.is_postgres() {
        i64::from(i32::MAX)
    } else {
        i64::MAX
    };
    assert_eq!(site.text(&sql).await, format!("1 {greatest}"));
    assert!(counters.compare(&gardening).await.unwrap().agrees());

    if variant.is_postgres() {
        let session = site.session(&alice, "another-token", SessionRow::default()).await;
        let views = vec![page_view("2024-03-05T00:00:00Z"); 33_000];
        site.store
            .apply(&batch(&session, &gardening, views))
            .await
            .unwrap();
        while counters.fold(holder).await.unwrap().unwrap().rows > 0 {}
        counters.publish(holder, &unknown).await.unwrap().unwrap();
        assert_eq!(site.text(&sql).await, format!("{} {greatest}", i16::MAX));
        let comparison = counters.compare(&gardening).await.unwrap();
        assert!(comparison.agrees(), "{comparison:?}");
    }
}
