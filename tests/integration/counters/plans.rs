//! What the new statements read: the index that `headcount migrate` makes, never the whole event table.

use std::time::Duration;

use headcount::ids::CommunityId;
use headcount::routes::CountedTypes;
use headcount::store;
use uuid::Uuid;

use crate::store_site::{SessionRow, Site, Variant, at, batch, page_view};

/// The statements themselves run, and the server says how it read the table.
#[tokio::test]
async fn k9_no_statement_of_counters_scans_the_event_table() {
    let site = Site::unmigrated_with(Variant::PostgresDefault, |config| config.counters.enabled = true).await;
    site.execute(
        "INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 500) AS n;
         INSERT INTO communities_community (slug, name)
             SELECT 'community-' || n, 'A name' FROM generate_series(1, 250) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT 1 + n % 500, 'page_view', 'Page view: /x',
                    jsonb_build_object('community_id', (1 + n % 250)::text, 'source', 'headcount', 'url', '/x'),
                    'Firefox', '{}', '{}', timestamptz '2024-03-01' + n * interval '10 seconds'
             FROM generate_series(0, 59999) AS n",
    )
    .await;
    store::migrate(&site.config, false).await.expect("migrated");
    site.execute("ANALYZE").await;
    let before = site.sequential_scans("accounts_userevent").await;

    let counters = store::open_counters(&site.config, CountedTypes::without_routes(&site.config.record))
        .expect("a store");
    let holder = Uuid::new_v4();
    let community = CommunityId::from("42");
    counters
        .take_lease(holder, Duration::from_secs(3_600))
        .await
        .expect("the lease");
    let counted = counters.recount(&community).await.expect("counted");
    assert_eq!((counted.page_views, counted.total_visitors), (240, 2));
    let alice = site.member("alice").await;
    let session = site.session(&alice, "token", SessionRow::default()).await;
    let views = vec![page_view("2024-03-10T00:00:00Z")];
    site.store
        .apply(&batch(&session, &community, views))
        .await
        .expect("applied");
    assert_eq!(
        counters
            .fold(holder)
            .await
            .expect("added")
            .map(|folded| folded.rows),
        Some(1)
    );
    assert!(
        counters
            .compare(&community)
            .await
            .expect("compared")
            .kept
            .is_some()
    );
    counters.uncounted(&[], 10).await.expect("an answer");
    let unchecked = counters.unchecked(None, at("2024-01-01T00:00:00Z"), 10).await;
    assert_eq!(unchecked.expect("an answer").0.len(), 10);
    let wishes = [(community.clone(), Some(1))];
    let published = counters.publish(holder, &wishes).await.expect("written");
    assert_eq!(published.map(|published| published.written), Some(1));
    counters.forget_absent().await.expect("forgotten");
    assert!(counters.compare(&community).await.expect("compared").agrees());
    counters.disconnect().await;
    site.store.close().await;
    assert_eq!(site.sequential_scans("accounts_userevent").await, before);
    let lookups = "SELECT (idx_scan > 0)::text FROM pg_stat_user_tables WHERE relname = 'accounts_userevent'";
    assert_eq!(site.text(lookups).await, "true");
}
