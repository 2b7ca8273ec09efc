//! HTTP/1.0 on either side of HTTP/1.1.

use serde_json::{Value, json};

use super::before;
use crate::fidelity::in_front_of;
use crate::support::asgi::Asgi;
use crate::support::fake_upstream::{FakeUpstream, OK, Reply};
use crate::support::haproxy::HaProxy;
use crate::support::wire::{Wire, exchange};

fn header<'e>(echo: &'e Value, name: &str) -> Vec<&'e str> {
    let headers = echo["headers"].as_array().expect("headers");
    let named = headers.iter().filter(|header| header[0] == name);
    named.filter_map(|header| header[1].as_str()).collect()
}

#[tokio::test]
async fn e19_http_1_0_without_host_reaches_the_app_as_http_1_1_with_one() {
    for server in ["uvicorn", "hypercorn"] {
        let app = Asgi::start(server);
        let sidecar = before(&app, "").await;
        let answer = exchange(sidecar.port, "GET /a HTTP/1.0\r\n\r\n", false).await;
        assert_eq!(answer.status, 200, "{server}: {}", answer.text());
        assert_eq!(header(&answer.json(), "host"), ["localhost"], "{server}");
        // Its own counts, and so does an absolute target's.
        for request in [
            "GET /a HTTP/1.0\r\nHost: site.test\r\n\r\n",
            "GET http://site.test/a HTTP/1.0\r\n\r\n",
        ] {
            let echo = exchange(sidecar.port, request, false).await.json();
            assert_eq!(
                (header(&echo, "host"), &echo["path"]),
                (vec!["site.test"], &json!("/a")),
                "{server}"
            );
        }
    }
}

/// The check that `HAProxy` makes unless told otherwise: `OPTIONS / HTTP/1.0` without a Host.
#[tokio::test]
async fn e19_haproxys_default_check_finds_the_sidecar_up() {
    let app = Asgi::start("uvicorn");
    let sidecar = before(&app, "").await;
    let proxy = HaProxy::start(
        sidecar.port,
        "option httpchk\ntimeout check 30s\ndefault-server check inter 3s\nstats enable\nstats uri /haproxy",
    );
    let mut states = String::new();
    let checked = async {
        loop {
            let request = "GET /haproxy;csv HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let table = exchange(proxy.port(), request, false).await;
            let line = table
                .text()
                .lines()
                .find(|line| line.starts_with("site,sidecar,"));
            line.expect("the server's line").clone_into(&mut states);
            // What the last check came to, once there was one.
            if states.contains(",L7") {
                break;
            }
            tokio::time::sleep(crate::support::service::BETWEEN_LOOKS).await;
        }
    };
    crate::support::service::in_time("a check", checked).await;
    assert!(states.contains(",UP,") && states.contains(",L7OK,"), "{states}");
}

/// HTTP/1.0 has no interim answers: such a client would take one for the answer.
#[tokio::test]
async fn e19_a_client_of_http_1_0_gets_no_interim_answers() {
    let app = FakeUpstream::answering(|_| {
        Reply::Keep(
            "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.status, 200);
    assert!(!app.heard()[0].head.to_ascii_lowercase().contains("expect"));
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.head().await.status, 103);
}

/// The app's version says what it speaks to us, not what we speak to the client.
#[tokio::test]
async fn e19_an_app_of_http_1_0_is_answered_for_in_http_1_1() {
    let app =
        FakeUpstream::answering(|_| Reply::Close("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")).await;
    let sidecar = in_front_of(&[&app], "").await;
    let mut wire = Wire::open(sidecar.port).await;
    // On one connection, which only HTTP/1.1 keeps without a word.
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = wire.take("HTTP/1.1 200 OK\r\n".len()).await;
        assert_eq!(head, b"HTTP/1.1 200 OK\r\n");
        while !wire.take(1).await.ends_with(b"o") || wire.take(1).await != b"k" {}
    }
}

#[tokio::test]
async fn e19_a_length_that_is_said_twice_is_passed_on_once() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    for framing in ["Content-Length: 5, 5", "Content-Length: 5\r\nContent-Length: 5"] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\nhello");
        assert_eq!(
            exchange(sidecar.port, request, false).await.status,
            200,
            "{framing}"
        );
        let head = app.heard().pop().expect("a request").head.to_ascii_lowercase();
        let lengths: Vec<_> = head
            .lines()
            .filter(|line| line.starts_with("content-length"))
            .collect();
        assert_eq!(lengths, ["content-length: 5"], "{framing}");
    }
}
