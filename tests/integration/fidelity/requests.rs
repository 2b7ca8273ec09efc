//! What the app receives.

use serde_json::{Value, json};

use super::{get, in_front_of, request, unchanged};
use crate::support::fake_upstream::{FakeUpstream, OK};
use crate::support::wire::{Wire, exchange};
use crate::support::world::World;

/// Headers that the sidecar adds, as `/echo` shows them.
const ADDED: [&str; 6] = [
    "X-FORWARDED-FOR",
    "X-HEADCOUNT-HOPS",
    "X-FORWARDED-HOST",
    "X-FORWARDED-PROTO",
    "X-REAL-IP",
    "X-HEADCOUNT-RECORDED",
];

/// `/echo` without the sidecar and through it; asserts that all but headers are the same.
async fn echoed(request: impl AsRef<[u8]>) -> (Vec<(String, String)>, Vec<(String, String)>) {
    let world = World::shared().await;
    let request = request.as_ref();
    let mut direct = exchange(world.site.port(), request, false).await.json();
    let mut through = exchange(world.sidecar.port, request, false).await.json();
    let headers = (headers_of(&mut direct), headers_of(&mut through));
    assert_eq!(through, direct, "{}", request.escape_ascii());
    headers
}

/// Takes the headers out of what `/echo` answered.
fn headers_of(echo: &mut Value) -> Vec<(String, String)> {
    let echo = echo.as_object_mut().expect("an object");
    echo.remove("headers");
    let list = echo.remove("header_list").expect("headers");
    let mut headers: Vec<(String, String)> = serde_json::from_value(list).expect("pairs");
    // The connection is each side's own.
    headers.retain(|(name, _)| name != "CONNECTION");
    headers.sort();
    headers
}

#[tokio::test]
async fn the_app_receives_the_clients_headers_and_the_documented_ones() {
    let (direct, mut through) = echoed(request(
        "GET /echo",
        &[
            "User-Agent: some \"client\"; (odd) \u{e9}",
            "accept: */*",
            "ACCEPT: text/html",
            "X-Empty:",
            "X-Spaces:   a  b   ",
            "X-Twice: 1",
            "x-twice: 2",
            "If-None-Match: \"a\", W/\"b\"",
            "Authorization: Bearer abc.def",
            "Accept-Encoding: gzip, br",
            "Range: bytes=0-1",
            "Cookie: a=1; b=\"2\"",
            "Sec-Fetch-Mode: navigate",
            "Referer: http://site.test/?q=1",
            "Origin: null",
            "Via: 1.1 before",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ],
        "",
    ))
    .await;
    let added = [
        ("X-FORWARDED-FOR", "127.0.0.1"),
        ("X-FORWARDED-HOST", "site.test"),
        ("X-FORWARDED-PROTO", "http"),
        ("X-HEADCOUNT-RECORDED", "1"),
        ("X-REAL-IP", "127.0.0.1"),
    ];
    for (name, value) in added {
        let at = through
            .iter()
            .position(|(key, _)| key == name)
            .unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(through.remove(at).1, value, "{name}");
    }
    let at = through
        .iter()
        .position(|(key, _)| key == "X-REQUEST-ID")
        .expect("an id");
    assert_eq!(through.remove(at).1.len(), 36);
    let hops = through.iter().position(|(key, _)| key == "X-HEADCOUNT-HOPS");
    assert_eq!(through.remove(hops.expect("hops")).1.len(), 16);
    assert_eq!(through, direct);
}

#[tokio::test]
async fn several_cookie_headers_become_one() {
    let (_, through) = echoed(request("GET /echo", &["Cookie: a=1", "Cookie: b=2; c=3"], "")).await;
    let cookies: Vec<_> = through.iter().filter(|(name, _)| name == "COOKIE").collect();
    assert_eq!(cookies, [&("COOKIE".to_owned(), "a=1; b=2; c=3".to_owned())]);
}

#[tokio::test]
async fn paths_pass_as_they_were_written() {
    for target in [
        "/echo",
        "/echo?",
        "/echo?a=1&a=2&b=%20+%26&=&",
        "/echo??a?b",
        "/echo/a%20b%2Fc%2fd%25",
        "/echo//double///slashes//",
        "/echo/a/../b/./c/..",
        "/echo/%2e%2e/%2E/x",
        "/echo/%C3%A9/%c3%a9",
        "/echo/;a=1;b/@:!$&'()*+,=~",
        "/echo/[brackets]|{braces}^\"?`q`",
        "/echo/a\\b",
        "/echo/%",
        "/echo/%zz",
    ] {
        echoed(get(target)).await;
    }
}

#[tokio::test]
async fn methods_pass_with_their_bodies() {
    for (line, body) in [
        ("PATCH /echo", "{\"a\": 1}"),
        ("DELETE /echo", ""),
        ("DELETE /echo", "with a body"),
        ("PUT /echo", "\0binary\u{ff}\r\n\r\n"),
        ("OPTIONS /echo", ""),
        ("GET /echo", "a GET may have one too"),
        ("PROPFIND /echo", "<xml/>"),
        ("M-SEARCH /echo", ""),
        ("POST /echo", ""),
    ] {
        let (direct, through) = echoed(request(line, &["Content-Type: text/odd; a=\"b\""], body)).await;
        let own: Vec<_> = through
            .into_iter()
            .filter(|(name, _)| !ADDED.contains(&name.as_str()) && name != "X-REQUEST-ID")
            .collect();
        assert_eq!(own, direct, "{line}");
    }
    unchanged(World::shared().await, request("OPTIONS /about/", &[], "")).await;
}

#[tokio::test]
async fn options_of_the_server_itself_passes() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    let answer = exchange(sidecar.port, request("OPTIONS *", &[], ""), false).await;
    assert_eq!(answer.status, 200);
    assert_eq!(app.heard()[0].target(), "OPTIONS *");
}

/// The head as it goes over the wire: order and spelling of the client's headers stay.
#[tokio::test]
async fn the_head_on_the_wire_is_the_clients_but_for_connection_headers() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    let head = "GET /A%2f/..//b?q HTTP/1.1\r\nhOST: site.test\r\nX-Mixed-CASE: 1\r\nzebra: 2\r\n\
                Connection: keep-alive, X-Nominated\r\nX-Nominated: 3\r\nKeep-Alive: timeout=5\r\n\
                Proxy-Connection: keep-alive\r\nTE: trailers\r\naccept: */*\r\n\r\n";
    assert_eq!(exchange(sidecar.port, head, false).await.status, 200);
    let received = &app.heard()[0].head;
    let mut lines: Vec<_> = received.lines().collect();
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("x-"));
    assert_eq!(
        lines,
        [
            "GET /A%2f/..//b?q HTTP/1.1",
            "hOST: site.test",
            "zebra: 2",
            "accept: */*",
            ""
        ]
    );
    assert!(received.contains("\r\nX-Mixed-CASE: 1\r\n") && !received.contains("Nominated"));
}

#[tokio::test]
async fn an_expected_100_comes_before_the_body_is_sent() {
    let world = World::shared().await;
    for port in [world.site.port(), world.sidecar.port] {
        let mut wire = Wire::open(port).await;
        wire.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            .await;
        assert_eq!(wire.head().await.status, 100);
        wire.send("hello").await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.json()["size"].clone()), (200, json!(5)));
    }
}
