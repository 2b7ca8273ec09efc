//! Counters of communities: as the statistics over all time, kept by one holder of the lease.

mod columns;

use std::sync::Arc;
use std::time::Duration;

use headcount::config::{CommunityKey, PageViews};
use headcount::ids::{CommunityId, UserId};
use headcount::routes::CountedTypes;
use headcount::store::{self, CounterStore, Published, Totals};
use uuid::Uuid;

use super::viewed;
use crate::store_site::{SessionRow, Site, Variant, another, at, batch, page_view, stored_key};

contract! {
    k1_a_batch_counts_as_in_the_statistics_and_once,
    k1_a_view_that_comes_late_counts_as_in_the_statistics,
    k1_all_of_the_apps_own_views_count_where_so_configured,
    k1_only_the_counted_event_types_count,
    k1_an_event_without_a_user_is_a_page_view_of_no_visitor,
    k2_one_holder_writes_and_another_takes_over,
    k4_nothing_is_written_where_nothing_has_changed,
    k13_a_community_is_found_by_its_key_in_any_spelling_or_by_its_slug,
}

/// Longer than any test.
const TTL: Duration = Duration::from_secs(3_600);

/// A site with counters, and the holder of the lease.
struct Counting {
    site: Site,
    counters: Arc<dyn CounterStore>,
    holder: Uuid,
}

impl Counting {
    async fn new(variant: Variant) -> Self {
        Self::with(variant, PageViews::Ours).await
    }

    async fn with(variant: Variant, page_views: PageViews) -> Self {
        let configure = |config: &mut headcount::config::Config| {
            config.counters.enabled = true;
            config.api.page_views = page_views;
        };
        Self::of(Site::unmigrated_with(variant, configure).await).await
    }

    /// Of a site on which `headcount migrate` was not run yet.
    async fn of(site: Site) -> Self {
        store::migrate(&site.config, false).await.unwrap();
        let counters =
            store::open_counters(&site.config, CountedTypes::without_routes(&site.config.record)).unwrap();
        let holder = Uuid::new_v4();
        assert!(counters.take_lease(holder, TTL).await.unwrap().is_some());
        Self {
            site,
            counters,
            holder,
        }
    }

    /// The counters of the same site where nobody keeps presence.
    fn without_presence(&self) -> Arc<dyn CounterStore> {
        let mut config = self.site.config.clone();
        config.record.presence = false;
        let counted = CountedTypes::without_routes(&config.record);
        store::open_counters(&config, counted).unwrap()
    }

    /// What a round does, without presence; what was written.
    async fn round(&self) -> Published {
        while self.counters.fold(self.holder).await.unwrap().unwrap().rows > 0 {}
        for community in self.counters.uncounted(&[], 100).await.unwrap() {
            self.counters.recount(&community).await.unwrap();
        }
        let pending = self.counters.pending(None, 100).await.unwrap();
        let wishes: Vec<_> = pending.into_iter().map(|community| (community, None)).collect();
        self.counters
            .publish(self.holder, &wishes)
            .await
            .unwrap()
            .unwrap()
    }

    /// `current_visitors`, `total_visitors`, `page_views` as the app reads them.
    async fn shown(&self, community: &CommunityId) -> [i64; 3] {
        let rows = self
            .site
            .rows(&format!(
                r#"SELECT CAST(current_visitors AS TEXT), CAST(total_visitors AS TEXT), CAST(page_views AS TEXT)
                   FROM {table} WHERE "{id}" = '{key}'"#,
                table = self.site.table(&self.site.config.schema.community.table),
                id = self.site.config.schema.community.columns.id,
                key = stored_key(community.as_str()),
            ))
            .await;
        let numbers = rows[0].iter().map(|cell| cell.as_ref().unwrap().parse().unwrap());
        numbers.collect::<Vec<i64>>().try_into().unwrap()
    }

    /// The counters are as the statistics over all time, in every place.
    async fn agree(&self, community: &CommunityId, expected: (i64, i64)) {
        let stats = self
            .site
            .store
            .stats(community, at("1960-01-01T00:00:00Z"), at("2100-01-01T00:00:00Z"))
            .await
            .unwrap();
        assert_eq!((stats.total_visitors, stats.page_views), expected);
        let [_, total_visitors, page_views] = self.shown(community).await;
        assert_eq!((total_visitors, page_views), expected);
        let comparison = self.counters.compare(community).await.unwrap();
        assert!(comparison.agrees(), "{comparison:?}");
        assert_eq!(comparison.drift(), 0);
    }

    async fn views(&self, name: &str, community: &CommunityId, moments: &[&str]) -> UserId {
        let user = self.site.member(name).await;
        let token = format!("token-of-{name}");
        let session = self.site.session(&user, &token, SessionRow::default()).await;
        let views = moments.iter().map(|when| page_view(when)).collect();
        let applied = self
            .site
            .store
            .apply(&batch(&session, community, views))
            .await
            .unwrap();
        assert_eq!(applied.left_out, [""; 0]);
        user
    }
}

