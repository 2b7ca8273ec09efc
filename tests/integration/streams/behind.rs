//! Bytes that follow a request while it is under way: they never harm it, and what they say is heard after it.

use crate::support::wire::{Wire, exchange};
use crate::support::world::{Wanted, World};

const ABOUT: &str = "GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n";

fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A request that the site answers when the gate is opened.
fn waiting(gate: &str) -> String {
    format!("GET /longpoll?gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Opens a gate, past the sidecar.
async fn open(world: &World, gate: &str) {
    let open = format!("GET /gates/{gate}/open HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(exchange(world.site.port(), open, false).await.status, 204);
}

/// Sends these while a request is under way, and awaits its answer.
async fn while_waiting(world: &World, behind: impl AsRef<[u8]>) -> Wire {
    let gate = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(waiting(&gate)).await;
    wire.send(behind).await;
    // The sidecar has had time to see them when it has served somebody else.
    assert_eq!(exchange(world.sidecar.port, ABOUT, false).await.status, 200);
    open(world, &gate).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "{\"event\": null}"));
    wire
}

#[tokio::test]
async fn e3_an_empty_line_while_a_request_is_under_way_harms_nothing() {
    let world = World::shared().await;
    let mut wire = while_waiting(world, "\r\n").await;
    wire.send(ABOUT).await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn e3_a_request_that_comes_while_another_is_under_way_is_answered_after_it() {
    let world = World::shared().await;
    let mut wire = while_waiting(world, ABOUT.repeat(3)).await;
    for _ in 0..3 {
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("About"));
    }
    // More than is held for anybody.
    let body = "x".repeat(300_000);
    let upload = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}");
    let mut wire = while_waiting(world, upload).await;
    assert_eq!(wire.answer().await.json()["size"], 300_000);
}

#[tokio::test]
async fn e3_an_empty_line_behind_a_body_harms_nothing() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    for _ in 0..3 {
        wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok\r\n")
            .await;
        assert_eq!(wire.answer().await.json()["size"], 2);
        wire.send(
            "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
        )
        .await;
        assert_eq!(wire.answer().await.json()["size"], 2);
    }
}

#[tokio::test]
async fn e3_requests_sent_at_once_are_answered_one_after_the_other() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    let count = "GET /api/visitors/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n";
    let upload = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
    let last = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    wire.send(format!("{ABOUT}{count}{upload}{count}{last}")).await;
    assert!(wire.answer().await.text().contains("About"));
    assert!(wire.answer().await.text().contains("openapi"));
    assert_eq!(wire.answer().await.json()["size"], 2);
    assert!(wire.answer().await.text().contains("openapi"));
    assert_eq!(wire.answer().await.text(), "ok\n");
    wire.closes().await;
}

/// Nor is it worth a line of the log.
#[tokio::test]
async fn e3_a_client_that_leaves_before_its_request_is_complete_is_nobodys_error() {
    let mut wanted = Wanted::usual();
    // Fewer than any limit of open files allows: that would be worth a line.
    wanted.config = "[limits]\nmax_connections = 100".into();
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let closed = "headcount_connections";
    for start in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n"] {
        let mut fresh = Wire::open(sidecar.port).await;
        fresh.send(start).await;
        let mut kept = Wire::open(sidecar.port).await;
        kept.send(format!(
            "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok{start}"
        ))
        .await;
        assert_eq!(kept.answer().await.json()["size"], 2);
        fresh.finish().await;
        kept.finish().await;
        fresh.closes().await;
        kept.closes().await;
        sidecar.wait_for_metric(closed, |open| open == 0.0).await;
    }
    let log = sidecar.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

/// Whoever leaves is not worked for, also when something was sent before.
#[tokio::test]
async fn e3_a_client_that_leaves_is_noticed_behind_what_it_sent() {
    let world = World::shared().await;
    let sidecar = world.another_sidecar(&Wanted::usual());
    let gate = unique();
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(waiting(&gate)).await;
    wire.send("\r\n").await;
    let open = "headcount_connections";
    sidecar.wait_for_metric(open, |open| open == 1.0).await;
    drop(wire);
    sidecar.wait_for_metric(open, |open| open == 0.0).await;
    self::open(world, &gate).await;
}
