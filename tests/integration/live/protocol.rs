//! The WebSocket protocol as RFC 6455 has it, and as hostile clients have it: byte by byte.

use super::caps::handshake;
use super::{closed, live};
use crate::support::member::Member;
use crate::support::wire::{Wire, exchange};
use crate::support::world::{Wanted, World};

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FINAL: u8 = 0x80;

/// A request that is answered, whatever else happened before.
const ASK: &[u8] = br#"{"type":"subscribe","communities":["nowhere"]}"#;

/// A frame as a client sends it. `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            bytes.push(0xfe);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The next frame of the server: opcode and payload.
async fn next(wire: &mut Wire) -> (u8, Vec<u8>) {
    let head = wire.take(2).await;
    assert_eq!(head[0] & 0xf0, FINAL, "whole, and without reserved bits");
    let length = match head[1] {
        126 => {
            let length = wire.take(2).await;
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        length => {
            assert!(length < 126, "unmasked and short");
            usize::from(length)
        }
    };
    (head[0] & 0x0f, wire.take(length).await)
}

async fn world() -> &'static World {
    static WORLD: tokio::sync::OnceCell<World> = tokio::sync::OnceCell::const_new();
    WORLD
        .get_or_init(|| async {
            let wanted = Wanted {
                config: "[live]\nmax_per_user = 1000\n".into(),
                ..Wanted::usual()
            };
            wanted.start().await
        })
        .await
}

/// An open connection that has had its snapshot.
async fn open(world: &World, member: &Member) -> Wire {
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send(handshake(world, member)).await;
    let head = wire.head().await;
    assert_eq!(head.status, 101);
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(next(&mut wire).await.0, TEXT);
    wire
}

/// The answer to [`ASK`], past counts.
async fn answered(wire: &mut Wire) {
    loop {
        let (opcode, payload) = next(wire).await;
        assert_eq!(opcode, TEXT, "{}", payload.escape_ascii());
        if String::from_utf8(payload).expect("UTF-8").contains("unknown") {
            return;
        }
    }
}