async fn k1_a_batch_counts_as_in_the_statistics_and_once(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let cooking = site.community("cooking").await;
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let first = batch(
        &session,
        &gardening,
        vec![
            page_view("2024-03-01T09:05:00Z"),
            page_view("2024-03-01T09:06:00Z"),
        ],
    );
    site.store.apply(&first).await.unwrap();
    // The first of a community is counted from the events, the next are added. One that is postponed takes no other's place.
    let counters = &counting.counters;
    assert_eq!(
        counters.uncounted(&[], 1).await.unwrap(),
        std::slice::from_ref(&gardening)
    );
    let postponed = std::slice::from_ref(&gardening);
    assert_eq!(counters.uncounted(postponed, 1).await.unwrap(), []);
    assert_eq!(counting.round().await.written, 1);
    counting.agree(&gardening, (1, 2)).await;

    // A lost acknowledgement, and the same views as another batch, as of a retried dead letter.
    site.store.apply(&first).await.unwrap();
    site.store.apply(&another(&first)).await.unwrap();
    counting
        .views("bob", &gardening, &["2024-03-02T09:05:00Z"; 3])
        .await;
    counting.views("carol", &cooking, &["2024-03-02T09:05:00Z"]).await;
    // Before they are added up, nothing drifts.
    assert_eq!(counting.counters.compare(&gardening).await.unwrap().drift(), 0);
    assert_eq!(counting.round().await.written, 2);
    counting.agree(&gardening, (2, 7)).await;
    counting.agree(&cooking, (1, 1)).await;

    // Counted anew while more is there to be added up: it counts once.
    counting
        .views("dave", &gardening, &["2024-03-03T09:05:00Z"])
        .await;
    assert_eq!(
        counting.counters.recount(&gardening).await.unwrap(),
        Totals {
            page_views: 8,
            total_visitors: 3
        }
    );
    counting.round().await;
    counting.agree(&gardening, (3, 8)).await;
}

