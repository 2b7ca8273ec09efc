//! Tests of tokens that are the claims of a JWT.

use super::*;
use crate::auth::outcome::Absent;
use crate::ids::{AccountId, Claims};

/// A JWT of user 7 that is accepted until this minute.
fn jwt(session: Option<&str>, until: u32) -> SessionToken {
    SessionToken::of_jwt(Claims {
        account: AccountId::from("07"),
        session: session.map(BrowserSessionId::from),
        expires_at: at(until),
        key: None,
    })
}

/// A scene whose session is that of JWTs that name session 1.
fn scene() -> Scene {
    let mut scene = Scene::new();
    let token = jwt(Some("1"), 40);
    let mut rows = scene.table.rows.lock().unwrap();
    let row = rows.remove(&scene.token).unwrap();
    rows.insert(token.clone(), row);
    drop(rows);
    scene.token = token;
    scene
}

#[tokio::test]
async fn i23_a_jwt_that_names_no_session_identifies_its_user_without_a_query() {
    let scene = Scene::new();
    scene.table.away.store(true, Ordering::Relaxed);
    let token = jwt(None, 40);
    let authenticator = &scene.authenticator;
    let CachedSession::Session(session) = authenticator.cached(&token, at(0)) else {
        panic!("it is known at once");
    };
    // As the app's column has it.
    assert_eq!((&session.id, session.user_id.as_str()), (&None, "7"));
    assert_eq!(
        authenticator.resolve(&token, at(39)).await.unwrap().as_ref(),
        Some(&session)
    );
    assert!(authenticator.verified(&token, at(39)).await.unwrap().is_some());
    assert!(authenticator.last_known_session(&token, at(39)).is_some());
    assert_eq!(authenticator.resolve(&token, at(40)).await.unwrap(), None);
    assert_eq!(
        authenticator.cached_now(&token, at(40)),
        CachedSession::NoSession(Absent::Ended)
    );
    assert!(!authenticator.may_appear(&token));
    let other = SessionToken::of_jwt(Claims {
        account: AccountId::from("no number"),
        ..token.claims().unwrap().clone()
    });
    assert_eq!(
        authenticator.cached(&other, at(0)),
        CachedSession::NoSession(Absent::NotFound)
    );
}

#[tokio::test]
async fn i25_a_session_that_a_jwt_names_is_cached_and_lasts_no_longer_than_the_jwt() {
    let scene = scene();
    let authenticator = &scene.authenticator;
    let session = authenticator.resolve(&scene.token, at(0)).await.unwrap().unwrap();
    assert_eq!((session.is(&"1".into()), session.expires_at), (true, at(40)));
    // A renewed JWT is of the same session, until its row expires.
    let renewed = jwt(Some("1"), 59);
    let session = authenticator.resolve(&renewed, at(1)).await.unwrap().unwrap();
    assert_eq!(session.expires_at, at(50));
    assert_eq!(
        authenticator.cached_now(&scene.token, at(40)),
        CachedSession::NoSession(Absent::Ended)
    );
    assert_eq!(authenticator.resolve(&scene.token, at(40)).await.unwrap(), None);
    assert_eq!(scene.table.reads.load(Ordering::Relaxed), 1);
    // While the table is away, it is remembered for a renewed one, too.
    scene.table.away.store(true, Ordering::Relaxed);
    assert!(authenticator.last_known_session(&renewed, at(2)).is_some());
    assert_eq!(authenticator.last_known_session(&scene.token, at(45)), None);
}

#[tokio::test]
async fn i25_a_session_that_ends_ends_its_jwts() {
    let scene = scene();
    assert!(
        scene
            .authenticator
            .resolve(&scene.token, at(0))
            .await
            .unwrap()
            .is_some()
    );
    let rows = &scene.table.rows;
    rows.lock().unwrap().get_mut(&scene.token).unwrap().is_ended = true;
    scene.authenticator.changed(SessionChange::Of("1".into()));
    assert_eq!(
        scene.authenticator.resolve(&scene.token, at(1)).await.unwrap(),
        None
    );
}
