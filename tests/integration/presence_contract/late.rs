//! Touches that come late, and clocks that were set back.

use std::time::Duration;

use headcount::presence::changes::Event;
use headcount::presence::{CountChange, Scope};

use super::site::Site;
use super::{WINDOW, names};

over_every_store! {
    p7_a_count_taken_before_somebody_came_back_is_outdated,
    p14_a_touch_may_come_late_and_tells_by_how_much,
    p14_a_late_touch_takes_nobody_back,
    p14_a_late_touch_brings_nobody_back_who_left,
    p14_touching_everybody_again_changes_nothing,
    p18_a_clock_that_was_set_back_makes_nobody_stay,
    p18_a_clock_that_was_set_back_is_no_leave,
    p18_a_clock_that_was_set_back_a_little_makes_nobody_stay,
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
