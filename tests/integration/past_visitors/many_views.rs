//! Communities with many views: what is read for a page, and what the indexes of visits do to answers and to the app.

use headcount::config::Config;
use headcount::ids::CommunityId;
use headcount::store::{PastAsked, PastPlace, PastSort, PastVisitor, PastWindow, Step, Store, migrate};

use crate::store_site::{Site, Variant, at};
use crate::support::examined;

pub(super) const SORTS: [PastSort; 3] = [PastSort::LastVisit, PastSort::VisitCount, PastSort::FirstVisit];

pub(super) fn window() -> PastWindow {
    PastWindow {
        community: CommunityId::from("42"),
        from: at("2024-03-02T00:00:00Z"),
        to: at("2024-03-12T00:00:00Z"),
    }
}

fn titles(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.title.as_str()).collect()
}

/// The place in the order behind this visitor.
pub(super) fn behind(visitor: &PastVisitor, sort: PastSort) -> PastPlace {
    PastPlace {
        value: visitor.value(sort),
        user: visitor.user_id.clone(),
    }
}

/// Up to three pages of 50 in this order.
async fn pages(store: &dyn Store, sort: PastSort) -> Vec<Vec<PastVisitor>> {
    let mut pages: Vec<Vec<PastVisitor>> = Vec::new();
    for _ in 0..3 {
        let last = pages.last().and_then(|page| page.last());
        let after = last.map(|last| behind(last, sort));
        let asked = PastAsked::Page {
            sort,
            after,
            limit: 50,
        };
        let page = store.past_visitors(&window(), &asked).await.expect("a page");
        if page.is_empty() {
            break;
        }
        pages.push(page);
    }
    pages
}

/// The page that begins behind everybody who came twice: all views are counted for it.
async fn of_those_who_came_once(store: &dyn Store) -> Vec<PastVisitor> {
    let asked = PastAsked::Page {
        sort: PastSort::VisitCount,
        after: Some(PastPlace {
            value: 2,
            user: "999999".into(),
        }),
        limit: 50,
    };
    store.past_visitors(&window(), &asked).await.expect("a page")
}

/// A number of the server's statistics, once the store's connections have told what they did.
pub(super) async fn counted(site: &Site, number: &str) -> i64 {
    site.sequential_scans("accounts_userevent").await;
    let sql =
        format!("SELECT ({number})::text FROM pg_stat_user_tables WHERE relname = 'accounts_userevent'");
    site.text(&sql).await.parse().expect("a number")
}

/// Views of four communities: of 42 the sidecar's and the app's, one in fifty of them with long metadata. The least users come
/// often, those above 200 once.
async fn with_views(variant: Variant) -> Site {
    let site = Site::unmigrated(variant).await;
    site.execute(
        r#"INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 6000) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT u, 'page_view', '',
                    jsonb_build_object('community_id', c::text, 'url', '/' || u % 7,
                                       'referrer', repeat('x', CASE WHEN u % 50 = 0 THEN 600 ELSE 1 END))
                        || CASE WHEN v = 1 THEN '{}'::jsonb ELSE '{"source": "headcount"}'::jsonb END,
                    'Firefox', '{}', '{}', timestamptz '2024-03-02' + v * interval '1 hour' + u * interval '1 second'
             FROM generate_series(1, 6000) AS u, generate_series(42, 45) AS c,
                  LATERAL generate_series(1, CASE WHEN u <= 200 THEN 2 + u % 9 ELSE 1 + u % 2 END) AS v
             WHERE v > 1 OR u > 200"#,
    )
    .await;
    site
}

