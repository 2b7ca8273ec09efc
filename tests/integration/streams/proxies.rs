//! Live connections through proxies that close their connections to the sidecar after each answer, and for clients
//! that ask for it in whichever way.

use crate::support::haproxy::HaProxy;
use crate::support::live::{Events, Socket};
use crate::support::member::Member;
use crate::support::nginx::Nginx;
use crate::support::wire::{Wire, connect};
use crate::support::world::World;

fn live(world: &World) -> String {
    world.visitors("rust", "/live")
}

/// Somebody's count arrives over an event stream and a WebSocket through the proxy on `port`, and so does its change.
async fn come_through(world: &World, port: u16) {
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut events = Events::over(connect(port).await, &live(world), &alice).await;
    events.until(1).await;
    let cookie = [("cookie", &*alice.cookie())];
    let socket = Socket::over(connect(port).await, port, &live(world), &cookie).await;
    let mut socket = socket.expect("a handshake");
    socket.until(1).await;
    bob.sees(&world.community("rust")).await;
    events.until(2).await;
    socket.until(2).await;
}

#[tokio::test]
async fn e1_counts_come_through_nginx_with_plain_proxy_pass() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let bob = world.member("bob").await;
    // HTTP/1.0, and a connection for each request.
    let nginx = Nginx::start(&format!(
        "location / {{ proxy_pass http://127.0.0.1:{}; }}",
        world.sidecar.port
    ));
    let mut events = Events::over(connect(nginx.port()).await, &live(&world), &alice).await;
    events.until(1).await;
    bob.sees(&world.community("rust")).await;
    events.until(2).await;
}

#[tokio::test]
async fn e1_counts_come_through_nginx_that_passes_upgrades() {
    let world = World::usual().await;
    // What nginx' manual has for WebSockets: everything else is sent with `Connection: close`.
    let nginx = Nginx::start(&format!(
        "location / {{\n\
             proxy_pass http://127.0.0.1:{};\n\
             proxy_http_version 1.1;\n\
             proxy_set_header Host $http_host;\n\
             set $kind close;\n\
             if ($http_upgrade) {{ set $kind upgrade; }}\n\
             proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $kind;\n\
         }}",
        world.sidecar.port
    ));
    come_through(&world, nginx.port()).await;
}

#[tokio::test]
async fn e1_counts_come_through_haproxy_that_closes_connections_to_servers() {
    let world = World::usual().await;
    let haproxy = HaProxy::start(world.sidecar.port, "option http-server-close");
    come_through(&world, haproxy.port()).await;
}

#[tokio::test]
async fn e1_counts_come_through_haproxy_that_closes_all_connections() {
    let world = World::usual().await;
    let haproxy = HaProxy::start(world.sidecar.port, "option httpclose");
    come_through(&world, haproxy.port()).await;
}

/// The first piece of an event stream that was asked for with such a head.
async fn first_piece(world: &World, alice: &Member, version: &str, connection: &str) -> (Wire, String) {
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(format!(
        "GET {} {version}\r\nHost: site.test\r\nAccept: text/event-stream\r\nCookie: {}\r\n{connection}\r\n",
        live(world),
        alice.cookie()
    ))
    .await;
    let head = wire.head().await;
    assert_eq!(head.status, 200, "{version} {connection}");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    // It ends with the connection, whatever was asked for.
    assert_eq!(head.header("connection"), Some("close"));
    let piece = if version == "HTTP/1.1" {
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        wire.chunk().await.expect("a chunk")
    } else {
        assert_eq!(head.header("transfer-encoding"), None);
        // As the stream begins: no length of a chunk.
        wire.take(7).await
    };
    (wire, String::from_utf8(piece).expect("UTF-8"))
}

