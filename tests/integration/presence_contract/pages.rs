//! Pages of a list: each user once, in order, whatever moves meanwhile.

use std::collections::HashSet;
use std::time::Duration;

use headcount::presence::Seen;

use super::site::Site;
use super::{WINDOW, names};

over_every_store! {
    p13_fifty_thousand_are_paged_once_each_in_order,
    p13_thousands_of_ties_are_paged_once_each,
    p13_a_cursor_that_moved_loses_nobody,
    p13_a_cursor_that_is_gone_keeps_its_place,
    pages_are_ordered_by_bytes,
    expired_users_are_never_listed,
}

async fn p13_fifty_thousand_are_paged_once_each_in_order(site: Site) {
    for group in 0..10 {
        // Every tenth user, so that the order of time is not that of the names.
        site.touch_many("42", (0..5_000).map(|user| user * 10 + group))
            .await;
        site.pass(Duration::from_secs(5)).await;
    }
    let all = site.pages("42", 499).await;
    assert_eq!(site.count("42").await.current, 50_000);
    assert_eq!(all.len(), 50_000);
    assert_eq!(names(&all).iter().collect::<HashSet<_>>().len(), 50_000);
    let in_order = all.is_sorted_by(|a, b| (a.last_seen, &a.user) > (b.last_seen, &b.user));
    assert!(in_order);
    assert!(all[..5_000].iter().all(|seen| seen.user.as_str().ends_with('9')));
}

async fn p13_thousands_of_ties_are_paged_once_each(site: Site) {
    site.touch_many("42", 0..5_000).await;
    site.tie("42").await;
    let all = site.pages("42", 73).await;
    let expected: Vec<_> = (0..5_000).rev().map(|user| format!("u{user:05}")).collect();
    assert_eq!(names(&all), expected);
    assert_eq!(all[0].last_seen, all[4_999].last_seen);
}

async fn p13_a_cursor_that_moved_loses_nobody(site: Site) {
    site.touch_many("42", 0..100).await;
    site.tie("42").await;
    site.pass(Duration::from_secs(1)).await;
    let first = site.page("42", None, 10).await;
    let cursor = first.last().unwrap();
    site.touch("42", &[cursor.user.as_str()]).await;
    let second = site.page("42", Some(cursor), 100).await;
    let expected: Vec<_> = (0..90).rev().map(|user| format!("u{user:05}")).collect();
    assert_eq!(names(&second), expected);
}

async fn p13_a_cursor_that_is_gone_keeps_its_place(site: Site) {
    site.touch_many("42", 0..1_000).await;
    site.tie("42").await;
    let last_seen = site.page("42", None, 1).await[0].last_seen;
    let after = |user: &str, millis| Seen {
        user: user.into(),
        last_seen: last_seen + chrono::Duration::milliseconds(millis),
    };
    for (cursor, next) in [
        (after("u00500x", 0), Some("u00500")),
        (after("u00500", 0), Some("u00499")),
        (after("zz", 0), Some("u00999")),
        (after("u00000", 0), None),
        (after("a", 0), None),
        (after("a", 1), Some("u00999")),
        (after("zz", -1), None),
    ] {
        let page = site.page("42", Some(&cursor), 3).await;
        assert_eq!(
            page.first().map(|seen| seen.user.as_str()),
            next,
            "after {cursor:?}"
        );
    }
    assert!(site.page("42", None, 0).await.is_empty());
}

async fn pages_are_ordered_by_bytes(site: Site) {
    let mut users = [
        "a", "A", "b", "B", "ä", "z", "10", "9", "aa", "a-", "é", "Z", "a\0",
    ];
    site.touch("42", &users).await;
    site.tie("42").await;
    users.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(names(&site.pages("42", 1).await), users);
}

async fn expired_users_are_never_listed(site: Site) {
    site.touch_many("42", 0..50).await;
    site.pass(WINDOW / 2).await;
    site.touch_many("42", 50..60).await;
    let first = site.page("42", None, 30).await;
    assert_eq!(first.len(), 30);
    site.pass(WINDOW / 2).await;
    assert!(
        site.page("42", first.last(), 30).await.is_empty(),
        "expired while paging"
    );
    assert_eq!(site.pages("42", 7).await.len(), 10);
}