/// The code with which the server closes; then the connection ends.
async fn close_code(wire: &mut Wire) -> u16 {
    loop {
        let (opcode, payload) = next(wire).await;
        if opcode == CLOSE {
            wire.try_send(frame(FINAL | CLOSE, &payload[..2])).await;
            wire.finish().await;
            wire.rest().await;
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
        assert!([TEXT, PING].contains(&opcode), "{opcode}");
    }
}

async fn unharmed(world: &World) {
    let page = "GET /about/ HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(world.sidecar.port, page, false).await.status, 200);
    let log = world.sidecar.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn a_message_in_fragments_with_control_frames_between_is_one_message() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut wire = open(world, &alice).await;
    let (first, rest) = ASK.split_at(10);
    let (second, third) = rest.split_at(1);
    wire.send(frame(TEXT, first)).await;
    wire.send(frame(FINAL | PING, b"are you there?")).await;
    wire.send(frame(CONTINUATION, second)).await;
    wire.send(frame(CONTINUATION, b"")).await;
    wire.send(frame(FINAL | PONG, b"nobody asked")).await;
    wire.send(frame(FINAL | CONTINUATION, third)).await;
    loop {
        match next(&mut wire).await {
            (PONG, payload) => {
                assert_eq!(payload, b"are you there?");
                break;
            }
            other => assert_eq!(other.0, TEXT),
        }
    }
    answered(&mut wire).await;
    // One byte at a time, each in a packet of its own as far as the system likes.
    for byte in frame(FINAL | TEXT, ASK) {
        wire.send([byte]).await;
    }
    answered(&mut wire).await;
    // Two in one.
    let mut both = frame(FINAL | TEXT, ASK);
    both.extend(frame(FINAL | TEXT, ASK));
    wire.send(both).await;
    answered(&mut wire).await;
    answered(&mut wire).await;
    unharmed(world).await;
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_so() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut unmasked = vec![FINAL | TEXT, u8::try_from(ASK.len()).unwrap()];
    unmasked.extend(ASK);
    let large = [FINAL | PING, 0xfe, 0, 126, 0, 0, 0, 0].into_iter();
    let huge = |first: u8, length: u64| {
        let mut bytes = vec![first, 0xff];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("unmasked", unmasked, &[1002]),
        ("a reserved bit", frame(FINAL | 0x40 | TEXT, ASK), &[1002]),
        ("all reserved bits", frame(FINAL | 0x70 | TEXT, ASK), &[1002]),
        ("a reserved data opcode", frame(FINAL | 0x3, ASK), &[1002]),
        ("a reserved control opcode", frame(FINAL | 0xb, b""), &[1002]),
        ("a fragmented ping", frame(PING, b""), &[1002]),
        ("a fragmented close", frame(CLOSE, &[3, 232]), &[1002]),
        ("a long ping", large.chain([0; 126]).collect(), &[1002]),
        ("nothing to continue", frame(FINAL | CONTINUATION, ASK), &[1002]),
        (
            "a new message within another",
            [frame(TEXT, b"{"), frame(FINAL | TEXT, ASK)].concat(),
            &[1002],
        ),
        ("not UTF-8", frame(FINAL | TEXT, &[0xce, 0xba, 0xff]), &[1007]),
        ("half a character", frame(FINAL | TEXT, &[0xf0, 0x9f]), &[1007]),
        ("a surrogate", frame(FINAL | TEXT, &[0xed, 0xa0, 0x80]), &[1007]),
        (
            "not UTF-8 across fragments",
            [frame(TEXT, &[0xce]), frame(FINAL | CONTINUATION, &[0xff])].concat(),
            &[1007],
        ),
        ("too long", frame(FINAL | TEXT, &[b' '; 8193]), &[1009]),
        (
            "too long in fragments",
            [
                frame(TEXT, &[b' '; 5000]),
                frame(FINAL | CONTINUATION, &[b' '; 5000]),
            ]
            .concat(),
            &[1009],
        ),
        ("said to be endless", huge(FINAL | TEXT, u64::MAX >> 1), &[1009]),
        (
            "said to be more than endless",
            huge(FINAL | TEXT, u64::MAX),
            &[1002, 1009],
        ),
        ("binary", frame(FINAL | BINARY, b"{}"), &[1003]),
        ("no JSON", frame(FINAL | TEXT, b"hello"), &[4400]),
        ("an empty message", frame(FINAL | TEXT, b""), &[4400]),
        ("deep JSON", frame(FINAL | TEXT, &[b'['; 8000]), &[4400]),
        (
            "a close code that may not be sent",
            frame(FINAL | CLOSE, &1005_u16.to_be_bytes()),
            &[1002],
        ),
        ("half a close code", frame(FINAL | CLOSE, &[3]), &[1002]),
        (
            "a close reason that is not UTF-8",
            frame(FINAL | CLOSE, &[3, 232, 0xff]),
            &[1002, 1007],
        ),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), &[1002]),
        ("garbage", vec![0xff; 300], &[1002]),
    ];
    for (what, bytes, codes) in cases {
        let mut wire = open(world, &alice).await;
        wire.try_send(bytes).await;
        let code = close_code(&mut wire).await;
        assert!(codes.contains(&code), "{what}: {code}");
    }
    unharmed(world).await;
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_code() {
    let world = world().await;
    let alice = world.member("alice").await;
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut wire = open(world, &alice).await;
        wire.send(frame(FINAL | CLOSE, &code.to_be_bytes())).await;
        loop {
            let (opcode, payload) = next(&mut wire).await;
            if opcode == CLOSE {
                assert_eq!(payload, code.to_be_bytes());
                break;
            }
        }
        wire.closes().await;
    }
    let mut without_a_code = open(world, &alice).await;
    without_a_code.send(frame(FINAL | CLOSE, b"")).await;
    without_a_code.rest().await;
}