#[tokio::test]
async fn s45_the_indexes_of_visits_change_no_answer_and_spare_a_look_into_the_table() {
    let site = with_views(Variant::PostgresDefault).await;
    let wanted = |visits_index| {
        let mut config: Config = site.config.clone();
        config.record.visits_index = visits_index;
        config
    };
    migrate(&wanted(false), false).await.unwrap();
    site.execute("VACUUM ANALYZE accounts_userevent").await;
    let store = site.reconfigured(|config| config.record.visits_index = true);
    let mut expected = Vec::new();
    for sort in SORTS {
        expected.push(pages(&*store, sort).await);
    }
    let came_once = of_those_who_came_once(&*store).await;
    assert_eq!((expected[1].len(), came_once.len()), (3, 50));
    let missing = store.inspect(&["page_view".into()], None).await.unwrap().indexes;
    let of_large = "the index headcount_event_visits_large is missing, so that past visitors are sorted by visits as slowly";
    assert!(
        missing.len() == 2 && missing[1].starts_with(of_large),
        "{missing:?}"
    );

    let steps = migrate(&wanted(true), false).await.unwrap();
    assert_eq!(
        titles(&steps),
        [
            "index headcount_event_visits",
            "index headcount_event_visits_large"
        ]
    );
    assert_eq!(migrate(&wanted(true), false).await.unwrap(), []);
    assert_eq!(
        store.inspect(&["page_view".into()], None).await.unwrap().indexes,
        [""; 0]
    );
    site.execute("VACUUM ANALYZE accounts_userevent").await;
    let fetched = counted(&site, "idx_tup_fetch").await;
    let scans = (counted(&site, OF_INDEX).await, counted(&site, "seq_scan").await);
    // The former one's connections are ended.
    let store = site.reconfigured(|_| {});
    assert_eq!(of_those_who_came_once(&*store).await, came_once);
    let fetched = counted(&site, "idx_tup_fetch").await - fetched;
    // Of 9,000 views: the long ones, and those of the page's visitors.
    assert!(fetched < 2_000, "{fetched}");
    assert!(counted(&site, OF_INDEX).await > scans.0);
    assert_eq!(counted(&site, "seq_scan").await, scans.1);
    let store = site.reconfigured(|_| {});
    for (sort, expected) in SORTS.into_iter().zip(&expected) {
        assert_eq!(pages(&*store, sort).await, *expected, "{sort:?}");
    }

    let unwanted = store.inspect(&[], None).await.unwrap().indexes;
    assert_eq!(
        unwanted,
        VISITS.map(|name| format!(
            "the index {name} is there, though record.visits_index is false: run headcount migrate, which drops it"
        ))
    );
    let steps = migrate(&wanted(false), false).await.unwrap();
    let dropped = VISITS.map(|name| format!("index {name}: no longer wanted"));
    assert_eq!(titles(&steps), dropped);
    assert_eq!(migrate(&wanted(false), false).await.unwrap(), []);
    assert_eq!(of_those_who_came_once(&*store).await, came_once);
}

/// Scans of the index of visits of small rows.
const OF_INDEX: &str =
    "(SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'headcount_event_visits')";

const VISITS: [&str; 2] = ["headcount_event_visits", "headcount_event_visits_large"];

/// Metadata that is as large in the index as its text may be, and larger.
#[tokio::test]
async fn s45_whatever_its_metadata_the_app_can_write_an_event() {
    for kind in ["jsonb", "json"] {
        let site = Site::unmigrated(Variant::PostgresDefault).await;
        site.execute(&format!(
            "ALTER TABLE accounts_userevent ALTER metadata TYPE {kind} USING metadata::{kind};
             INSERT INTO accounts_userprofile (username, last_active) VALUES ('alice', now())"
        ))
        .await;
        let mut config = site.config.clone();
        config.record.visits_index = true;
        migrate(&config, false).await.unwrap();
        // Digits, empty arrays and short keys are what takes most for its text, and hashes what cannot be compressed.
        site.execute(&format!(
            r#"INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                             location_data, timestamp)
             SELECT (SELECT min(id) FROM accounts_userprofile), repeat('e', 50), '', written::{kind}, '', '{{}}', '{{}}', now()
             FROM generate_series(1, 400) AS length,
                  LATERAL (SELECT string_agg((hashint4(n + length) & 7)::text, ', ') AS digits, string_agg('[]', ', ') AS arrays,
                                  string_agg('"' || substr(md5(n::text), 1, 3) || n || '": ' || n % 10, ', ') AS keys,
                                  string_agg(md5(n::text), '') AS hashes
                           FROM generate_series(1, length) AS n) AS parts,
                  LATERAL (VALUES ('[' || digits || ']'), ('[' || arrays || ']'), ('{{' || keys || '}}'),
                                  (to_json(hashes)::text), ('{{"community_id": "' || left(hashes, 1500) || '"}}'))
                      AS several (written)"#
        ))
        .await;
        let small = site
            .text(
                "SELECT max(octet_length(metadata::text)) || ' ' || max(octet_length(metadata::text)) FILTER
                     (WHERE octet_length(metadata::text) <= 500) FROM accounts_userevent",
            )
            .await;
        assert_eq!(small, "12802 500", "{kind}");
    }
}

/// Of twenty days, of which the last is looked at.
#[tokio::test]
async fn s33_what_check_looks_at_of_the_last_day_is_no_whole_event_table() {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(
        r#"INSERT INTO accounts_userprofile (username, last_active) VALUES ('alice', now());
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT (SELECT min(id) FROM accounts_userprofile), 'page_view', repeat('x', 300), '{"community_id": "42"}', '',
                    '{}', '{}', now() - n * interval '30 seconds' - interval '1 second'
             FROM generate_series(0, 59999) AS n"#,
    )
    .await;
    migrate(&site.config, false).await.unwrap();
    site.execute("VACUUM ANALYZE accounts_userevent").await;
    let before = site.sequential_scans("accounts_userevent").await;
    let notes = examined::notes(&site.config).await.unwrap().concat();
    assert!(notes.contains("\"page_view\" itself: 28"), "{notes}");
    assert_eq!(site.sequential_scans("accounts_userevent").await, before);
}

