//! Values of the app that are longer than an index takes: the app writes them all the same, and they are told apart.

use headcount::config::Config;
use headcount::ids::CommunityId;
use headcount::store::{PastAsked, PastSort, PastWindow, Store, migrate};

use crate::store_site::{Site, Variant, at};

const SORTS: [PastSort; 3] = [PastSort::LastVisit, PastSort::VisitCount, PastSort::FirstVisit];

/// Text that cannot be compressed, so that the database cannot make it shorter.
const LONG: &str = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100) AS n)";

/// A site whose communities have texts as keys, with 20,000 events in forty of them; the event type has this type.
async fn with_texts(event_type: &str) -> Site {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(&format!(
        r"DROP TABLE communities_community;
         CREATE TABLE communities_community (id text PRIMARY KEY, slug varchar(80) NOT NULL UNIQUE, name varchar(120) NOT NULL);
         ALTER TABLE accounts_userevent ALTER event_type TYPE {event_type};
         INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 60) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT 1 + n % 60, 'page_view', '',
                    jsonb_build_object('community_id', 'c' || n % 40, 'source', 'headcount', 'url', '/x',
                                       'referrer', repeat('x', CASE WHEN n % 100 = 7 THEN 600 ELSE 1 END)),
                    '', '{{}}', '{{}}', timestamptz '2024-03-02' + n * interval '10 seconds'
             FROM generate_series(0, 19999) AS n"
    ))
    .await;
    site
}

/// The app writes an event of a community, which is SQL.
async fn written(site: &Site, user: u32, event_type: &str, community: &str) {
    site.execute(&format!(
        r"INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
         VALUES ({user}, {event_type}, '', jsonb_build_object('community_id', {community}, 'source', 'headcount', 'url', '/y'),
                 '', '{{}}', '{{}}', '2024-03-05')"
    ))
    .await;
}

/// Page views of a community, after those of each order of its past visitors were found to be as many.
async fn page_views(store: &dyn Store, community: &str) -> i64 {
    let window = PastWindow {
        community: CommunityId::from(community),
        from: at("2024-03-02T00:00:00Z"),
        to: at("2024-03-12T00:00:00Z"),
    };
    let stats = store.stats(&window.community, window.from, window.to).await;
    let expected = stats.expect("statistics").page_views;
    for sort in SORTS {
        let asked = PastAsked::Page {
            sort,
            after: None,
            limit: 100,
        };
        let page = store.past_visitors(&window, &asked).await.expect("a page");
        let views: i64 = page.iter().map(|visitor| visitor.page_views).sum();
        assert_eq!(views, expected, "{sort:?}");
    }
    expected
}

#[tokio::test]
async fn s47_values_that_no_index_takes_can_be_written_and_are_told_apart() {
    for (event_type, visits_index) in [("varchar(50)", false), ("text", false), ("text", true)] {
        let site = with_texts(event_type).await;
        let mut config: Config = site.config.clone();
        config.record.visits_index = visits_index;
        migrate(&config, false).await.expect("it is migrated");
        let store = site.reconfigured(|config| config.record.visits_index = visits_index);
        let faults = store
            .inspect(&["page_view".into()], None)
            .await
            .expect("a look")
            .indexes;
        assert_eq!(faults, [""; 0], "{event_type}");

        for (user, end) in [(1, "x"), (2, "y"), (3, "y")] {
            written(&site, user, "'page_view'", &format!("{LONG} || '{end}'")).await;
        }
        if event_type == "text" {
            written(&site, 4, LONG, "'c7'").await;
            written(
                &site,
                4,
                &format!("{LONG} || 'page_view'"),
                &format!("{LONG} || 'y'"),
            )
            .await;
        }
        let long = site.text(&format!("SELECT {LONG}")).await;
        site.execute("VACUUM ANALYZE accounts_userevent").await;
        let before = site.sequential_scans("accounts_userevent").await;
        let mut counts = Vec::new();
        for community in [
            &format!("{long}x"),
            &format!("{long}y"),
            &long,
            &long[..256],
            "c7",
        ] {
            counts.push(page_views(&*store, community).await);
        }
        assert_eq!(counts, [1, 2, 0, 0, 500], "{event_type}");
        store.close().await;
        assert_eq!(
            site.sequential_scans("accounts_userevent").await,
            before,
            "{event_type}"
        );
    }
}
