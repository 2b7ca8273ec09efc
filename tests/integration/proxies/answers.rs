//! Answers that app servers give and clients stumble over.

use super::get;
use crate::fidelity::in_front_of;
use crate::support::fake_upstream::{FakeUpstream, Reply};
use crate::support::wire::{Wire, exchange};

/// Nothing follows these, so nothing is said of how it is framed.
#[tokio::test]
async fn e19_answers_without_a_body_say_nothing_of_one() {
    for reply in [
        (|_| Reply::Keep("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")) as fn(&_) -> Reply,
        |_| Reply::Close("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
        |_| Reply::Keep("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let app = FakeUpstream::answering(reply).await;
        let sidecar = in_front_of(&[&app], "").await;
        let mut wire = Wire::open(sidecar.port).await;
        for _ in 0..2 {
            wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let head = wire.head().await;
            assert!(matches!(head.status, 204 | 304));
            assert_eq!(head.header("transfer-encoding"), None);
            assert_eq!(head.header("content-length"), None);
        }
    }
}

#[tokio::test]
async fn e19_an_answers_length_that_is_said_twice_is_passed_on_once() {
    let app = FakeUpstream::answering(|_| {
        Reply::Keep("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let answer = exchange(sidecar.port, get("/"), false).await;
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        (Some("2"), "ok")
    );
}

/// A reason phrase is decoration: one that is not ASCII is left out, and the answer is as good.
#[tokio::test]
async fn e19_a_reason_phrase_that_is_not_ascii_costs_nothing() {
    let app = FakeUpstream::answering(|_| {
        Reply::KeepBytes(
            b"HTTP/1.1 404 Seite nicht gefunden \xe2\x80\x93 \xfcber\r\nContent-Length: 2\r\n\r\nno",
        )
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let answer = exchange(sidecar.port, get("/"), false).await;
    assert_eq!((answer.status, answer.text()), (404, "no"));
}

/// More than the parser takes: the app's fault, and told as one.
#[tokio::test]
async fn e18_an_answer_with_more_than_256_headers_is_502() {
    let app = FakeUpstream::answering(|request| {
        let count = if request.head.starts_with("GET /many") {
            255
        } else {
            300
        };
        let headers = "Set-Cookie: a=b\r\n".repeat(count);
        Reply::KeepBytes(
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{headers}\r\nok")
                .into_bytes()
                .leak(),
        )
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    assert_eq!(exchange(sidecar.port, get("/many"), false).await.status, 200);
    assert_eq!(exchange(sidecar.port, get("/more"), false).await.status, 502);
}