/// What the app recorded before the sidecar's first view counts; a late view may become the first.
async fn k1_a_view_that_comes_late_counts_as_in_the_statistics(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let bob = site.member("bob").await;
    let metadata = format!(r#"{{"community_id": "{gardening}"}}"#);
    for when in ["2024-03-01T08:00:00Z", "2024-03-01T10:00:00Z"] {
        site.app_event(&bob, "page_view", &metadata, when).await;
    }
    let alice = counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    counting.round().await;
    counting.agree(&gardening, (2, 3)).await;

    // From a spool that was away, from before one of the app's.
    counting
        .views("carol", &gardening, &["2024-03-01T09:00:00Z"])
        .await;
    assert_eq!(counting.counters.compare(&gardening).await.unwrap().drift(), 0);
    counting.round().await;
    counting.round().await;
    counting.agree(&gardening, (3, 3)).await;

    // A clock that was wrong hides nothing.
    counting
        .views("dave", &gardening, &["1970-01-01T00:00:01Z"])
        .await;
    counting.round().await;
    counting.agree(&gardening, (4, 4)).await;
    viewed(site, &alice, &gardening, "2024-03-05T00:00:00Z").await;
}

async fn k1_all_of_the_apps_own_views_count_where_so_configured(variant: Variant) {
    let counting = Counting::with(variant, PageViews::All).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    counting.round().await;
    let bob = site.member("bob").await;
    let metadata = format!(r#"{{"community_id": "{gardening}"}}"#);
    site.app_event(&bob, "page_view", &metadata, "2024-03-01T12:00:00Z")
        .await;
    // Nothing tells of it but the comparison.
    assert_eq!(counting.counters.compare(&gardening).await.unwrap().drift(), 2);
    counting.counters.recount(&gardening).await.unwrap();
    counting.round().await;
    counting.agree(&gardening, (2, 2)).await;
}

async fn k1_only_the_counted_event_types_count(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let alice = site.member("alice").await;
    let session = site
        .session(&alice, "token-of-alice", SessionRow::default())
        .await;
    let mut other = page_view("2024-03-01T09:05:00Z");
    other.event.event_type = Some("post_view".into());
    let one = batch(
        &session,
        &gardening,
        vec![page_view("2024-03-01T09:06:00Z"), other],
    );
    for expected in [(1, 1), (1, 2)] {
        // Counted from the events, then added.
        site.store.apply(&another(&one)).await.unwrap();
        counting.round().await;
        counting.agree(&gardening, expected).await;
    }
}

async fn k1_an_event_without_a_user_is_a_page_view_of_no_visitor(variant: Variant) {
    let site = Site::unmigrated_with(variant, |config| config.counters.enabled = true).await;
    let names = site.config.schema.event.clone();
    let (table, user) = (site.table(&names.table), names.columns.user_id);
    if variant.is_postgres() {
        site.execute(&format!(
            r#"ALTER TABLE {table} ALTER COLUMN "{user}" DROP NOT NULL"#
        ))
        .await;
    } else {
        // Made anew: SQLite changes no column.
        let sql = format!(
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = '{}'",
            names.table
        );
        let made = site.text(&sql).await;
        let (before, after) = made.split_once(&format!(r#""{user}""#)).unwrap();
        let after = after.replacen(" NOT NULL", "", 1);
        site.execute(&format!(r#"DROP TABLE {table}; {before}"{user}"{after}"#))
            .await;
    }
    let counting = Counting::of(site).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"; 3])
        .await;
    counting.round().await;
    counting.agree(&gardening, (1, 3)).await;
    // As where the app keeps the events of users that it deletes.
    site.execute(&format!(r#"UPDATE {table} SET "{user}" = NULL"#))
        .await;
    counting.counters.recount(&gardening).await.unwrap();
    counting.views("bob", &gardening, &["2024-03-02T11:00:00Z"]).await;
    counting.round().await;
    counting.agree(&gardening, (1, 4)).await;
}

async fn k2_one_holder_writes_and_another_takes_over(variant: Variant) {
    let counting = Counting::new(variant).await;
    let gardening = counting.site.community("gardening").await;
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    let (counters, first, second) = (&counting.counters, counting.holder, Uuid::new_v4());
    assert!(counters.take_lease(second, TTL).await.unwrap().is_none());
    assert!(counters.fold(second).await.unwrap().is_none());
    let wish = [(gardening.clone(), Some(7))];
    assert!(counters.publish(second, &wish).await.unwrap().is_none());
    assert!(counters.publish(first, &wish).await.unwrap().is_some());

    // It renews as often as it likes; when it has not, another takes over, and is told when columns were last written.
    let renewed = counters.take_lease(first, Duration::ZERO).await.unwrap();
    assert!(renewed.is_some());
    let taken = counters.take_lease(second, TTL).await.unwrap();
    assert!(taken.is_some_and(|lease| lease.since_round.is_some()));
    assert!(counters.take_lease(first, TTL).await.unwrap().is_none());
    assert!(counters.fold(first).await.unwrap().is_none());
    assert!(counters.publish(first, &wish).await.unwrap().is_none());
    assert!(counters.fold(second).await.unwrap().is_some());

    // One that ends gives it up.
    counters.release_lease(first).await.unwrap();
    assert!(counters.take_lease(first, TTL).await.unwrap().is_none());
    counters.release_lease(second).await.unwrap();
    assert!(counters.take_lease(first, TTL).await.unwrap().is_some());
    counting.round().await;
    assert_eq!(counting.shown(&gardening).await, [7, 1, 1]);
}

async fn k4_nothing_is_written_where_nothing_has_changed(variant: Variant) {
    let counting = Counting::new(variant).await;
    let (site, gardening) = (&counting.site, counting.site.community("gardening").await);
    let updated = async || {
        let table = site.table(&site.config.schema.community.table);
        let sql = format!("SELECT CAST(visitors_updated_at AS TEXT) FROM {table}");
        site.rows(&sql).await.remove(0).remove(0)
    };
    assert_eq!(updated().await, None);
    counting
        .views("alice", &gardening, &["2024-03-01T11:00:00Z"])
        .await;
    assert_eq!(counting.round().await.written, 1);
    let first = updated().await;
    assert!(first.is_some());
    assert_eq!(counting.counters.pending(None, 10).await.unwrap(), []);
    assert_eq!(counting.round().await.written, 0);

    // The same numbers once more change no row.
    counting.counters.recount(&gardening).await.unwrap();
    assert_eq!(counting.round().await.written, 0);
    assert_eq!(updated().await, first);
    let publish = async |present| {
        let wish = [(gardening.clone(), Some(present))];
        let published = counting.counters.publish(counting.holder, &wish).await;
        published.unwrap().unwrap().written
    };
    assert_eq!([publish(3).await, publish(3).await, publish(0).await], [1, 0, 1]);
    assert_eq!(counting.shown(&gardening).await, [0, 1, 1]);
    assert_eq!(counting.counters.shown_present(10).await.unwrap(), []);
}

async fn k13_a_community_is_found_by_its_key_in_any_spelling_or_by_its_slug(variant: Variant) {
    let counting = Counting::new(variant).await;
    let gardening = counting.site.community("gardening").await;
    let key = gardening.as_str();
    let other = if key.contains('-') {
        key.replace('-', "").to_uppercase()
    } else {
        format!("00{key}")
    };
    for order in [CommunityKey::Id, CommunityKey::Slug, CommunityKey::Either] {
        for named in ["gardening", key, &other] {
            let found = counting.counters.find(named, order).await.unwrap();
            assert_eq!(found.as_ref(), Some(&gardening), "{named} {order:?}");
        }
        assert_eq!(counting.counters.find("nowhere", order).await.unwrap(), None);
    }
}
