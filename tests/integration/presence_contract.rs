//! What presence promises, over memory, over a Redis server and over a Redis Cluster alike.

#[macro_use]
mod stores;
mod scopes;
mod sidecars;
mod site;

use std::collections::HashSet;
use std::time::Duration;

use headcount::presence::Scope;
use headcount::presence::changes::Event;
use headcount::presence::{CountChange, PresenceError, Seen, Touch};

use self::site::Site;

const WINDOW: Duration = Duration::from_secs(300);

over_every_store! {
    a_touch_is_counted_and_listed,
    a_community_never_touched_is_empty,
    communities_are_counted_in_the_order_asked,
    communities_are_known_while_somebody_is_there,
    no_more_communities_are_told_than_asked_for,
    odd_community_ids_are_kept_apart,
    overlong_community_ids_are_refused,
    sequence_numbers_rise_with_the_count_only,
    p1_a_busy_community_still_loses_the_visitor_who_left,
    p2_reading_does_not_prune,
    p4_the_count_is_that_of_the_members,
    p12_two_sessions_of_one_user_are_one_visitor,
    p13_fifty_thousand_are_paged_once_each_in_order,
    p13_thousands_of_ties_are_paged_once_each,
    p13_a_cursor_that_moved_loses_nobody,
    p13_a_cursor_that_is_gone_keeps_its_place,
    pages_are_ordered_by_bytes,
    expired_users_are_never_listed,
    a_sweep_tells_decreases_once_with_rising_numbers,
    a_sweep_finds_every_community_that_is_due,
    a_touch_of_one_notices_others_who_left,
    p7_a_count_taken_before_somebody_came_back_is_outdated,
    p14_a_touch_may_come_late_and_tells_by_how_much,
    p14_a_late_touch_takes_nobody_back,
    p14_a_late_touch_brings_nobody_back_who_left,
    p14_touching_everybody_again_changes_nothing,
    a_subscriber_hears_of_every_change_in_order,
    p18_a_clock_that_was_set_back_makes_nobody_stay,
    p18_a_clock_that_was_set_back_is_no_leave,
    p18_a_clock_that_was_set_back_a_little_makes_nobody_stay,
}

fn names(page: &[Seen]) -> Vec<String> {
    page.iter().map(|seen| seen.user.to_string()).collect()
}

async fn a_touch_is_counted_and_listed(site: Site) {
    assert_eq!(site.touch("42", &["a"]).await.current, 1);
    site.pass(Duration::from_secs(1)).await;
    let told = site.touch("42", &["b", "c"]).await;
    assert_eq!(told.current, 3);
    let count = site.count("42").await;
    assert_eq!((count.current, count.seq), (3, told.seq));
    assert_eq!(site.users("42").await, ["c", "b", "a"]);
    site.presence.ping().await.unwrap();
}

async fn a_community_never_touched_is_empty(site: Site) {
    let count = site.count("42").await;
    assert_eq!((count.current, count.seq), (0, 0));
    assert_eq!(site.users("42").await, [""; 0]);
    assert!(site.presence.all_counts(&[]).await.unwrap().value.is_empty());
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
}

async fn communities_are_counted_in_the_order_asked(site: Site) {
    let communities: Vec<Scope> = (0..1_200).map(|id| Scope::from(&*id.to_string())).collect();
    site.touch("1100", &["a", "b"]).await;
    site.touch("7", &["a"]).await;
    let counts = site.presence.all_counts(&communities).await.unwrap().value;
    assert_eq!(counts.len(), 1_200);
    for (id, count) in counts.iter().enumerate() {
        let expected = match id {
            7 => 1,
            1100 => 2,
            _ => 0,
        };
        assert_eq!(count.current, expected, "community {id}");
    }
}

async fn communities_are_known_while_somebody_is_there(site: Site) {
    assert_eq!(site.communities(10).await, [""; 0]);
    site.touch("deserted", &["a"]).await;
    site.pass(WINDOW / 2).await;
    site.touch("42", &["a", "b"]).await;
    site.touch("two words", &["a"]).await;
    assert_eq!(site.communities(10).await, ["42", "deserted", "two words"]);
    site.pass(WINDOW / 2).await;
    site.presence.sweep().await.unwrap();
    assert_eq!(site.communities(10).await, ["42", "two words"]);
}

