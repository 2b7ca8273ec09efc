//! Tests of sessions that change while they are cached, and of gaps in the notifications (I4).

use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;
use crate::auth::outcome::Absent;
use crate::ids::BrowserSessionId;

#[tokio::test]
async fn i4_a_session_that_changed_is_asked_for_again() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    assert!(scene.resolves(at(1)).await, "nobody has told of it");
    assert!(scene.remembers(at(1)));

    scene.hears();
    assert_eq!(scene.knows(at(2)), CachedSession::Unknown);
    assert!(!scene.remembers(at(2)));
    assert!(!scene.resolves(at(2)).await);
    assert_eq!(scene.knows(at(2)), CachedSession::NoSession(Absent::Ended));
    assert_eq!((scene.reads(), scene.evicted("changed")), (2, 1));
}

#[tokio::test]
async fn v6_a_view_that_began_before_the_session_ended_is_that_sessions() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| {
        session.is_ended = true;
        session.ended_at = Some(at(20));
    });
    scene.hears();
    let past = async |at| {
        scene
            .authenticator
            .resolve_past(&scene.token, at, None)
            .await
            .unwrap()
    };
    assert!(matches!(past(at(19)).await, Identified::Session(_)));
    assert!(matches!(scene.knows(at(19)), CachedSession::Session(_)));
    assert_eq!(past(at(20)).await, Identified::NoSession(Absent::Ended));
    assert_eq!(scene.knows(at(20)), CachedSession::NoSession(Absent::Ended));
    // A query for the present finds no session, whenever its request began.
    assert!(!scene.resolves(at(19)).await);
    assert!(!scene.remembers(at(19)));
}

#[tokio::test]
async fn i4_a_session_of_somebody_else_that_changed_costs_no_lookup() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene
        .authenticator
        .changed(SessionChange::Of(BrowserSessionId::from("2")));
    assert!(scene.resolves(at(1)).await);
    assert!(matches!(scene.knows(at(1)), CachedSession::Session(_)));
    assert!(scene.remembers(at(1)));
    assert_eq!(scene.reads(), 1);
}

#[tokio::test]
async fn i4_an_answer_that_was_on_its_way_when_the_news_came_is_not_kept() {
    let scene = Scene::new();
    let news = scene.ends_before_it_answers();
    let (found, ()) = tokio::join!(scene.resolves(at(0)), news);
    assert!(!found, "it was read again");
    assert_eq!(scene.reads(), 2);
    assert_eq!(scene.knows(at(1)), CachedSession::NoSession(Absent::Ended));
    assert!(!scene.remembers(at(1)));
}

#[tokio::test]
async fn i4_who_waits_for_the_answer_of_another_gets_none_that_the_news_has_overtaken() {
    let scene = Scene::new();
    let news = scene.ends_before_it_answers();
    let all = futures_util::future::join_all((0..10).map(|_| scene.resolves(at(0))));
    let (found, ()) = tokio::join!(all, news);
    assert_eq!(found, [false; 10]);
    assert_eq!(scene.reads(), 2);
}

#[tokio::test]
async fn i2_a_session_that_changed_is_asked_for_once_by_many() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.hears();
    let all = futures_util::future::join_all((0..10).map(|_| scene.resolves(at(1))));
    assert_eq!(all.await, [true; 10]);
    assert_eq!(scene.reads(), 2);
}

/// The answer is given, as the caller cannot wait for ever; but it is not cached.
#[tokio::test]
async fn i4_a_session_that_changes_at_each_look_is_not_looked_at_without_end() {
    let scene = Scene::new();
    scene.table.answers.forget_permits(Semaphore::MAX_PERMITS);
    let news = async {
        for reads in 1.. {
            while scene.reads() < reads {
                tokio::task::yield_now().await;
            }
            scene.hears();
            scene.table.answers.add_permits(1);
        }
    };
    let found = tokio::select! {
        found = scene.resolves(at(0)) => found,
        () = news => unreachable!("there is always more news"),
    };
    assert!(found);
    assert_eq!(scene.reads(), 9, "three lookups, of three reads each");
    assert_eq!(scene.knows(at(1)), CachedSession::Unknown);
}

#[tokio::test]
async fn i4_after_a_gap_sessions_are_asked_for_again_and_go_on_being_remembered() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.authenticator.listening();
    assert_eq!(scene.knows(at(1)), CachedSession::Unknown);
    // The database is down again before the next query.
    scene.away(true);
    assert!(scene.remembers(at(1)));
    scene.away(false);
    scene.change(|session| session.is_active = false);
    assert!(!scene.resolves(at(1)).await);
    assert!(!scene.remembers(at(1)));
    assert_eq!(scene.evicted("gap"), 1);
}

#[tokio::test(start_paused = true)]
async fn i1_a_gap_does_not_make_made_up_tokens_worth_a_lookup_again() {
    let scene = Scene::with(|session| session.negative_ttl = Duration::from_secs(3600));
    let made_up = SessionToken::new("made-up");
    let nobody = scene.authenticator.resolve(&made_up, at(0)).await;
    assert_eq!(nobody.unwrap(), None);
    scene.authenticator.listening();
    scene.authenticator.changed(SessionChange::OfAny);
    let known = scene.authenticator.cached_now(&made_up, at(1));
    assert_eq!(
        (known, scene.reads()),
        (CachedSession::NoSession(Absent::NotFound), 1)
    );
}

#[tokio::test]
async fn i4_when_all_sessions_change_none_is_remembered() {
    let scene = Scene::new();
    assert!(scene.resolves(at(0)).await);
    scene.table.rows.lock().unwrap().clear();
    scene.authenticator.changed(SessionChange::OfAny);
    assert!(!scene.remembers(at(1)));
    assert!(!scene.resolves(at(1)).await);
    assert_eq!(scene.evicted("all_changed"), 1);
}

#[tokio::test]
async fn i4_more_changes_than_fit_are_changes_of_all() {
    let scene = Scene::with(|session| session.cache_capacity = 2);
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    scene.hears();
    for id in ["2", "3"] {
        scene
            .authenticator
            .changed(SessionChange::Of(BrowserSessionId::from(id)));
    }
    assert!(!scene.resolves(at(1)).await);
    assert_eq!((scene.evicted("changed"), scene.evicted("overflow")), (2, 1));
}

#[tokio::test]
async fn i4_who_must_not_outlive_a_session_is_told_when_it_is_no_longer_answered() {
    let scene = Scene::new();
    let mut told = scene.authenticator.subscribe();
    assert!(scene.resolves(at(0)).await);
    scene.change(|session| session.is_ended = true);
    scene.hears();
    let one = SessionChange::Of(BrowserSessionId::from("1"));
    assert_eq!(told.recv().await, Ok(one));
    assert!(!scene.resolves(at(1)).await);

    scene.authenticator.listening();
    assert_eq!(told.recv().await, Ok(SessionChange::OfAny));
    scene.authenticator.changed(SessionChange::OfAny);
    assert_eq!(told.recv().await, Ok(SessionChange::OfAny));

    for _ in 0..=SUBSCRIBERS_BACKLOG {
        scene.hears();
    }
    assert_eq!(told.try_recv(), Err(TryRecvError::Lagged(1)));
}
