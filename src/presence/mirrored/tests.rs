//! The memory in front of a store that is away, hangs, forgets and comes back when a test says so. Its clock
//! stands still, in 2001.

mod fakes;
mod retouches;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::stream;
use tokio::time::Instant;

use super::answers::in_time;
use super::*;
use fakes::*;

#[tokio::test]
async fn the_store_answers_while_it_can() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    let touched = one.touch("42", "a").await.unwrap();
    other.touch("42", "b").await.unwrap();
    until(async || one.count("42").await == (2, false)).await;
    assert_eq!(one.users("42").await, (vec!["b".into(), "a".into()], false));
    let count = one.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    assert!(count.seq >= touched.seq && touched.seq > 0);
    one.presence.ping().await.unwrap();
}

#[tokio::test]
async fn p14_while_the_store_is_away_a_sidecar_tells_whom_it_saw_itself() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    one.touch("42", "a").await.unwrap();
    other.touch("42", "b").await.unwrap();
    store.is(Mood::Away);
    assert!(one.touch("42", "c").await.is_err(), "the store did not take it");
    assert_eq!(one.count("42").await, (2, true));
    assert_eq!(one.users("42").await, (vec!["c".into(), "a".into()], true));
    assert_eq!(other.count("42").await, (1, true));
    assert_eq!(one.count("43").await, (0, true));
    assert_eq!(one.metrics.stale_answers.get(), 3);
    let count = one.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    assert_eq!(count.seq, 0, "it has no place in the community's history");
}

#[tokio::test]
async fn p14_while_the_store_is_away_a_sidecar_tells_the_communities_that_it_knows_itself() {
    let store = Store::new();
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    one.touch("42", "a").await.unwrap();
    other.touch("43", "b").await.unwrap();
    until(async || one.communities().await == (vec!["42".into(), "43".into()], false)).await;
    store.is(Mood::Away);
    assert_eq!(one.communities().await, (vec!["42".into()], true));
}

#[tokio::test]
async fn p14_while_a_part_is_away_the_communities_of_the_others_are_the_stores() {
    let store = Store::of_domains(4);
    store.connects();
    let (one, other) = (Sidecar::of(&store), Sidecar::of(&store));
    let (here, mine) = (store.community_of(0, &[]), store.community_of(3, &[]));
    let others = store.community_of(3, &[&mine]);
    one.touch(&mine, "a").await.unwrap();
    other.touch(&here, "b").await.unwrap();
    other.touch(&others, "b").await.unwrap();
    // Until each has what was touched before it was known.
    let all = async || matches!(one.presence.communities(100).await, Ok(answer) if answer.value.len() == 3);
    until(all).await;
    *store.away.lock().unwrap() = Some(3);
    let mut expected = vec![here, mine];
    expected.sort();
    assert_eq!(one.communities().await, (expected, true));
}

#[tokio::test]
async fn communities_of_a_part_that_never_answered_are_not_left_out() {
    let store = Store::of_domains(4);
    store.is(Mood::Fine);
    let sidecar = Sidecar::of(&store);
    let here = store.community_of(0, &[]);
    sidecar.touch(&here, "a").await.unwrap();
    // Until the store lacks nothing.
    until(async || matches!(sidecar.presence.communities(100).await, Ok(answer) if !answer.stale)).await;
    *store.away.lock().unwrap() = Some(3);
    let communities = sidecar.presence.communities(100).await;
    assert!(
        matches!(communities, Err(PresenceError::Unavailable(_))),
        "memory does not have them either: {communities:?}"
    );
    *store.away.lock().unwrap() = None;
    store.is(Mood::Broken);
    let communities = sidecar.presence.communities(100).await;
    assert!(
        matches!(communities, Err(PresenceError::Unexpected(_))),
        "not away: {communities:?}"
    );
}

#[tokio::test]
async fn communities_of_a_store_that_lacks_touches_are_told_without_waiting_for_it() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "a").await.unwrap();
    until(async || sidecar.communities().await == (vec!["42".into()], false)).await;
    store.connects();
    store.is(Mood::Hung);
    // A store that is waited for makes the test wait for an hour.
    assert_eq!(sidecar.communities().await, (vec!["42".into()], true));
}

/// One answer for each, whatever the store answers later, twice, or not at all.
#[tokio::test(start_paused = true)]
async fn each_community_has_one_count() {
    let community = |id: usize| Scope::from(id.to_string().as_str());
    let answered_after = |seconds: &[u64]| {
        let answers: Vec<_> = seconds.iter().copied().enumerate().collect();
        let answers = stream::iter(answers).then(move |(id, seconds)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let count = empty().count(&community(id));
            (community(id), Ok(Answer::current(count)))
        });
        answers.boxed()
    };
    let counted = async |answers: CountStream<'static>| {
        let asked: BTreeSet<_> = (0..3).map(community).collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut answers = in_time(answers, asked, deadline);
        let mut counted = Vec::new();
        while let Some((community, answer)) = answers.next().await {
            counted.push((community.to_string(), answer.is_ok()));
            // Whoever asks takes long, too.
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
        counted
    };
    let told = |answers: [bool; 3]| (0..3).map(|id| id.to_string()).zip(answers).collect::<Vec<_>>();
    let late = counted(answered_after(&[0, 15, 0])).await;
    assert_eq!(late, told([true, false, true]));
    assert_eq!(counted(answered_after(&[0])).await, told([true, false, false]));
}

