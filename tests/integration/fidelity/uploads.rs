//! Large bodies, both ways: byte for byte, and never held back until they are complete.

use serde_json::{Value, json};

use super::{get, unique};
use crate::support::wire::{Wire, exchange};
use crate::support::world::World;

const SIZE: usize = 50 * 1024 * 1024;

/// What the site says of its file of [`SIZE`] bytes, and the file.
async fn file(world: &World) -> (Value, Vec<u8>) {
    let direct = exchange(world.site.port(), get(&format!("/download?size={SIZE}")), false).await;
    let digest = exchange(
        world.site.port(),
        get(&format!("/download/sha256?size={SIZE}")),
        false,
    )
    .await;
    (digest.json(), direct.body)
}

#[tokio::test]
async fn fifty_mebibytes_come_down_unchanged() {
    let world = World::shared().await;
    let (digest, file) = file(world).await;
    let through = exchange(world.sidecar.port, get(&format!("/download?size={SIZE}")), false).await;
    assert_eq!(through.header("content-length"), Some(SIZE.to_string().as_str()));
    assert_eq!(through.header("x-content-sha256"), digest["sha256"].as_str());
    assert!(through.body == file, "the bodies differ");
}

#[tokio::test]
async fn fifty_mebibytes_go_up_unchanged_and_begin_to_arrive_before_the_last_is_sent() {
    let world = World::shared().await;
    let (digest, file) = file(world).await;
    let gate = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(format!(
        "POST /upload?opens={gate} HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"
    ))
    .await;
    wire.send(&file[..200_000]).await;
    // Answered once the site has read the first part.
    let arrived = exchange(world.sidecar.port, get(&format!("/gates/{gate}/wait")), false).await;
    assert_eq!(arrived.status, 204);
    wire.send(&file[200_000..]).await;
    assert_eq!(wire.answer().await.json(), digest);
}

#[tokio::test]
async fn chunked_bodies_go_up_unchanged_and_chunk_by_chunk() {
    let world = World::shared().await;
    let gate = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(format!(
        "POST /upload?opens={gate} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    ))
    .await;
    let file = exchange(world.site.port(), get("/download?size=300000"), false)
        .await
        .body;
    let (first, rest) = file.split_at(100_000);
    wire.send(chunk(first)).await;
    let arrived = exchange(world.sidecar.port, get(&format!("/gates/{gate}/wait")), false).await;
    assert_eq!(arrived.status, 204);
    // Of every size, with an extension and a trailer.
    let mut at = 0;
    for size in [1, 2, 15, 16, 17, 65_535, 65_536, 1, 60_000] {
        wire.send(chunk(&rest[at..at + size])).await;
        at += size;
    }
    let last = &rest[at..];
    wire.send(format!("{:X};name=\"value\"\r\n", last.len())).await;
    wire.send(last).await;
    wire.send("\r\n0\r\n\r\n").await;
    let digest = exchange(world.site.port(), get("/download/sha256?size=300000"), false)
        .await
        .json();
    assert_eq!(wire.answer().await.json(), digest);
}

#[tokio::test]
async fn an_empty_body_is_empty_however_it_is_framed() {
    let world = World::shared().await;
    for framing in [
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        for port in [world.site.port(), world.sidecar.port] {
            let bytes = format!("POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}");
            assert_eq!(
                exchange(port, bytes, false).await.json()["size"],
                json!(0),
                "{framing}"
            );
        }
    }
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}
