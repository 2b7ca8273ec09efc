//! Heads of requests and responses, in front of a server that says what a test wants.

use super::{in_front_of, navigation, pages, tag};
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::wire::{Answer, Wire, exchange};

const PAGE: &str = "<head></head><p>page";

fn header<'a>(heard: &'a Heard, name: &str) -> Option<&'a str> {
    heard.head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[tokio::test]
async fn a_browser_asks_whether_its_page_is_still_good_and_the_app_understands() {
    let server = FakeUpstream::answering(|request| {
        let is_known = header(request, "if-none-match") == Some("\"v1\"");
        Reply::Keep(match (request.target(), is_known) {
            (_, true) => "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"v1\"\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
        })
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let mut wire = Wire::open(sidecar.port).await;
    let mut ask = async |headers: &[&str]| -> Answer {
        wire.send(navigation("/communities/42/", headers)).await;
        wire.answer().await
    };
    let first = ask(&[]).await;
    let etag = first.header("etag").expect("a tag").to_owned();
    assert!(etag.starts_with("W/\"v1-"), "{etag}");
    let again = ask(&[
        &format!("If-None-Match: {etag}"),
        "If-Modified-Since: Sun, 23 Nov 2025 08:00:00 GMT",
    ])
    .await;
    assert_eq!((again.status, again.header("etag")), (304, Some(&*etag)));
    // A copy from before the widget is not taken for one with it.
    let old = ask(&["If-None-Match: \"v1\""]).await;
    assert_eq!((old.status, old.header("etag")), (200, Some(&*etag)));
    assert_eq!(
        old.text(),
        PAGE.replace("</head>", &format!("{}</head>", tag("42")))
    );

    let heard = server.heard();
    assert_eq!(header(&heard[1], "if-none-match"), Some("\"v1\""));
    assert_eq!(header(&heard[1], "if-modified-since"), None);
    assert_eq!(header(&heard[2], "if-none-match"), None);
    // Elsewhere nothing is touched.
    wire.send(navigation(
        "/elsewhere",
        &["If-None-Match: \"v2\"", "Accept-Encoding: br"],
    ))
    .await;
    let answer = wire.answer().await;
    assert_eq!((answer.header("etag"), answer.text()), (Some("\"v1\""), PAGE));
    let elsewhere = &server.heard()[3];
    assert_eq!(header(elsewhere, "if-none-match"), Some("\"v2\""));
    assert_eq!(header(elsewhere, "accept-encoding"), Some("br"));
}

#[tokio::test]
async fn a_time_alone_does_for_asking_too() {
    let server = FakeUpstream::answering(|request| {
        Reply::Keep(if header(request, "if-modified-since").is_some() {
            "HTTP/1.1 304 Not Modified\r\nLast-Modified: Sun, 23 Nov 2025 08:00:00 GMT\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nLast-Modified: Sun, 23 Nov 2025 08:00:00 GMT\r\n\
             Content-Length: 20\r\n\r\n<head></head><p>page"
        })
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let since = "If-Modified-Since: Sun, 23 Nov 2025 08:00:00 GMT";
    let first = exchange(sidecar.port, navigation("/communities/42/", &[since]), false).await;
    assert_eq!(first.status, 200);
    let etag = first.header("etag").expect("a tag").to_owned();
    let condition = format!("If-None-Match: {etag}");
    let again = exchange(
        sidecar.port,
        navigation("/communities/42/", &[&condition, since]),
        false,
    )
    .await;
    assert_eq!((again.status, again.header("etag")), (304, Some(&*etag)));
    assert_eq!(header(&server.heard()[1], "if-none-match"), None);
}

#[tokio::test]
async fn what_describes_the_apps_bytes_does_not_come_with_others() {
    let server = FakeUpstream::answering(|_| {
        Reply::Keep(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\nAccept-Ranges: bytes\r\n\
             Content-MD5: x\r\nDigest: sha-256=x\r\nContent-Digest: sha-256=:x:\r\nX-Other: kept\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n<head></head><p>page",
        )
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let answer = exchange(sidecar.port, navigation("/communities/42/", &[]), false).await;
    for gone in [
        "accept-ranges",
        "content-md5",
        "digest",
        "content-digest",
        "content-length",
        "etag",
    ] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-other"), Some("kept"));
    assert_eq!(
        answer
            .headers
            .iter()
            .filter(|(name, _)| name == "set-cookie")
            .count(),
        2
    );
}

#[tokio::test]
async fn answers_that_are_no_whole_page_pass() {
    let server = FakeUpstream::answering(|request| {
        Reply::Keep(match request.target() {
            "GET /communities/1/" => "HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-5/20\r\nETag: \"v1\"\r\nContent-Length: 6\r\n\r\n<head>",
            "GET /communities/2/" => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Disposition: attachment\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
            "GET /communities/3/" => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: public, no-transform\r\nETag: \"v1\"\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
            "GET /communities/4/" => "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-16\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
            "GET /communities/5/" => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: br\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
            "GET /communities/6/" => "HTTP/1.1 500 Oh\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<head></head><p>page",
            _ => "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n",
        })
    })
    .await;
    let sidecar = in_front_of(&server).await;
    let mut wire = Wire::open(sidecar.port).await;
    for community in 1..=7 {
        wire.send(navigation(
            &format!("/communities/{community}/"),
            &["Range: bytes=0-5"],
        ))
        .await;
        let answer = wire.answer().await;
        let length = match community {
            1 => 6,
            7 => 0,
            _ => 20,
        };
        assert_eq!(answer.body, PAGE.as_bytes()[..length], "{community}");
        assert_eq!(
            answer.header("content-length"),
            Some(&*length.to_string()),
            "{community}"
        );
        assert!(
            answer.header("etag").is_none_or(|etag| etag == "\"v1\""),
            "{community}"
        );
    }
    assert!(
        server
            .heard()
            .iter()
            .all(|heard| header(heard, "range").is_none())
    );
    for outcome in ["no_transform", "charset", "encoding"] {
        assert_eq!(pages(&sidecar, outcome).await, 1, "{outcome}");
    }
    assert_eq!(pages(&sidecar, "injected").await, 0);
}
