//! Tests of touches that are made again because a store lost or did not take them.

use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::presence::CountChange;
use crate::presence::changes::Event;

#[tokio::test]
async fn p14_what_the_store_lost_is_touched_again_by_itself_and_with_its_age() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    let touch = |user, age| Touch {
        age: Duration::from_secs(age),
        ..Touch::now(user)
    };
    let touches = [
        touch("a", 0),
        touch("b", 100),
        touch("c", 299),
        touch("left", 300),
    ];
    sidecar.presence.touch(&"42".into(), &touches).await.unwrap();
    sidecar.touch("43", "a").await.unwrap();
    until(async || sidecar.count("42").await == (3, false)).await;

    let before = sidecar.metrics.retouches.get();
    store.forgets();
    store.connects();
    until(async || sidecar.count("42").await == (3, false) && sidecar.count("43").await == (1, false)).await;
    let page = sidecar.presence.list(&"42".into(), None, 10).await.unwrap().value;
    let users: Vec<_> = page.iter().map(|seen| seen.user.as_str()).collect();
    assert_eq!(users, ["a", "b", "c"]);
    assert!(page[0].last_seen <= in_2001(), "not fresher than it was");
    assert_eq!(
        (page[0].last_seen - page[1].last_seen).num_milliseconds(),
        100_000
    );
    assert_eq!(
        (page[1].last_seen - page[2].last_seen).num_milliseconds(),
        199_000
    );
    assert_eq!(sidecar.metrics.retouches.get() - before, 4);
}

#[tokio::test]
async fn p14_nobody_who_left_meanwhile_comes_back() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "stays").await.unwrap();
    let nearly = WINDOW.checked_sub(Duration::from_millis(100)).unwrap();
    sidecar.saw("42", "leaves", nearly).await.unwrap();
    store.is(Mood::Away);
    until(async || sidecar.count("42").await == (1, true)).await;
    store.forgets();
    store.connects();
    until(async || sidecar.count("42").await == (1, false)).await;
    assert_eq!(sidecar.users("42").await, (vec!["stays".into()], false));
}

#[tokio::test]
async fn p14_until_all_are_touched_again_answers_are_from_memory() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    for community in ["1", "2", "3"] {
        sidecar.touch(community, "a").await.unwrap();
    }
    until(async || sidecar.count("1").await == (1, false)).await;
    store.held.send_replace(Some("1".into()));
    store.forgets();
    store.connects();
    assert_eq!(
        sidecar.count("1").await,
        (1, true),
        "at once: the store would say 0"
    );
    assert_eq!(sidecar.users("1").await, (vec!["a".into()], true));
    // Fresh touches do not stand behind the others.
    sidecar.touch("2", "b").await.unwrap();
    assert_eq!(sidecar.count("2").await, (2, true));
    store.held.send_replace(None);
    until(async || sidecar.count("1").await == (1, false)).await;
    assert_eq!(sidecar.count("2").await, (2, false));
    assert_eq!(sidecar.count("3").await, (1, false));
}

/// Or listeners would be told of the first few to be touched again, and then of all.
#[tokio::test]
async fn p14_changes_of_a_store_that_lacks_somebody_are_held_back_until_it_does_not() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("1", "a").await.unwrap();
    until(async || sidecar.count("1").await == (1, false)).await;
    let mut changes = sidecar.presence.subscribe();

    store.held.send_replace(Some("1".into()));
    store.connects();
    // Another sidecar was faster.
    let other = Arc::clone(&store.memory.lock().unwrap());
    other.touch(&"1".into(), &[Touch::now("b")]).await.unwrap();
    let domain = sidecar.presence.mirror.domains.of_partition(0);
    until(async || domain.holds_back()).await;
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
    store.held.send_replace(None);
    assert_eq!(changes.recv().await, Ok(Event::Listening));
    assert_eq!(sidecar.count("1").await, (2, false));

    let count = other.touch(&"1".into(), &[Touch::now("c")]).await.unwrap();
    let community = "1".into();
    assert_eq!(
        changes.recv().await,
        Ok(Event::Change(
            CountChange {
                scope: community,
                count
            }
            .into()
        ))
    );
}

#[tokio::test]
async fn p14_a_touch_that_was_not_taken_is_made_again_without_a_new_connection() {
    for mood in [Mood::Away, Mood::Broken] {
        let store = Store::new();
        store.connects();
        let sidecar = Sidecar::of(&store);
        sidecar.touch("42", "a").await.unwrap();
        store.is(mood);
        assert!(sidecar.touch("42", "b").await.is_err());
        store.is(Mood::Fine);
        assert_eq!(sidecar.count("42").await, (2, true), "the store lacks b");
        until(async || sidecar.count("42").await == (2, false)).await;
    }
}

#[tokio::test]
async fn p12_p14_a_user_whom_two_sidecars_touch_again_is_one_visitor() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    for sidecar in [&one, &other] {
        sidecar.touch("42", "both").await.unwrap();
    }
    one.touch("42", "one").await.unwrap();
    other.touch("42", "other").await.unwrap();
    store.forgets();
    store.connects();
    for sidecar in [&one, &other] {
        until(async || sidecar.count("42").await == (3, false)).await;
    }
    assert_eq!(one.users("42").await.0.len(), 3);
}

#[tokio::test]
async fn p14_what_one_part_lacks_makes_no_others_answers_stale() {
    let store = Store::of_domains(4);
    let sidecar = Sidecar::of(&store);
    store.connects();
    let (here, there) = (store.community_of(0, &[]), store.community_of(3, &[]));
    for community in [&here, &there] {
        sidecar.touch(community, "a").await.unwrap();
        until(async || !sidecar.count(community).await.1).await;
    }
    *store.away.lock().unwrap() = Some(3);
    assert!(sidecar.touch(&there, "b").await.is_err());
    sidecar.touch(&here, "b").await.unwrap();
    assert_eq!(sidecar.count(&there).await, (2, true));
    assert_eq!(sidecar.count(&here).await, (2, false));
    assert!(!sidecar.users(&here).await.1);
    let asked = [here.as_str().into(), there.as_str().into(), here.as_str().into()];
    let together = sidecar.presence.all_counts(&asked).await.unwrap();
    let numbered: Vec<_> = together
        .value
        .iter()
        .map(|count| (count.current, count.seq > 0))
        .collect();
    assert_eq!(numbered, [(2, true), (2, false), (2, true)]);
    assert!(together.stale, "one of them is");
    let before = sidecar.metrics.retouches.get();
    *store.away.lock().unwrap() = None;
    until(async || sidecar.count(&there).await == (2, false)).await;
    let retouched = sidecar.metrics.retouches.get() - before;
    assert_eq!(retouched, 2, "of the part that was away");
}
