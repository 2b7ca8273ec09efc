//! What a client gets when the app fails.

use super::{get, in_front_of, request};
use crate::support::fake_upstream::{FakeUpstream, Reply};
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Answer, Wire, exchange};
use crate::support::world::{Wanted, World};

/// The sidecar's own short page, after which the connection closes.
async fn error_page(sidecar: &Sidecar, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(request).await;
    let answer = wire.answer().await;
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("connection"), Some("close"));
    wire.closes().await;
    answer
}

#[tokio::test]
async fn without_any_server_the_answer_is_502() {
    let (one, other) = (
        FakeUpstream::answering(|_| Reply::Close("")).await,
        FakeUpstream::answering(|_| Reply::Close("")).await,
    );
    let sidecar = in_front_of(&[&one, &other], "").await;
    drop((one, other));
    let answer = error_page(&sidecar, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.text()), (502, "502 Bad Gateway\n"));
    let posted = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    assert_eq!(error_page(&sidecar, posted).await.status, 502);
}

#[tokio::test]
async fn an_app_that_takes_too_long_is_504_and_the_next_request_is_fine() {
    let world = World::shared().await;
    let mut wanted = Wanted::usual();
    wanted.upstream = "read_timeout = \"5s\"".into();
    let sidecar = world.another_sidecar(&wanted);
    let gate = uuid::Uuid::new_v4().simple();
    let poll = format!("GET /longpoll?gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = error_page(&sidecar, poll).await;
    assert_eq!((answer.status, answer.text()), (504, "504 Gateway Timeout\n"));
    let open = get(&format!("/gates/{gate}/open"));
    assert_eq!(exchange(world.site.port(), open, false).await.status, 204);
    assert_eq!(exchange(sidecar.port, get("/healthz"), false).await.status, 200);
}

#[tokio::test]
async fn garbage_instead_of_an_answer_is_502() {
    for reply in [
        (|_| Reply::Close("SSH-2.0-OpenSSH_9.6\r\n\r\n")) as fn(&_) -> Reply,
        |_| Reply::Close("\0\0\0\0"),
        |_| Reply::Close("HTTP/1.1 banana\r\n\r\n"),
        |_| Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        |_| Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello"),
        // Closed before, within, and instead of the head.
        |_| Reply::Close(""),
        |_| Reply::Close("HTTP/1.1 200 OK\r\nContent-Le"),
        |_| Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"),
    ] {
        let app = FakeUpstream::answering(reply).await;
        let sidecar = in_front_of(&[&app], "").await;
        let answer = error_page(&sidecar, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!((answer.status, answer.text()), (502, "502 Bad Gateway\n"));
        assert_eq!(app.heard().len(), 1, "sent once");
    }
}

/// A client must see that something is missing: the connection closes before the announced end.
#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let app = FakeUpstream::answering(|request| {
        if request.head.starts_with("GET /chunked") {
            Reply::Close("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        } else {
            Reply::Close("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        }
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(get("/")).await;
    assert_eq!(wire.head().await.header("content-length"), Some("10"));
    assert_eq!(wire.rest().await, b"hello");
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(get("/chunked")).await;
    assert_eq!(wire.head().await.header("transfer-encoding"), Some("chunked"));
    let body = wire.rest().await;
    assert!(
        body.starts_with(b"5\r\nhello\r\n") && !body.ends_with(b"0\r\n\r\n"),
        "{}",
        body.escape_ascii()
    );
}

#[tokio::test]
async fn hop_by_hop_headers_of_answers_end_here() {
    let app = FakeUpstream::answering(|_| {
        Reply::Close(
            "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
             Proxy-Connection: close\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
        )
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = wire.answer().await;
        assert_eq!(
            (answer.header("x-hop"), answer.header("x-end")),
            (None, Some("1"))
        );
        assert_eq!(answer.header("proxy-connection"), None);
        assert_ne!(
            answer.header("connection"),
            Some("close"),
            "the app's connection is not the client's"
        );
    }
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_the_apps_connection() {
    let app = FakeUpstream::answering(|_| Reply::Close("HTTP/1.0 200 OK\r\n\r\nuntil the end")).await;
    let sidecar = in_front_of(&[&app], "").await;
    let answer = exchange(sidecar.port, request("GET /", &[], ""), false).await;
    assert_eq!((answer.status, answer.text()), (200, "until the end"));
}