async fn no_more_communities_are_told_than_asked_for(site: Site) {
    for id in 0..40 {
        site.touch(&id.to_string(), &["a"]).await;
    }
    for limit in [0, 1, 39] {
        let some = site.communities(limit).await;
        assert_eq!(some.iter().collect::<HashSet<_>>().len(), limit);
    }
    assert_eq!(site.communities(41).await.len(), 40);
}

async fn odd_community_ids_are_kept_apart(site: Site) {
    let odd = ["}{", "{p00}", "a b", "a", "ü", "line\nbreak", "42:due", "*"];
    for (users, community) in odd.iter().enumerate() {
        site.touch_many(community, 0..=users).await;
    }
    for (users, community) in odd.iter().enumerate() {
        assert_eq!(
            site.count(community).await.current,
            users as u64 + 1,
            "{community:?}"
        );
    }
    site.pass(WINDOW).await;
    let mut swept: Vec<_> = site.presence.sweep().await.unwrap().changes;
    swept.sort_by(|a, b| a.scope.cmp(&b.scope));
    let swept: Vec<_> = swept.iter().map(|change| change.scope.to_string()).collect();
    let mut expected = odd;
    expected.sort_unstable();
    assert_eq!(swept, expected);
}

async fn overlong_community_ids_are_refused(site: Site) {
    for id in ["", &"x".repeat(256)] {
        let community = Scope::from(id);
        let refused = site.presence.touch(&community, &[Touch::now("a")]).await;
        assert!(matches!(refused, Err(PresenceError::Community)));
        assert_eq!(site.count(id).await.current, 0);
        assert!(site.users(id).await.is_empty());
    }
    site.touch(&"x".repeat(255), &["a"]).await;
    assert_eq!(site.count(&"x".repeat(255)).await.current, 1);
}

async fn sequence_numbers_rise_with_the_count_only(site: Site) {
    let first = site.touch("42", &["a"]).await;
    let again = site.touch("42", &["a"]).await;
    assert_eq!(again.seq, first.seq, "nothing changed");
    let mut last = first.seq;
    for user in ["b", "c", "d", "e"] {
        let seq = site.touch("42", &[user]).await.seq;
        assert!(seq > last);
        last = seq;
    }
    assert!(first.seq >= 1_763_884_800_000, "not below the clock");
}

async fn p1_a_busy_community_still_loses_the_visitor_who_left(site: Site) {
    site.touch("42", &["left"]).await;
    for _ in 0..5 {
        site.pass(WINDOW / 5).await;
        site.touch("42", &["stays"]).await;
    }
    assert_eq!(site.count("42").await.current, 1);
    assert_eq!(site.users("42").await, ["stays"]);
}

async fn p2_reading_does_not_prune(site: Site) {
    site.touch("42", &["a", "b"]).await;
    site.pass(WINDOW).await;
    for _ in 0..3 {
        assert_eq!(site.count("42").await.current, 0);
        assert!(site.users("42").await.is_empty());
    }
    let changes = site.presence.sweep().await.unwrap().changes;
    assert_eq!(
        changes.len(),
        1,
        "had reading pruned, the sweep would find nothing"
    );
}

async fn p4_the_count_is_that_of_the_members(site: Site) {
    for round in 0..20 {
        site.touch_many("42", (round * 7)..(round * 7 + 30)).await;
        site.pass(WINDOW / 6).await;
        let members: HashSet<_> = site.users("42").await.into_iter().collect();
        assert_eq!(site.count("42").await.current, members.len() as u64);
    }
}