/// A site of so many members, with the views of a community that this query gives: users and moments. Not migrated yet.
pub(super) async fn unmigrated(members: i64, views: &str) -> Site {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(&format!(
        r#"INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, {members}) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT u, 'page_view', '', '{{"community_id": "42", "source": "headcount", "url": "/x"}}', '', '{{}}', '{{}}', at
             FROM ({views}) AS views (u, at)"#
    ))
    .await;
    site
}

/// The same, migrated.
async fn seen(members: i64, views: &str) -> Site {
    let site = unmigrated(members, views).await;
    migrate(&site.config, false).await.unwrap();
    site.execute("VACUUM ANALYZE accounts_userevent").await;
    site
}

/// Each page is the whole list, and the window would have to be walked to its end to see that.
#[tokio::test]
async fn s46_few_who_see_much_are_found_without_a_look_at_each_view() {
    let site = seen(
        40,
        "SELECT 1 + n % 40, timestamptz '2024-03-02' + n * interval '10 seconds' FROM generate_series(0, 19999) AS n",
    )
    .await;
    for (sort, first) in [(PastSort::LastVisit, 40), (PastSort::FirstVisit, 40)] {
        let store = site.reconfigured(|_| {});
        let scans = counted(&site, "idx_scan").await;
        let found = pages(&*store, sort).await;
        let scans = counted(&site, "idx_scan").await - scans;
        let store = site.reconfigured(|_| {});
        assert_eq!(found.len(), 1, "{sort:?}");
        let users: Vec<String> = found[0]
            .iter()
            .map(|visitor| visitor.user_id.as_str().to_owned())
            .collect();
        let expected: Vec<String> = (1..=first).rev().map(|user: u32| user.to_string()).collect();
        assert_eq!(users, expected, "{sort:?}");
        // 2,500 for the views that are walked, for the page and for the empty one behind it.
        assert!(scans < 6_000, "{sort:?}: {scans}");
        // From a place in the order.
        let after = &found[0][9];
        let asked = PastAsked::Page {
            sort,
            after: Some(behind(after, sort)),
            limit: 50,
        };
        assert_eq!(
            store.past_visitors(&window(), &asked).await.unwrap(),
            found[0][10..],
            "{sort:?}"
        );
    }
}

fn keys(page: &[PastVisitor]) -> Vec<&str> {
    page.iter().map(|visitor| visitor.user_id.as_str()).collect()
}

/// 4,000 members have come all the time, and 20 new ones have seen more since than two steps of the walk read.
#[tokio::test]
async fn s46_few_who_have_seen_much_of_late_do_not_make_a_page_read_the_whole_window() {
    let site = seen(
        4_020,
        "SELECT 21 + n % 4000, timestamptz '2024-03-02' + n * interval '5 seconds' FROM generate_series(0, 99999) AS n
         UNION ALL
         SELECT 1 + n % 20, timestamptz '2024-03-08' + n * interval '1 second' FROM generate_series(0, 2999) AS n",
    )
    .await;
    for (sort, which) in [(PastSort::LastVisit, "max"), (PastSort::FirstVisit, "min")] {
        let asked = |after| PastAsked::Page {
            sort,
            after,
            limit: 50,
        };
        let rows = counted(&site, "idx_tup_fetch + seq_tup_read").await;
        let scans = counted(&site, "idx_scan").await;
        let store = site.reconfigured(|_| {});
        let page = store.past_visitors(&window(), &asked(None)).await.unwrap();
        let rows = counted(&site, "idx_tup_fetch + seq_tup_read").await - rows;
        let scans = counted(&site, "idx_scan").await - scans;
        let expected = site
            .text(&format!(
                "SELECT string_agg(user_id::text, ' ' ORDER BY at DESC, user_id) FROM (
                     SELECT user_id, {which}(timestamp) AS at FROM accounts_userevent
                     GROUP BY user_id ORDER BY at DESC, user_id LIMIT 100
                 ) AS moments"
            ))
            .await;
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(keys(&page), expected[..50], "{sort:?}");
        // Of 103,000: the last come after three steps. For the first, nobody else is new, so that all are read at once.
        let most = if sort == PastSort::LastVisit {
            25_000
        } else {
            200_000
        };
        assert!(rows < most, "{sort:?}: {rows}");
        // Each of a step's users is looked up once.
        assert!(scans < 6_000, "{sort:?}: {scans}");

        let after = behind(&page[49], sort);
        let store = site.reconfigured(|_| {});
        let page = store.past_visitors(&window(), &asked(Some(after))).await.unwrap();
        assert_eq!(keys(&page), expected[50..], "{sort:?}");
    }
}
