//! Connections are kept, on both sides, and a kept one that has gone bad harms no request.

use super::{in_front_of, request};
use crate::support::fake_upstream::{FakeUpstream, Heard, OK, Reply};
use crate::support::wire::{Wire, exchange};
use crate::support::world::World;

fn post(path: &str, bytes: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n{}",
        "x".repeat(bytes)
    )
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    for _ in 0..5 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
    }
    // Another client's request goes over the same connection to the app.
    assert_eq!(
        exchange(sidecar.port, request("GET /", &[], ""), false)
            .await
            .status,
        200
    );
    let before: Vec<_> = app.heard().iter().map(|request| request.before).collect();
    assert_eq!(before, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_client_that_asks_for_it_gets_its_connection_closed() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(request("GET /about/", &[], "")).await;
    assert_eq!(wire.answer().await.header("connection"), Some("close"));
    wire.closes().await;
}

/// gunicorn announces to keep a connection on which it left a large body unread, and closes it.
#[tokio::test]
async fn a_large_body_that_the_app_leaves_unread_harms_no_later_request() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    for round in 0..5 {
        wire.send(post("/about/", 100_000)).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200, "round {round}");
        // The app may answer before the whole body has come: then this connection ends, and says so.
        if answer
            .headers
            .contains(&("connection".to_owned(), "close".to_owned()))
        {
            wire = Wire::open(world.sidecar.port).await;
        }
        wire.send(post("/about/", 10)).await;
        assert_eq!(wire.answer().await.status, 200, "round {round}, the second");
        wire.send(post("/upload", 10)).await;
        assert_eq!(wire.answer().await.json()["size"], 10, "round {round}, the third");
    }
}

#[tokio::test]
async fn a_large_body_goes_over_a_connection_that_ends_with_it() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    for bytes in [100_000, 10] {
        wire.send(post("/", bytes)).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    let heard = app.heard();
    assert!(
        heard[0]
            .head
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n")
    );
    assert!(
        !heard[1]
            .head
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n")
    );
    assert_eq!(heard[1].before, 0, "a connection of its own");
}

/// Answers the first request of a connection; at the second it closes without a word.
fn goes_stale(request: &Heard) -> Reply {
    if request.before == 0 { OK } else { Reply::Close("") }
}

#[tokio::test]
async fn a_get_that_meets_a_stale_connection_is_sent_again() {
    let app = FakeUpstream::answering(goes_stale).await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    for _ in 0..5 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    let app = FakeUpstream::answering(goes_stale).await;
    let sidecar = in_front_of(&[&app], "").await;
    assert_eq!(
        exchange(sidecar.port, request("GET /", &[], ""), false)
            .await
            .status,
        200
    );
    let answer = exchange(sidecar.port, post("/once", 10), false).await;
    assert_eq!(answer.status, 502);
    let posts = app
        .heard()
        .iter()
        .filter(|request| request.target() == "POST /once")
        .count();
    assert_eq!(posts, 1);
}

#[tokio::test]
async fn a_get_that_breaks_a_fresh_connection_is_not_sent_again() {
    let app = FakeUpstream::answering(|_| Reply::Close("")).await;
    let sidecar = in_front_of(&[&app], "").await;
    assert_eq!(
        exchange(sidecar.port, request("GET /", &[], ""), false)
            .await
            .status,
        502
    );
    assert_eq!(app.heard().len(), 1);
}