#[tokio::test]
async fn e1_an_event_stream_comes_whatever_the_client_says_of_its_connection() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let mut old = Vec::new();
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for connection in [
            "",
            "Connection: close\r\n",
            "Connection: keep-alive\r\n",
            "Connection: close, TE\r\nTE: trailers\r\n",
            "Connection: TE\r\nConnection: Close\r\n",
            "Keep-Alive: timeout=1\r\n",
        ] {
            let (wire, piece) = first_piece(&world, &alice, version, connection).await;
            assert!(piece.starts_with("retry: "), "{version} {connection}: {piece}");
            if version == "HTTP/1.0" {
                old.push(wire);
            }
        }
    }
    // Those without chunks end with the connection.
    world.sidecar.signal("TERM");
    for mut wire in old {
        let rest = String::from_utf8(wire.rest().await).expect("UTF-8");
        assert!(rest.contains("\"code\":1001"), "{rest}");
        assert!(rest.ends_with("\n\n"), "{rest}");
    }
}

fn handshake(world: &World, alice: &Member, connection: &str) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: {connection}\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: {}\r\n\r\n",
        live(world),
        world.sidecar.port,
        alice.cookie()
    )
}

/// What the server says in its next frame, which is text and short.
async fn said(wire: &mut Wire) -> String {
    let head = wire.take(2).await;
    assert_eq!(head[0], 0x81, "a whole text frame");
    let length = match head[1] {
        126 => {
            let length = wire.take(2).await;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        length => usize::from(length),
    };
    String::from_utf8(wire.take(length).await).expect("UTF-8")
}

#[tokio::test]
async fn e1_a_web_socket_opens_whatever_else_the_client_says_of_its_connection() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    for connection in ["Upgrade, close", "close, Upgrade", "keep-alive, upgrade"] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(handshake(&world, &alice, connection)).await;
        assert_eq!(wire.head().await.status, 101, "{connection}");
        assert!(said(&mut wire).await.contains("\"count\""), "{connection}");
    }
}

/// A text frame of a client, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    let mut bytes = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    bytes.extend(text.as_bytes());
    bytes
}

/// The same with the app: what comes before the app has answered is kept for the tunnel.
#[tokio::test]
async fn e1_what_is_sent_behind_a_handshake_with_the_app_reaches_it() {
    let world = World::shared().await;
    let handshake = "GET /ws/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send([handshake.as_bytes(), &frame("with it")].concat())
        .await;
    wire.send(frame("behind it")).await;
    assert_eq!(wire.head().await.status, 101);
    wire.send(frame("later")).await;
    for text in ["with it", "behind it", "later"] {
        assert_eq!(said(&mut wire).await, text);
    }
}

/// RFC 6455 has clients wait for the answer; some do not.
#[tokio::test]
async fn e1_what_is_sent_behind_a_handshake_is_heard() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let ask = r#"{"type":"subscribe","communities":["nowhere"]}"#;
    let mut bytes = handshake(&world, &alice, "Upgrade").into_bytes();
    bytes.extend(frame(ask));
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(bytes).await;
    assert_eq!(wire.head().await.status, 101);
    while !said(&mut wire).await.contains("\"unknown\"") {}
}

/// Nor is it answered within the stream.
#[tokio::test]
async fn e1_what_is_sent_behind_the_request_for_an_event_stream_does_not_end_it() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let mut open = Vec::new();
    for behind in ["\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(format!(
            "GET {} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nCookie: {}\r\n\r\n{behind}",
            live(&world),
            alice.cookie()
        ))
        .await;
        assert_eq!(wire.head().await.status, 200);
        let piece = wire.chunk().await.expect("a chunk");
        assert!(piece.starts_with(b"retry: "), "{}", piece.escape_ascii());
        open.push(wire);
    }
    world.sidecar.signal("TERM");
    for mut wire in open {
        let mut last = Vec::new();
        while let Some(piece) = wire.chunk().await {
            last = piece;
        }
        let last = String::from_utf8(last).expect("UTF-8");
        assert!(last.contains("\"code\":1001"), "{last}");
        wire.closes().await;
    }
}
