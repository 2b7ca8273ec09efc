//! Bodies that stream, that are packed, and that break.

use std::io::{Read as _, Write as _};
use std::sync::LazyLock;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{in_front_of, injecting, navigation, pages, tag};
use crate::support::fake_upstream::{FakeUpstream, Reply};
use crate::support::wire::{Wire, exchange};
use crate::support::world::World;

const PAGE: &str = "<!doctype html><head><title>A</title></head><body>B</body>";

fn with_tag(page: &str, community: &str) -> String {
    page.replace("</head>", &format!("{}</head>", tag(community)))
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn answer(body: &[u8], headers: &str) -> &'static [u8] {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().leak()
}

/// Waits for a request, and returns the connection that it came on. Probes connect and send nothing.
async fn requested(listener: &TcpListener) -> TcpStream {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await.expect("a request") == 0 {
                break;
            }
        }
        if !line.is_empty() {
            return stream.into_inner();
        }
    }
}

#[tokio::test]
async fn a_page_that_streams_goes_on_streaming() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut wanted = injecting("");
    wanted.servers = Some(vec![listener.local_addr().expect("an address").to_string()]);
    let sidecar = World::shared().await.another_sidecar(&wanted);
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(navigation("/communities/42/", &[])).await;
    let mut app = requested(&listener).await;
    // Without a length: the page ends with the connection.
    app.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<head><title>")
        .await
        .expect("the sidecar reads");
    assert_eq!(wire.head().await.status, 200);
    let tag = tag("42");
    // Each piece is seen before the next is made.
    for (next, seen) in [
        ("A</title></he", "<head><title>"),
        ("ad><bo", "A</title>"),
        ("dy>B", &format!("{tag}</head><bo")),
        ("", "dy>B"),
    ] {
        let mut came = Vec::new();
        while came.len() < seen.len() {
            came.extend(wire.chunk().await.expect("a chunk"));
        }
        assert_eq!(String::from_utf8_lossy(&came), *seen);
        app.write_all(next.as_bytes()).await.expect("the sidecar reads");
    }
    app.shutdown().await.expect("an open connection");
    assert_eq!(wire.chunk().await, None);
}

#[tokio::test]
async fn a_packed_page_stays_packed() {
    static PACKED: LazyLock<&[u8]> =
        LazyLock::new(|| answer(&gzip(PAGE), "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"));
    let server = FakeUpstream::answering(|_| Reply::KeepBytes(&PACKED)).await;
    let sidecar = in_front_of(&server).await;
    let mut wire = Wire::open(sidecar.port).await;
    for _ in 0..2 {
        wire.send(navigation(
            "/communities/42/",
            &["Accept-Encoding: br, gzip, zstd"],
        ))
        .await;
        let answer = wire.answer().await;
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        let mut page = String::new();
        GzDecoder::new(&*answer.body)
            .read_to_string(&mut page)
            .expect("gzip");
        assert_eq!(page, with_tag(PAGE, "42"));
    }
    assert!(
        server.heard()[0]
            .head
            .to_lowercase()
            .contains("\r\naccept-encoding: gzip\r\n")
    );
    assert_eq!(pages(&sidecar, "injected").await, 2);
}

#[tokio::test]
async fn a_page_that_is_not_packed_as_it_says_breaks_nothing_else() {
    static PLAIN: LazyLock<&[u8]> = LazyLock::new(|| answer(PAGE.as_bytes(), "Content-Encoding: gzip\r\n"));
    static BROKEN: LazyLock<&[u8]> = LazyLock::new(|| {
        // Long enough to come in several pieces: digits do not pack well.
        let numbers = (0..200_000_u32).map(|number| number.wrapping_mul(0x9e37_79b1).to_string());
        let page = numbers.collect::<Vec<_>>().concat();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(page.as_bytes()).expect("memory");
        encoder.flush().expect("memory");
        // No block begins like this.
        encoder.get_mut().extend([0xff; 64]);
        let packed = std::mem::take(encoder.get_mut());
        answer(&packed, "Content-Encoding: gzip\r\n")
    });
    let server = FakeUpstream::answering(|request| match request.target() {
        "GET /communities/1/" => Reply::KeepBytes(&PLAIN),
        "GET /communities/3/" => Reply::KeepBytes(&BROKEN),
        _ => Reply::Keep(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<head></head>",
        ),
    })
    .await;
    let sidecar = in_front_of(&server).await;
    // From the beginning: as it came.
    let accepting = ["Accept-Encoding: gzip"];
    let plain = exchange(sidecar.port, navigation("/communities/1/", &accepting), false).await;
    assert_eq!((plain.status, plain.text()), (200, PAGE));
    // Later: the answer ends before its end.
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(navigation("/communities/3/", &accepting)).await;
    assert_eq!(wire.head().await.status, 200);
    let rest = wire.rest().await;
    assert!(!rest.is_empty() && !rest.ends_with(b"0\r\n\r\n"));
    let page = exchange(sidecar.port, navigation("/communities/2/", &[]), false).await;
    assert_eq!(page.text(), with_tag("<head></head>", "2"));
}

#[tokio::test]
async fn a_page_that_cannot_be_looked_through_passes_byte_for_byte() {
    static LONG: LazyLock<String> =
        LazyLock::new(|| format!("<head><link href='{}'></head><body>", "x".repeat(1 << 20)));
    static ANSWER: LazyLock<&[u8]> = LazyLock::new(|| answer(LONG.as_bytes(), ""));
    static WIDE: LazyLock<&[u8]> = LazyLock::new(|| answer(b"\xff\xfe<\0h\0e\0a\0d\0>\0", ""));
    static TEXT: LazyLock<&[u8]> = LazyLock::new(|| answer(b"only text <", ""));
    let server = FakeUpstream::answering(|request| {
        Reply::KeepBytes(match request.target() {
            "GET /communities/1/" => &ANSWER,
            "GET /communities/2/" => &WIDE,
            _ => &TEXT,
        })
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let mut wire = Wire::open(sidecar.port).await;
    for (community, body) in [
        (1, LONG.as_bytes()),
        (2, b"\xff\xfe<\0h\0e\0a\0d\0>\0"),
        (3, b"only text <"),
    ] {
        wire.send(navigation(&format!("/communities/{community}/"), &[]))
            .await;
        assert!(wire.answer().await.body == body, "{community}");
    }
    for outcome in ["failed", "charset", "no_place"] {
        assert_eq!(pages(&sidecar, outcome).await, 1, "{outcome}");
    }
}

#[tokio::test]
async fn a_server_of_http_1_0_has_pages_too() {
    let server = FakeUpstream::answering(|_| {
        Reply::Close("HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<!doctype html><head><title>A</title></head><body>B</body>")
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let answer = exchange(sidecar.port, navigation("/communities/42/", &[]), false).await;
    assert_eq!(answer.text(), with_tag(PAGE, "42"));
}