#[tokio::test]
async fn p3_stale_answers_go_by_the_stores_time() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "a").await.unwrap();
    store.is(Mood::Away);
    let count = sidecar.presence.all_counts(&["42".into()]).await.unwrap().value[0];
    let seen = sidecar.presence.list(&"42".into(), None, 1).await.unwrap().value[0].clone();
    for time in [count.as_of, seen.last_seen] {
        assert!((time - in_2001()).num_hours() == 0, "{time}");
    }
}

#[tokio::test]
async fn a_page_goes_on_in_memory_where_the_store_left_off() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    for seconds in 0..6 {
        let user = format!("u{seconds}");
        sidecar
            .saw("42", &user, Duration::from_secs(10 * seconds))
            .await
            .unwrap();
    }
    until(async || !sidecar.users("42").await.1).await;
    let community = Scope::from("42");
    let first = sidecar.presence.list(&community, None, 3).await.unwrap();
    store.is(Mood::Away);
    let second = sidecar
        .presence
        .list(&community, first.value.last(), 4)
        .await
        .unwrap();
    assert_eq!((first.stale, second.stale), (false, true));
    let users = |page: &Answer<Vec<Seen>>| {
        page.value
            .iter()
            .map(|seen| seen.user.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(users(&first), ["u0", "u1", "u2"]);
    assert!(
        users(&second).ends_with(&["u3", "u4", "u5"].map(String::from)),
        "{second:?}"
    );

    for last_seen in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let made_up = Seen {
            user: "u9".into(),
            last_seen,
        };
        sidecar
            .presence
            .list(&community, Some(&made_up), 3)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_memory_cannot_tell_is_not_told() {
    let store = Store::new();
    let sidecar = Sidecar::of(&store);
    assert!(sidecar.touch("42", "a").await.is_err());
    let count = sidecar.presence.all_counts(&["42".into()]).await;
    assert!(
        matches!(count, Err(PresenceError::Unavailable(_))),
        "never connected: {count:?}"
    );
    let list = sidecar.presence.list(&"42".into(), None, 1).await;
    assert!(
        matches!(list, Err(PresenceError::Unavailable(_))),
        "never connected: {list:?}"
    );
    assert_eq!(sidecar.metrics.stale_answers.get(), 0);

    let of_a_window = Sidecar::with(&store, Duration::from_millis(1), PATIENCE);
    until(async || of_a_window.presence.all_counts(&["42".into()]).await.is_ok()).await;
    assert_eq!(
        of_a_window.count("42").await,
        (0, true),
        "a window has passed since it started"
    );

    store.connects();
    // There it is, but it has not answered yet.
    until(async || sidecar.presence.all_counts(&["42".into()]).await.is_ok()).await;
    assert_eq!(sidecar.count("42").await, (1, false));
    store.is(Mood::Broken);
    let count = sidecar.presence.all_counts(&["42".into()]).await;
    assert!(
        matches!(count, Err(PresenceError::Unexpected(_))),
        "not away: {count:?}"
    );
}

#[tokio::test]
async fn a_read_waits_for_a_store_that_hangs_no_longer_than_it_may() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::with(&store, WINDOW, Duration::from_millis(10));
    sidecar.touch("42", "a").await.unwrap();
    until(async || sidecar.count("42").await == (1, false)).await;
    store.is(Mood::Hung);
    assert_eq!(sidecar.count("42").await, (1, true));
    assert_eq!(sidecar.users("42").await, (vec!["a".into()], true));
    assert_eq!(sidecar.communities().await, (vec!["42".into()], true));
}

#[tokio::test]
async fn who_was_touched_in_no_community_is_not_remembered() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    let refused = sidecar.touch("", "a").await;
    assert!(matches!(refused, Err(PresenceError::Community)), "{refused:?}");
    assert_eq!(sidecar.presence.mirror.memory.members(), 0);
}

#[tokio::test]
async fn sweeps_forget_in_memory_too() {
    let store = Store::new();
    store.connects();
    let sidecar = Sidecar::of(&store);
    sidecar.touch("42", "stays").await.unwrap();
    let nearly = WINDOW.checked_sub(Duration::from_millis(1)).unwrap();
    sidecar.saw("42", "leaves", nearly).await.unwrap();
    until(async || {
        sidecar.presence.sweep().await.unwrap();
        sidecar.presence.mirror.memory.members() == 1
    })
    .await;
    let remembered = sidecar.metrics.remembered.get();
    assert!((remembered - 1.0).abs() < f64::EPSILON, "{remembered}");
}

#[tokio::test]
async fn dropping_it_ends_its_task() {
    let store = Store::new();
    let sidecar = Sidecar::of(&store);
    assert_eq!(Arc::strong_count(&store), 2);
    drop(sidecar);
    until(async || Arc::strong_count(&store) == 1).await;
}
