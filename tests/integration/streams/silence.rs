//! How long either side may be silent: what the app answers decides, not what the client's head says.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::support::fake_upstream::{FakeUpstream, OK, Reply};
use crate::support::proxy::Proxy;
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, exchange};
use crate::support::world::{Wanted, World};

/// What makes a tunnel of a request where its head is believed.
const CLAIMS: [&str; 4] = [
    "",
    "Accept: text/event-stream\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Accept: text/event-stream\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
];

fn unique() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A sidecar with these keys of `[upstream]` and `[limits]` in front of the shared site.
async fn sidecar(upstream: &str, limits: &str) -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.upstream = upstream.into();
    wanted.config = format!("[limits]\n{limits}\n");
    World::shared().await.another_sidecar(&wanted)
}

/// A timeout of the app's silence in which a busy site answers.
const SILENCE: &str = "read_timeout = \"5s\"";

/// Lets more time pass than [`SILENCE`] allows: the site's own, not this test's.
async fn time_passes(world: &World) {
    let slow = "GET /slow?ms=7000 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchange(world.site.port(), slow, false).await.status, 200);
}

async fn open(world: &World, gate: &str) {
    let open = format!("GET /gates/{gate}/open HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(exchange(world.site.port(), open, false).await.status, 204);
}

#[tokio::test]
async fn e4_an_event_stream_of_the_app_may_be_silent_whatever_the_client_accepts() {
    let world = World::shared().await;
    let sidecar = sidecar(SILENCE, "").await;
    let mut streams = Vec::new();
    for accept in [
        "",
        "Accept: */*\r\n",
        "Accept: application/json, text/event-stream\r\n",
        "Accept: text/event-stream\r\n",
    ] {
        let gate = unique();
        let mut wire = Wire::open(sidecar.port).await;
        let get = format!("GET /sse?n=2&gate={gate} HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
        wire.send(get).await;
        assert_eq!(wire.head().await.status, 200);
        assert!(wire.chunk().await.expect("an event").starts_with(b"id: 0"));
        streams.push((accept, gate, wire));
    }
    time_passes(world).await;
    for (accept, gate, mut wire) in streams {
        open(world, &gate).await;
        let event = wire.chunk().await.expect("another event");
        assert!(event.starts_with(b"id: 1"), "{accept}");
        assert_eq!(wire.chunk().await, None);
    }
}

#[tokio::test]
async fn e4_an_event_stream_ends_after_the_timeout_of_tunnels() {
    let gate = unique();
    let sidecar = sidecar("read_timeout = \"1s\"\ntunnel_timeout = \"1s\"", "").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(format!("GET /sse?n=2&gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    assert_eq!(wire.head().await.status, 200);
    assert!(wire.chunk().await.is_some());
    wire.closes().await;
    open(World::shared().await, &gate).await;
}

#[tokio::test]
async fn e4_no_head_makes_an_app_that_is_silent_wait_longer() {
    let world = World::shared().await;
    let sidecar = sidecar(SILENCE, "").await;
    let waits = async |claim: &str| {
        // Before the answer …
        let gate = unique();
        let poll = format!("GET /longpoll?gate={gate} HTTP/1.1\r\nHost: a\r\n{claim}\r\n");
        let answer = exchange(sidecar.port, poll, false).await;
        assert_eq!(
            (answer.status, answer.text()),
            (504, "504 Gateway Timeout\n"),
            "{claim}"
        );
        open(world, &gate).await;
        // … and within it.
        let gate = unique();
        let mut wire = Wire::open(sidecar.port).await;
        let get = format!("GET /stream?n=2&gate={gate} HTTP/1.1\r\nHost: a\r\n{claim}\r\n");
        wire.send(get).await;
        assert_eq!(wire.head().await.status, 200, "{claim}");
        assert!(wire.chunk().await.is_some());
        wire.closes().await;
        open(world, &gate).await;
    };
    join_all(CLAIMS.map(waits)).await;
    // It is the app's fault, not the client's.
    sidecar.says("a request could not be proxied status=504 kind=\"ReadTimedout\" source=\"Upstream\"");
}

#[tokio::test]
async fn e5_no_head_lets_a_body_be_late() {
    let sidecar = sidecar("", "read_timeout = \"1s\"").await;
    for claim in CLAIMS {
        for method in ["POST", "GET"] {
            let mut wire = Wire::open(sidecar.port).await;
            wire.send(format!(
                "{method} /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n{claim}\r\nhalf"
            ))
            .await;
            let answer = wire.answer().await;
            assert_eq!(answer.status, 408, "{method} {claim}");
            wire.closes().await;
        }
    }
}

#[tokio::test]
async fn e5_who_waits_to_be_told_to_go_on_is_not_late() {
    // The app does not say that it wants the body: it is the app that is waited for.
    let app = FakeUpstream::answering(|_| OK).await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    wanted.upstream = "read_timeout = \"1s\"".into();
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(exchange(sidecar.port, post, false).await.status, 504);
}

/// Its patience is the client's own affair until then, however little of it `limits.read_timeout` grants.
#[tokio::test]
async fn e21_who_waits_to_be_told_to_go_on_may_wait_for_as_long_as_the_app_may_take() {
    let app = FakeUpstream::answering(|_| OK).await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    wanted.upstream = "read_timeout = \"2s\"".into();
    wanted.config = "[limits]\nread_timeout = \"1s\"".into();
    let world = World::shared().await;
    let sidecar = world.another_sidecar(&wanted);
    let post = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(exchange(sidecar.port, post, false).await.status, 504);
    // It sent something all the same: the rest is awaited like anybody's.
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(format!("{post}half")).await;
    assert_eq!(wire.answer().await.status, 408);

    // An app that is slow to say so.
    let far = Proxy::before(world.site.port()).await;
    far.is_far(Duration::from_millis(1_500));
    wanted.servers = Some(vec![format!("127.0.0.1:{}", far.port())]);
    wanted.upstream = String::new();
    let sidecar = world.another_sidecar(&wanted);
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(post).await;
    assert_eq!(wire.head().await.status, 100);
    wire.send("all of it.").await;
    assert_eq!(wire.answer().await.json()["size"], 10);
    // Once it was told to go on, its silence is its own.
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(post).await;
    assert_eq!(wire.head().await.status, 100);
    wire.send("half").await;
    assert_eq!(wire.answer().await.status, 408);
}

/// Nor is anything expected of a client that was answered instead of being told to go on.
#[tokio::test]
async fn e21_an_answer_instead_of_being_told_to_go_on_comes_to_its_end() {
    let app = FakeUpstream::answering(|request| {
        if request.target() == "GET /healthz" {
            return OK;
        }
        let early = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nno";
        Reply::Early(early, Duration::from_secs(2), "no")
    })
    .await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    wanted.config = "[limits]\nread_timeout = \"1s\"".into();
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.status, 103);
    assert_eq!(wire.head().await.status, 403);
    assert_eq!(wire.take(4).await, b"nono");
}

/// The sidecar's own API answers itself, whatever the app does.
#[tokio::test]
async fn e21_who_reports_a_view_is_told_to_go_on() {
    let world = World::shared().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send("POST /api/visits HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(wire.head().await.status, 100);
    wire.send("{}").await;
    // It comes from nowhere.
    assert_eq!(wire.answer().await.status, 403);
}

/// The time in which a client sends nothing, or reads nothing, is not the app's.
#[tokio::test]
async fn e4_a_slow_client_is_not_a_silent_app() {
    let world = World::shared().await;
    let sidecar = sidecar(SILENCE, "").await;
    let mut slow = Wire::open(sidecar.port).await;
    slow.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        .await;
    let mut deaf = Wire::open(sidecar.port).await;
    deaf.send("GET /download?size=52428800 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(deaf.head().await.status, 200);
    time_passes(world).await;
    slow.send("after").await;
    assert_eq!(slow.answer().await.json()["size"], 10);
    assert_eq!(deaf.take(52_428_800).await.len(), 52_428_800);
    // The connection is as good as before.
    slow.send("GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(slow.answer().await.status, 200);
}

/// What passes through a tunnel is no body of a request.
#[tokio::test]
async fn e6_a_web_socket_carries_more_than_the_largest_body() {
    let sidecar = sidecar("", "max_body_bytes = \"10KiB\"").await;
    let url = format!("ws://127.0.0.1:{}/ws/echo", sidecar.port);
    let (mut socket, _) = connect_async(url).await.expect("a handshake");
    let text = "x".repeat(8 * 1024);
    for _ in 0..5 {
        socket.send(Message::text(&text)).await.expect("an open socket");
        let answer = in_time("an answer", socket.next()).await;
        let answer = answer.expect("an open socket").expect("a message");
        assert!(answer == Message::text(&text), "it differs");
    }
}

/// An app that stops while a body is sent to it is not waited for, however much of the body has not been read.
#[tokio::test]
async fn e4_an_app_that_no_longer_reads_a_body_is_not_waited_for() {
    let app = FakeUpstream::answering(|request| match request.target() {
        "POST /upload" => Reply::Early("", Duration::from_secs(3600), ""),
        _ => OK,
    })
    .await;
    let mut wanted = Wanted::usual();
    wanted.servers = Some(vec![app.address()]);
    wanted.upstream = "read_timeout = \"1s\"\nwrite_timeout = \"1s\"\ntunnel_timeout = \"1s\"".into();
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let body = vec![b'x'; 24 << 20];
    for framing in [
        format!("Content-Length: {}\r\n\r\n", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()),
    ] {
        let mut wire = Wire::open(sidecar.port).await;
        wire.send(format!("POST /upload HTTP/1.1\r\nHost: a\r\n{framing}"))
            .await;
        // It is cut off where the answer comes before all is sent.
        in_time("the end of the sending", wire.try_send(&body)).await;
        if let Some(answer) = wire.try_head().await {
            assert_eq!(answer.status, 504, "{framing}");
        }
        drop(wire);
        let connections = "headcount_connections";
        sidecar.wait_for_metric(connections, |open| open == 0.0).await;
    }
}