async fn p12_two_sessions_of_one_user_are_one_visitor(site: Site) {
    site.touch("42", &["alice"]).await;
    site.pass(Duration::from_secs(10)).await;
    assert_eq!(site.touch("42", &["alice", "alice"]).await.current, 1);
    assert_eq!(site.count("42").await.current, 1);
    assert_eq!(site.users("42").await, ["alice"]);
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

async fn a_sweep_tells_decreases_once_with_rising_numbers(site: Site) {
    site.touch("42", &["a"]).await;
    site.pass(Duration::from_secs(60)).await;
    let before = site.touch("42", &["b"]).await;
    assert!(
        site.presence.sweep().await.unwrap().changes.is_empty(),
        "nobody left"
    );

    site.pass(WINDOW.checked_sub(Duration::from_secs(50)).unwrap())
        .await;
    let sweep = site.presence.sweep().await.unwrap();
    assert_eq!(sweep.changes.len(), 1);
    assert_eq!(sweep.changes[0].scope.to_string(), "42");
    assert_eq!(sweep.changes[0].count.current, 1);
    assert!(sweep.changes[0].count.seq > before.seq);
    assert!(
        sweep.lag >= Duration::from_secs(10),
        "a's window passed 10 s ago: {:?}",
        sweep.lag
    );
    assert_eq!(site.count("42").await.seq, sweep.changes[0].count.seq);

    site.pass(WINDOW).await;
    let last = site.presence.sweep().await.unwrap().changes;
    assert_eq!(last[0].count.current, 0);
    assert!(last[0].count.seq > sweep.changes[0].count.seq);
    assert!(
        site.presence.sweep().await.unwrap().changes.is_empty(),
        "told already"
    );

    let back = site.touch("42", &["a"]).await;
    assert!(
        back.seq > last[0].count.seq,
        "numbers go on after the community was empty"
    );
}

async fn a_sweep_finds_every_community_that_is_due(site: Site) {
    for community in 0..1_000 {
        site.touch(&community.to_string(), &["a"]).await;
    }
    site.pass(WINDOW).await;
    let changes = site.presence.sweep().await.unwrap().changes;
    let communities: HashSet<_> = changes.iter().map(|change| &change.scope).collect();
    assert_eq!((changes.len(), communities.len()), (1_000, 1_000));
}

async fn a_touch_of_one_notices_others_who_left(site: Site) {
    let before = site.touch("42", &["a", "b"]).await;
    site.pass(WINDOW).await;
    let after = site.touch("42", &["c"]).await;
    assert_eq!(after.current, 1);
    assert!(after.seq > before.seq);
}

/// Whoever has read the smaller number must hear of the return, though no sweep has told of the leave.
async fn p7_a_count_taken_before_somebody_came_back_is_outdated(site: Site) {
    let told = site.touch("42", &["a"]).await;
    let mut changes = site.listen().await;
    site.pass(WINDOW).await;
    let without = site.count("42").await;
    assert_eq!((without.current, without.seq), (0, told.seq));
    let back = site.touch("42", &["a"]).await;
    assert_eq!(back.current, 1);
    assert!(back.seq > without.seq);
    let change = |count| {
        let scope = Scope::from("42");
        Event::Change(CountChange { scope, count }.into())
    };
    let mut heard = changes.recv().await.unwrap();
    // The nodes of a Cluster pass it on to each other: it may come after the beginning.
    if heard == change(told) {
        heard = changes.recv().await.unwrap();
    }
    assert_eq!(heard, change(back));
    assert_eq!(site.touch("42", &["a"]).await.seq, back.seq, "once");
}

async fn p14_a_touch_may_come_late_and_tells_by_how_much(site: Site) {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    site.touch_late("42", &[("a", minutes(2)), ("b", minutes(4)), ("c", minutes(0))])
        .await;
    let page = site.page("42", None, 10).await;
    assert_eq!(names(&page), ["c", "a", "b"]);
    assert_eq!(
        (page[0].last_seen - page[1].last_seen).num_milliseconds(),
        120_000
    );
    assert_eq!(
        (page[0].last_seen - page[2].last_seen).num_milliseconds(),
        240_000
    );
    site.pass(minutes(1)).await;
    assert_eq!(site.users("42").await, ["c", "a"], "b's window has passed");
    let changes = site.presence.sweep().await.unwrap().changes;
    assert_eq!((changes.len(), changes[0].count.current), (1, 2));
}

async fn p14_a_late_touch_takes_nobody_back(site: Site) {
    site.touch("42", &["a"]).await;
    let before = site.page("42", None, 10).await;
    site.touch_late("42", &[("a", WINDOW / 2), ("a", WINDOW * 2)])
        .await;
    assert_eq!(site.page("42", None, 10).await, before);
    assert_eq!(site.count("42").await.current, 1);
}

async fn p14_a_late_touch_brings_nobody_back_who_left(site: Site) {
    let before = site.touch("42", &["stays"]).await;
    let after = site
        .touch_late("42", &[("left", WINDOW), ("left long ago", WINDOW * 100)])
        .await;
    assert_eq!((after.current, after.seq), (1, before.seq), "nothing changed");
    assert_eq!(site.users("42").await, ["stays"]);
    let nobody = site.touch_late("43", &[("left", WINDOW)]).await;
    assert_eq!((nobody.current, nobody.seq), (0, 0));
    assert_eq!(site.users("43").await, [""; 0]);
}

async fn p14_touching_everybody_again_changes_nothing(site: Site) {
    let first = site
        .touch_late("42", &[("a", WINDOW / 3), ("b", WINDOW / 2)])
        .await;
    let before = site.page("42", None, 10).await;
    site.pass(Duration::from_secs(10)).await;
    let later = Duration::from_secs(10);
    let again = site
        .touch_late("42", &[("b", WINDOW / 2 + later), ("a", WINDOW / 3 + later)])
        .await;
    assert_eq!((again.current, again.seq), (first.current, first.seq));
    let after = site.page("42", None, 10).await;
    assert_eq!(names(&after), names(&before));
}

async fn a_subscriber_hears_of_every_change_in_order(site: Site) {
    let mut changes = site.listen().await;
    let mut expected = vec![site.touch("42", &["a"]).await];
    site.touch("42", &["a"]).await;
    site.count("42").await;
    expected.push(site.touch("42", &["b"]).await);
    site.pass(WINDOW).await;
    let swept = site.presence.sweep().await.unwrap();
    expected.push(swept.changes[0].count);
    for count in expected {
        let heard = changes.recv().await.unwrap();
        let scope = Scope::from("42");
        assert_eq!(heard, Event::Change(CountChange { scope, count }.into()));
    }
}

/// The clock was ahead for a while, with visitors, and is right again.
async fn p18_a_clock_that_was_set_back_makes_nobody_stay(site: Site) {
    site.touch_late("42", &[("a", Duration::ZERO), ("b", WINDOW / 2)])
        .await;
    site.touch("43", &["c"]).await;
    site.is_set_back(WINDOW * 2).await;
    site.presence.sweep().await.unwrap();
    assert_eq!(site.users("42").await, ["a", "b"]);
    site.pass(WINDOW / 2 + Duration::from_secs(1)).await;
    let swept = site.presence.sweep().await.unwrap().changes;
    assert_eq!(
        (swept.len(), swept[0].count.current),
        (1, 1),
        "b's age is what it was"
    );
    assert_eq!(site.users("42").await, ["a"]);
    site.pass(WINDOW / 2).await;
    assert_eq!(
        (site.count("42").await.current, site.count("43").await.current),
        (0, 0)
    );
    assert_eq!(site.presence.sweep().await.unwrap().changes.len(), 2);
}

async fn p18_a_clock_that_was_set_back_is_no_leave(site: Site) {
    site.touch("42", &["a"]).await;
    site.is_set_back(WINDOW * 2).await;
    assert_eq!(site.count("42").await.current, 1);
    assert_eq!(site.touch("42", &["b"]).await.current, 2);
    assert_eq!(site.touch("42", &["a"]).await.current, 2);
    let page = site.page("42", None, 10).await;
    assert_eq!(page.len(), 2);
    let told = site.count("42").await.as_of;
    assert!(page.iter().all(|seen| seen.last_seen <= told), "{page:?}");
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
    site.pass(WINDOW).await;
    assert_eq!(site.presence.sweep().await.unwrap().changes.len(), 1);
}

/// By less than the window: the times of some are past also by the new time. Twice, and whoever is noticed by a touch is
/// not moved once more by the sweep.
async fn p18_a_clock_that_was_set_back_a_little_makes_nobody_stay(site: Site) {
    let some = WINDOW / 30;
    for community in ["42", "43"] {
        site.touch_late(community, &[("a", some * 20), ("b", some * 10), ("c", some)])
            .await;
    }
    for _ in 0..2 {
        site.is_set_back(WINDOW / 3).await;
        site.touch_late("42", &[("a", some * 20)]).await;
        for _ in 0..2 {
            assert!(site.presence.sweep().await.unwrap().changes.is_empty());
        }
    }
    site.pass(some * 8).await;
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
    for users in [&["c", "b"][..], &["c"], &[]] {
        site.pass(some * 5).await;
        let swept = site.presence.sweep().await.unwrap().changes;
        let counts: Vec<_> = swept.iter().map(|change| change.count.current).collect();
        assert_eq!(counts, [users.len() as u64; 2]);
        for community in ["42", "43"] {
            assert_eq!(site.users(community).await, users);
        }
        site.pass(some * 5).await;
    }
}
