//! How often a page of past visitors reads a view.

use headcount::store::{PastAsked, PastSort, PastVisitor, migrate};

use super::many_views::{SORTS, behind, counted, window};
use crate::store_site::{Site, Variant};

/// Rows of the event table that the server has read.
const READ: &str = "idx_tup_fetch + seq_tup_read";

/// Events of community 42, each of a user and at a time that are SQL of `n`, which goes from 0 to `views`.
async fn with_views(views: u32, user: &str, at: &str) -> Site {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    site.execute(&format!(
        r#"INSERT INTO accounts_userprofile (username, last_active)
             SELECT 'member-' || n, now() FROM generate_series(1, 20000) AS n;
         INSERT INTO accounts_userevent (user_id, event_type, description, metadata, user_agent, device_info,
                                         location_data, timestamp)
             SELECT {user}, 'page_view', '', '{{"community_id": "42", "source": "headcount", "url": "/x"}}', '', '{{}}', '{{}}',
                    timestamptz '2024-03-02' + {at}
             FROM generate_series(0, {views} - 1) AS n"#
    ))
    .await;
    migrate(&site.config, false).await.expect("it is migrated");
    site.execute("VACUUM ANALYZE accounts_userevent").await;
    site
}

/// A page of 50 behind this visitor, and how many rows were read for it: by indexes, though all rows are of the community.
async fn page(site: &Site, sort: PastSort, after: Option<&PastVisitor>) -> (Vec<PastVisitor>, i64) {
    let after = after.map(|after| behind(after, sort));
    let asked = PastAsked::Page {
        sort,
        after,
        limit: 50,
    };
    let (before, scans) = (counted(site, READ).await, counted(site, "seq_scan").await);
    // The former one's connections are ended.
    let store = site.reconfigured(|_| {});
    let page = store.past_visitors(&window(), &asked).await.expect("a page");
    store.close().await;
    assert_eq!(counted(site, "seq_scan").await, scans, "{sort:?}");
    (page, counted(site, READ).await - before)
}

/// The page is of all, and what they did is of all views.
#[tokio::test]
async fn s48_the_views_of_few_are_read_once_for_whose_page_it_is_and_once_for_what_they_did() {
    let site = with_views(20_000, "1 + n % 40", "n * interval '10 seconds'").await;
    for sort in SORTS {
        let (found, rows) = page(&site, sort, None).await;
        assert_eq!(found.len(), 40, "{sort:?}");
        assert_eq!(
            found.iter().map(|visitor| visitor.page_views).sum::<i64>(),
            20_000
        );
        assert!((40_000..42_000).contains(&rows), "{sort:?}: {rows}");
    }
}

/// On the first page are those who came every hour; on the last, those who came once.
#[tokio::test]
async fn s48_the_views_of_many_are_read_once_for_a_page_by_visits() {
    let user = "CASE WHEN n < 6000 THEN 1 + n % 100 ELSE n END";
    let site = with_views(20_000, user, "n / 100 * interval '1 hour'").await;
    let (found, rows) = page(&site, PastSort::VisitCount, None).await;
    assert_eq!((found.len(), found[0].visit_count), (50, 60));
    // And once those of the users that are tried: all who came often, and 400 others.
    assert!((20_000..27_000).contains(&rows), "{rows}");
    let mut last = found[0].clone();
    last.visit_count = 1;
    last.user_id = "7000".into();
    let (found, rows) = page(&site, PastSort::VisitCount, Some(&last)).await;
    assert_eq!(found[0].user_id.as_str(), "7001");
    assert!((20_000..20_200).contains(&rows), "{rows}");
}
