//! Upgraded connections: `WebSockets` pass through, anything else is an ordinary request.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{in_front_of, request, unchanged};
use crate::support::fake_upstream::{FakeUpstream, OK, Reply};
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, exchange};
use crate::support::world::{Wanted, World};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn socket(sidecar: &Sidecar) -> Socket {
    let mut handshake = format!("ws://127.0.0.1:{}/ws/echo?q=1", sidecar.port)
        .into_client_request()
        .expect("a URL");
    let headers = handshake.headers_mut();
    headers.insert("origin", "http://site.test".parse().expect("a value"));
    headers.insert("cookie", "a=1".parse().expect("a value"));
    headers.insert("remote-user", "mallory".parse().expect("a value"));
    let (socket, response) = connect_async(handshake).await.expect("a handshake");
    assert_eq!(response.status(), 101);
    socket
}

async fn answer(socket: &mut Socket, message: impl Into<Message>) -> Message {
    socket.send(message.into()).await.expect("an open socket");
    socket.next().await.expect("an open socket").expect("a message")
}

#[tokio::test]
async fn messages_of_every_kind_and_size_pass() {
    let mut socket = socket(&World::shared().await.sidecar).await;
    assert_eq!(
        answer(&mut socket, "text \u{1f600}").await,
        Message::text("text \u{1f600}")
    );
    assert_eq!(answer(&mut socket, "").await, Message::text(""));
    let binary: Vec<u8> = (0..=255).collect();
    assert_eq!(answer(&mut socket, binary.clone()).await, Message::binary(binary));
    let large = "x".repeat(4 * 1024 * 1024);
    assert!(
        answer(&mut socket, large.clone()).await == Message::text(large),
        "the large one differs"
    );
    assert_eq!(
        answer(&mut socket, Message::Ping("p".into())).await,
        Message::Pong("p".into())
    );
    socket
        .send(Message::text("burst 100"))
        .await
        .expect("an open socket");
    for number in 0..100 {
        let message = socket.next().await.expect("an open socket").expect("a message");
        assert_eq!(message, Message::text(number.to_string()));
    }
}

#[tokio::test]
async fn the_close_code_passes_both_ways() {
    let world = World::shared().await;
    let mut closed_by_app = socket(&world.sidecar).await;
    let Message::Close(Some(frame)) = answer(&mut closed_by_app, "close 4001").await else {
        panic!("no close frame");
    };
    assert_eq!(
        (frame.code, frame.reason.as_str()),
        (CloseCode::Library(4001), "as asked")
    );
    let mut closed_by_client = socket(&world.sidecar).await;
    assert_eq!(
        answer(&mut closed_by_client, "hello").await,
        Message::text("hello")
    );
    let frame = CloseFrame {
        code: CloseCode::Library(4002),
        reason: "bye".into(),
    };
    closed_by_client
        .close(Some(frame.clone()))
        .await
        .expect("an open socket");
    // The site answers with what it got.
    let end = closed_by_client.next().await.expect("an open socket");
    assert_eq!(end.expect("a close frame"), Message::Close(Some(frame)));
    assert!(closed_by_client.next().await.is_none(), "the connection ends");
}

#[tokio::test]
async fn the_handshake_has_the_same_headers_as_any_request() {
    let mut socket = socket(&World::shared().await.sidecar).await;
    let Message::Text(text) = answer(&mut socket, "headers").await else {
        panic!("no text");
    };
    let headers: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(headers["HTTP_ORIGIN"], "http://site.test");
    assert_eq!(headers["HTTP_COOKIE"], "a=1");
    assert_eq!(headers["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!(headers["HTTP_REMOTE_USER"], Value::Null);
    assert_eq!(headers["HTTP_SEC_WEBSOCKET_VERSION"], "13");
}

#[tokio::test]
async fn a_silent_tunnel_outlives_the_timeouts_of_ordinary_requests() {
    let world = World::shared().await;
    let mut wanted = Wanted::usual();
    wanted.upstream = "read_timeout = \"5s\"\nwrite_timeout = \"5s\"\ntunnel_timeout = \"1h\"".into();
    wanted.config = "[limits]\nread_timeout = \"5s\"\nwrite_timeout = \"5s\"\nkeepalive_timeout = \"5s\"\n\
                     header_timeout = \"5s\""
        .into();
    let sidecar = world.another_sidecar(&wanted);
    let mut socket = socket(&sidecar).await;
    assert_eq!(answer(&mut socket, "before").await, Message::text("before"));
    // The site itself lets time pass.
    let slow = exchange(world.site.port(), request("GET /slow?ms=7000", &[], ""), false).await;
    assert_eq!(slow.status, 200);
    assert_eq!(answer(&mut socket, "after").await, Message::text("after"));
}

#[tokio::test]
async fn a_tunnel_ends_after_its_own_timeout() {
    let mut wanted = Wanted::usual();
    wanted.upstream = "tunnel_timeout = \"1s\"".into();
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let mut socket = socket(&sidecar).await;
    assert_eq!(answer(&mut socket, "before").await, Message::text("before"));
    let end = socket.next().await;
    assert!(
        matches!(end, None | Some(Err(Error::Protocol(_) | Error::Io(_)))),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_refused_handshake_is_an_ordinary_answer() {
    let world = World::shared().await;
    let upgrade = [
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    // The site upgrades one path only.
    let handshake = String::from_utf8(request("GET /about/", &upgrade, "")).expect("UTF-8");
    let handshake = handshake.replace("Connection: close", "Connection: Upgrade");
    let mut wire = Wire::open(world.sidecar.port).await;
    for _ in 0..2 {
        wire.send(&handshake).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("About"));
    }
    let plain = unchanged(world, request("GET /ws/echo", &[], "")).await;
    assert_eq!(plain.status, 426);
}

#[tokio::test]
async fn an_upgrade_to_anything_but_a_websocket_is_an_ordinary_request() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    for protocol in ["h2c", "TLS/1.0", "spdy, websocket2"] {
        let bytes = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        );
        assert_eq!(exchange(sidecar.port, bytes, false).await.status, 200);
    }
    for heard in app.heard() {
        let head = heard.head.to_ascii_lowercase();
        assert!(
            !head.contains("upgrade") && !head.contains("http2-settings"),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_no_tunnel() {
    let app = FakeUpstream::answering(|_| {
        Reply::Close("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw")
    })
    .await;
    let sidecar = in_front_of(&[&app], "").await;
    let answer = exchange(sidecar.port, request("GET /", &[], ""), false).await;
    assert_eq!(answer.status, 502);
}
