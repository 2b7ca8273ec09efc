//! Where a request ends: what one side takes for a body the other must not take for a request (smuggling).
//! The site counts what reaches it.

use super::{attack, refused, unharmed, unique, world};
use crate::support::wire::Wire;

/// A request for a tally, to be hidden in something else.
fn hidden(name: &str) -> String {
    format!("GET /tally/{name} HTTP/1.1\r\nHost: site.test\r\n\r\n")
}

#[tokio::test]
async fn contradicting_lengths_are_refused_or_end_the_connection() {
    let world = world().await;
    let name = unique();
    let hidden = hidden(&name);
    for framing in [
        "Content-Length: x",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 0x10",
        "Content-Length: 1e2",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length : 5",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\x0b",
        " Transfer-Encoding: chunked",
    ] {
        let bytes = format!("POST /upload HTTP/1.1\r\nHost: site.test\r\n{framing}\r\n\r\n{hidden}");
        refused(world, bytes, 400).await;
    }
    let old = format!("POST /upload HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}");
    refused(world, old, 400).await;
    assert_eq!(world.site.tally(&name).await, 0);
    unharmed(world).await;
}

/// RFC 9112, 6.1: chunks count, and the connection ends with the request.
#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let world = world().await;
    let name = unique();
    let hidden = hidden(&name);
    for (framing, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "Content-Length: 500\r\nTransfer-Encoding: Chunked",
            "1;x=y\r\na\r\n0\r\n\r\n",
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\nContent-Length: 0",
            "0\r\n\r\n",
        ),
    ] {
        let bytes = format!("POST /upload HTTP/1.1\r\nHost: site.test\r\n{framing}\r\n\r\n{body}");
        for bytes in [bytes.clone() + &hidden, bytes] {
            let mut wire = Wire::open(world.sidecar.port).await;
            wire.try_send(bytes).await;
            wire.try_answer(false).await;
            wire.closes().await;
        }
    }
    assert_eq!(world.site.tally(&name).await, 0);
    unharmed(world).await;
}

#[tokio::test]
async fn garbage_instead_of_chunks_smuggles_nothing() {
    let world = world().await;
    let name = unique();
    let hidden = hidden(&name);
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\n\r\n",
        "5\r\nhello\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let bytes = format!(
            "POST /upload HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{hidden}"
        );
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.try_send(bytes).await;
        wire.finish().await;
        let rest = wire.rest().await;
        assert!(
            !rest.windows(12).any(|window| window == b"HTTP/1.1 200"),
            "{}",
            rest.escape_ascii()
        );
    }
    assert_eq!(world.site.tally(&name).await, 0);
    unharmed(world).await;
}

#[tokio::test]
async fn a_request_within_a_body_is_a_body() {
    let world = world().await;
    let name = unique();
    let hidden = hidden(&name);
    for (line, framing, body) in [
        (
            "POST /upload",
            format!("Content-Length: {}", hidden.len()),
            hidden.clone(),
        ),
        (
            "GET /about/",
            format!("Content-Length: {}", hidden.len()),
            hidden.clone(),
        ),
        (
            "GET /about/",
            "Transfer-Encoding: chunked".into(),
            format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
        ),
        (
            "HEAD /about/",
            format!("Content-Length: {}", hidden.len()),
            hidden.clone(),
        ),
        (
            "DELETE /nowhere/",
            format!("Content-Length: {}", hidden.len()),
            hidden.clone(),
        ),
        (
            "GET /api/visitors/counts",
            format!("Content-Length: {}", hidden.len()),
            hidden.clone(),
        ),
    ] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.try_send(format!(
            "{line} HTTP/1.1\r\nHost: site.test\r\n{framing}\r\n\r\n{body}"
        ))
        .await;
        assert!(
            wire.try_answer(line.starts_with("HEAD")).await.is_some(),
            "{line}"
        );
        // The connection may serve a next request, or end; it must not serve the hidden one.
        wire.try_send("GET /healthz HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
            .await;
        if let Some(answer) = wire.try_answer(false).await {
            assert_eq!(answer.text(), "ok\n", "{line}");
        }
    }
    assert_eq!(world.site.tally(&name).await, 0);
    unharmed(world).await;
}

/// CVE-2026-2833: bytes after an upgrade request went on raw before the app had agreed to upgrade.
#[tokio::test]
async fn bytes_after_an_upgrade_request_do_not_reach_the_app_before_it_agrees() {
    let world = world().await;
    let name = unique();
    for (path, upgrade) in [
        (
            "/about/",
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
        ("/about/", "Upgrade: anything\r\nConnection: Upgrade"),
        (
            "/upload",
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        ),
        ("/ws/echo", "Upgrade: anything"),
    ] {
        let bytes = format!(
            "GET {path} HTTP/1.1\r\nHost: site.test\r\n{upgrade}\r\n\r\n{}",
            hidden(&name)
        );
        let answer = attack(world.sidecar.port, bytes).await;
        assert!(answer.is_none_or(|answer| answer.status != 101), "{path}");
    }
    assert_eq!(world.site.tally(&name).await, 0);
    unharmed(world).await;
}

#[tokio::test]
async fn pipelined_requests_are_each_themselves() {
    let world = world().await;
    let name = unique();
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.try_send(format!(
        "GET /healthz HTTP/1.1\r\nHost: site.test\r\n\r\n{}",
        hidden(&name)
    ))
    .await;
    assert_eq!(wire.answer().await.text(), "ok\n");
    assert_eq!(wire.answer().await.text(), "1");
    assert_eq!(world.site.tally(&name).await, 1);
    unharmed(world).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_reaches_nobody_as_complete() {
    let world = world().await;
    for framing in [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(format!("POST /upload HTTP/1.1\r\nHost: site.test\r\n{framing}"))
            .await;
        wire.finish().await;
        let rest = wire.rest().await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", rest.escape_ascii());
    }
    unharmed(world).await;
}
