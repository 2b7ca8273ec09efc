//! Answers that come bit by bit. The site sends the next bit only when another request has told it to, so a
//! test that ends has seen each bit before the next was made.

use super::{get, unique};
use crate::support::wire::{Answer, Wire, exchange};
use crate::support::world::World;

async fn open_gate(world: &World, gate: &str) {
    let answer = exchange(world.site.port(), get(&format!("/gates/{gate}/open")), false).await;
    assert_eq!(answer.status, 204);
}

/// Reads an answer of three chunks, each before the site may send the next.
async fn chunk_by_chunk(path: &str, accept: &str) -> (Answer, Vec<String>) {
    let world = World::shared().await;
    let gate = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(format!(
        "GET {path}?n=3&gate={gate} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"
    ))
    .await;
    let head = wire.head().await;
    let mut chunks = Vec::new();
    for number in 0..3 {
        if number > 0 {
            open_gate(world, &gate).await;
        }
        let chunk = wire.chunk().await.expect("a chunk");
        chunks.push(String::from_utf8(chunk).expect("UTF-8"));
    }
    assert_eq!(wire.chunk().await, None);
    (head, chunks)
}

#[tokio::test]
async fn each_chunk_arrives_when_it_is_sent() {
    let (_, chunks) = chunk_by_chunk("/stream", "*/*").await;
    assert_eq!(chunks, ["chunk 0\n", "chunk 1\n", "chunk 2\n"]);
}

#[tokio::test]
async fn each_event_arrives_when_it_is_sent() {
    let (head, events) = chunk_by_chunk("/sse", "text/event-stream").await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(events[1], "id: 1\nevent: tick\ndata: {\"n\": 1}\n\n");
}

#[tokio::test]
async fn a_long_poll_is_answered_when_something_happens() {
    let world = World::shared().await;
    let gate = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(format!("GET /longpoll?gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    // The sidecar serves others meanwhile, on one thread.
    assert_eq!(
        exchange(world.sidecar.port, get("/about/"), false).await.status,
        200
    );
    open_gate(world, &gate).await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "{\"event\": null}"));
}
