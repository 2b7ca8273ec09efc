//! Too much, too slowly, too many (promise 6).

use super::{Wanted, Wire, World, refused, unharmed, unique, world};
use crate::support::sidecar::Sidecar;
use crate::support::wire::exchange;

async fn limited(limits: &str) -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.config = format!("[limits]\n{limits}");
    World::shared().await.another_sidecar(&wanted)
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let sidecar = limited("header_timeout = \"1s\"").await;
    for start in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut wire = Wire::open(sidecar.port).await;
        wire.send(start).await;
        wire.closes().await;
    }
    // Nor does a byte now and then keep it open: each is sooner than the deadline, the head is not.
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    let drip = async {
        loop {
            wire.try_send("x").await;
            // The attacker's pace; nothing waits for it.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            if wire.is_closed() {
                break;
            }
        }
    };
    tokio::time::timeout(crate::support::service::LONGEST_WAIT, drip)
        .await
        .expect("the connection ends");
}

#[tokio::test]
async fn a_body_that_never_comes_ends_the_connection() {
    let sidecar = limited("read_timeout = \"1s\"").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    assert_eq!(wire.answer().await.status, 408);
    wire.closes().await;
}

#[tokio::test]
async fn an_idle_connection_is_not_kept_for_ever() {
    let sidecar = limited("keepalive_timeout = \"1s\"").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    wire.closes().await;
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_and_counted_and_it_recovers() {
    let sidecar = limited("max_connections = 3").await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(sidecar.port).await;
        wire.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
        open.push(wire);
    }
    sidecar
        .wait_for_metric("headcount_connections", |open| open >= 3.0)
        .await;
    let before = sidecar.metric("headcount_connections_refused_total").await;
    Wire::open(sidecar.port).await.closes().await;
    let refused = "headcount_connections_refused_total";
    sidecar.wait_for_metric(refused, |refused| refused > before).await;
    // Those that are open go on, and each that ends makes room.
    open[0].send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(open[0].answer().await.status, 200);
    open.clear();
    sidecar
        .wait_for_metric("headcount_connections", |open| open == 0.0)
        .await;
    let request = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchange(sidecar.port, request, false).await.status, 200);
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_announced_or_not() {
    let world = world().await;
    let post = |framing: &str| format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    // Before any of it was sent, also to those who ask first.
    refused(world, post("Content-Length: 102401"), 413).await;
    refused(world, post("Content-Length: 102401\r\nExpect: 100-continue"), 413).await;
    let chunk = format!("c800\r\n{}\r\n", "x".repeat(51_200));
    let chunked = |count: usize| format!("{}{}", post("Transfer-Encoding: chunked"), chunk.repeat(count));
    refused(world, chunked(2) + "1\r\nx\r\n", 413).await;
    // Up to the limit all is well.
    let whole = chunked(2) + "0\r\n\r\n";
    assert_eq!(
        exchange(world.sidecar.port, whole, false).await.json()["size"],
        102_400
    );
    let announced = post("Content-Length: 102400") + &"x".repeat(102_400);
    assert_eq!(exchange(world.sidecar.port, announced, false).await.status, 200);
    unharmed(world).await;
}

#[tokio::test]
async fn a_refused_request_reaches_no_app() {
    let world = world().await;
    let name = unique();
    let bytes = format!("POST /tally/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 102401\r\n\r\n");
    refused(world, bytes, 413).await;
    assert_eq!(world.site.tally(&name).await, 0);
}