#[tokio::test]
async fn whoever_says_too_much_is_told_so_and_control_frames_count() {
    let world = world().await;
    let alice = world.member("alice").await;
    for flood in [
        frame(FINAL | PING, b"x"),
        frame(FINAL | PONG, b"x"),
        frame(FINAL | TEXT, ASK),
    ] {
        let mut wire = open(world, &alice).await;
        wire.try_send(flood.repeat(500)).await;
        loop {
            let (opcode, payload) = next(&mut wire).await;
            if opcode == CLOSE {
                assert_eq!(payload[..2], 4429_u16.to_be_bytes());
                break;
            }
        }
        wire.finish().await;
        wire.rest().await;
    }
    unharmed(world).await;
}

#[tokio::test]
async fn a_message_may_come_in_many_empty_fragments() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut wire = open(world, &alice).await;
    wire.send(frame(TEXT, b"")).await;
    wire.send(frame(CONTINUATION, b"").repeat(5_000)).await;
    wire.send(frame(FINAL | CONTINUATION, ASK)).await;
    answered(&mut wire).await;
    unharmed(world).await;
}

/// Frames that are no message count by their bytes.
#[tokio::test]
async fn l3_endless_empty_fragments_are_too_much() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut wire = open(world, &alice).await;
    wire.send(frame(TEXT, b"")).await;
    wire.try_send(frame(CONTINUATION, b"").repeat(20_000)).await;
    assert_eq!(close_code(&mut wire).await, 4429);
    unharmed(world).await;
}

#[tokio::test]
async fn a_client_that_half_closes_or_breaks_off_is_let_go() {
    let wanted = Wanted::usual();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    let mut half_closed = open(&world, &alice).await;
    half_closed.finish().await;
    half_closed.rest().await;
    let mut within_a_frame = open(&world, &alice).await;
    within_a_frame.send(&frame(FINAL | TEXT, ASK)[..9]).await;
    within_a_frame.finish().await;
    within_a_frame.rest().await;
    drop(open(&world, &alice).await);
    world
        .sidecar
        .wait_for_metric(&closed("client"), |gone| gone == 3.0)
        .await;
    unharmed(&world).await;
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused() {
    let world = world().await;
    let alice = world.member("alice").await;
    let good = handshake(world, &alice);
    for (from, to, status) in [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Upgrade: websocket", "Upgrade: h2c", 406),
        ("GET ", "POST ", 405),
        ("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello", 400),
    ] {
        let head = good.replacen(from, to, 1);
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(&head).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{head}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    let of_1_0 = good.replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(exchange(world.sidecar.port, of_1_0, false).await.status, 400);
    unharmed(world).await;
}

#[tokio::test]
async fn a_connection_that_was_kept_becomes_a_live_one() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut wire = Wire::open(world.sidecar.port).await;
    for _ in 0..2 {
        wire.send("GET /about/ HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
    }
    // A refused handshake keeps it, too.
    wire.send(handshake(world, &alice).replacen("Version: 13", "Version: 12", 1))
        .await;
    assert_eq!(wire.answer().await.status, 426);
    wire.send(handshake(world, &alice)).await;
    assert_eq!(wire.head().await.status, 101);
    assert_eq!(next(&mut wire).await.0, TEXT);
    wire.send(frame(FINAL | TEXT, ASK)).await;
    answered(&mut wire).await;
}

/// An event stream is for reading.
#[tokio::test]
async fn whoever_talks_to_an_event_stream_is_let_go() {
    let world = world().await;
    let alice = world.member("alice").await;
    let mut events = Wire::open(world.sidecar.port).await;
    events
        .send(format!(
            "GET {} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nCookie: {}\r\n\r\n",
            live(world, "rust"),
            alice.cookie()
        ))
        .await;
    assert_eq!(events.head().await.status, 200);
    events
        .try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100))
        .await;
    events.rest().await;
    unharmed(world).await;
}
