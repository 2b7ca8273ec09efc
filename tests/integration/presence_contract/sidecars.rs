//! What holds among sidecars that share a store and do not agree.

use std::time::Duration;

use headcount::presence::KEPT;

use super::WINDOW;
use super::site::Site;

over_every_shared_store! {
    p17_the_longest_window_holds_for_all,
    p17_when_the_last_sidecar_with_it_has_gone_the_shorter_one_holds,
    p17_what_differs_is_told_by_each,
    p17_whoever_records_nothing_counts_by_the_window_of_the_others,
}

const SECOND: Duration = Duration::from_secs(1);

async fn p17_the_longest_window_holds_for_all(site: Site) {
    let longer = site.another(WINDOW * 2, None);
    longer.touch_late("42", &[("a", WINDOW + SECOND)]).await;
    assert_eq!(site.touch("42", &["b"]).await.current, 2);
    site.presence.sweep().await.unwrap();
    longer.presence.sweep().await.unwrap();
    for sidecar in [&site, &longer] {
        assert_eq!(sidecar.count("42").await.current, 2);
        assert_eq!(sidecar.users("42").await, ["b", "a"]);
        assert_eq!(sidecar.presence.window(), Some(WINDOW * 2));
    }
    // The one with the longer window is still there, and looks first.
    site.pass(WINDOW.checked_sub(SECOND).unwrap()).await;
    let swept = longer.presence.sweep().await.unwrap().changes;
    assert_eq!((swept.len(), swept[0].count.current), (1, 1));
    assert!(site.presence.sweep().await.unwrap().changes.is_empty());
    for sidecar in [&site, &longer] {
        assert_eq!(sidecar.users("42").await, ["b"]);
    }
}

async fn p17_when_the_last_sidecar_with_it_has_gone_the_shorter_one_holds(site: Site) {
    let longer = site.another(WINDOW * 2, None);
    longer.touch_late("42", &[("a", WINDOW), ("b", SECOND)]).await;
    site.presence.sweep().await.unwrap();
    assert_eq!(site.count("42").await.current, 2);
    site.pass(KEPT).await;
    assert_eq!(site.count("42").await.current, 1);
    let swept = site.presence.sweep().await.unwrap().changes;
    assert_eq!(
        (swept.len(), swept[0].count.current),
        (1, 1),
        "at once, not when the longer window passes"
    );
    assert_eq!(site.users("42").await, ["b"]);
    assert_eq!(site.presence.window(), Some(WINDOW));
    site.pass(WINDOW.checked_sub(KEPT).unwrap()).await;
    let swept = site.presence.sweep().await.unwrap().changes;
    assert_eq!((swept.len(), swept[0].count.current), (1, 0));
}

async fn p17_what_differs_is_told_by_each(site: Site) {
    assert_eq!(site.differences().await, [""; 0]);
    let other = site.another(WINDOW * 2, Some(9));
    let same = site.another(WINDOW, None);
    for sidecar in [&site, &other, &same] {
        sidecar.presence.sweep().await.unwrap();
    }
    for sidecar in [&site, &same] {
        let told = sidecar.differences().await;
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("redis.partitions = 9, this one 4"), "{told:?}");
        assert!(
            told[0].contains("record.window = \"10m\", this one \"5m\""),
            "{told:?}"
        );
    }
    let told = other.differences().await;
    assert!(told[1].contains("redis.partitions = 4, this one 9"), "{told:?}");
    site.pass(KEPT).await;
    assert_eq!(site.differences().await, [""; 0], "the others have gone");
}

async fn p17_whoever_records_nothing_counts_by_the_window_of_the_others(site: Site) {
    for own in [WINDOW * 2, WINDOW / 2] {
        let reader = site.reader(own);
        assert_eq!(reader.presence.window(), Some(own), "nothing is known as yet");
        site.touch_late("42", &[("a", SECOND), ("b", WINDOW * 2 / 3)])
            .await;
        site.presence.sweep().await.unwrap();
        assert_eq!(reader.users("42").await, ["a", "b"]);
        assert_eq!(reader.presence.window(), Some(WINDOW));
        let counting = site.reader(own);
        assert_eq!(counting.count("42").await.current, 2);
        assert_eq!(counting.presence.window(), Some(WINDOW));
        let told = reader.differences().await;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("so the longest of the others holds"), "{told:?}");
        assert_eq!(site.differences().await, [""; 0]);
    }
    let reader = site.reader(WINDOW);
    site.pass(KEPT).await;
    assert_eq!(reader.count("42").await.current, 2, "there are no others");
    assert_eq!(reader.users("42").await, ["a", "b"]);
    assert_eq!(reader.presence.window(), Some(WINDOW));
}
