//! Request lines and headers.

use super::{attack, refused, unharmed, world};

fn get(path: &[u8], headers: &[u8]) -> Vec<u8> {
    [
        b"GET ",
        path,
        b" HTTP/1.1\r\nHost: site.test\r\n",
        headers,
        b"\r\n",
    ]
    .concat()
}

#[tokio::test]
async fn w2_w3_no_path_is_too_odd() {
    let world = world().await;
    for path in [
        &b"/about/%00"[..],
        b"/%00",
        b"/about/\0",
        b"/\0/\x01\x7f",
        b"/%ff%fe%c0%80/",
        b"/\xff\xfe\xc0\x80/",
        b"/caf\xc3\xa9",
        b"/..%00/../../etc/passwd",
        b"/%25%32%66%%",
        b"//evil.test/\\",
        b"/with space",
        b"/?\xff=%00&%=%",
        b"/#fragment",
    ] {
        let answer = attack(world.sidecar.port, get(path, b""))
            .await
            .expect("an answer");
        assert!(
            matches!(answer.status, 200 | 301 | 400 | 404),
            "{}: {}",
            path.escape_ascii(),
            answer.status
        );
    }
    let long = [b"/".as_slice(), &vec![b'a'; 7000]].concat();
    assert_eq!(
        attack(world.sidecar.port, get(&long, b""))
            .await
            .expect("an answer")
            .status,
        404
    );
    unharmed(world).await;
}

#[tokio::test]
async fn a_request_line_that_is_none_is_refused() {
    let world = world().await;
    for line in [
        &b"GET\r\n\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 more\r\nHo st: a\r\n\r\n",
        b"G(ET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET evil.test HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        refused(world, line, 400).await;
    }
    refused(world, "TRACE /about/ HTTP/1.1\r\nHost: a\r\n\r\n", 405).await;
    refused(
        world,
        "CONNECT site.test:80 HTTP/1.1\r\nHost: site.test:80\r\n\r\n",
        405,
    )
    .await;
    unharmed(world).await;
}

#[tokio::test]
async fn one_host_is_needed() {
    let world = world().await;
    refused(world, "GET /about/ HTTP/1.1\r\n\r\n", 400).await;
    refused(world, "GET /about/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400).await;
    refused(world, "GET /about/ HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400).await;
    for host in ["user@a", "", "a b", "a/b", "a,b", "a..b"] {
        refused(
            world,
            format!("GET /about/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            400,
        )
        .await;
    }
    unharmed(world).await;
}

#[tokio::test]
async fn malformed_headers_are_refused() {
    let world = world().await;
    for header in [
        &b"No colon\r\n"[..],
        b"Space : before the colon\r\n",
        b": no name\r\n",
        b"X: nul\0byte\r\n",
        b"X: control\x01byte\r\n",
        b"X: bare\rreturn\r\n",
        b"X\0: nul in the name\r\n",
        b"Na(me: x\r\n",
        b"X: folded\r\n over lines\r\n",
    ] {
        refused(world, get(b"/about/", header), 400).await;
    }
    unharmed(world).await;
}

#[tokio::test]
async fn a_head_above_the_limit_is_431_or_400_and_the_connection_ends() {
    let world = world().await;
    let megabyte = "x".repeat(1 << 20);
    for headers in [
        format!("X-Big: {megabyte}\r\n"),
        format!("Cookie: session_id={megabyte}\r\n"),
        format!("X-Big: {}\r\n", "x".repeat(70_000)),
        "X-Many: 1\r\n".repeat(10_000),
        "X-Many: 1\r\n".repeat(300),
    ] {
        let answer = attack(world.sidecar.port, get(b"/about/", headers.as_bytes())).await;
        // With so much left unread, the end of the connection may overtake the answer.
        assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 431)));
    }
    refused(
        world,
        get(
            b"/about/",
            format!("X-Big: {}\r\n", "x".repeat(66_000)).as_bytes(),
        ),
        431,
    )
    .await;
    unharmed(world).await;
}

#[tokio::test]
async fn i1_i7_absurd_cookies_are_nobodys() {
    let world = world().await;
    let lookups = "headcount_session_lookups_total{outcome=\"found\"}";
    let before = world.sidecar.metrics().await.get(lookups).copied();
    for cookies in [
        "session_id=\"".to_owned(),
        "session_id=;;;=;=\"\\\"; session_id".to_owned(),
        "session_id=' OR 1=1 --aaaaaaaaaaaa".to_owned(),
        "session_id=%00%ff%0d%0aSet-Cookie:aaaaaaaaaaa".to_owned(),
        "session_id=\u{e9}\u{1f600}\u{1f600}\u{1f600}\u{1f600}".to_owned(),
        "session_id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; ".repeat(1000),
        format!("session_id={}", "a".repeat(60_000)),
        "; ".repeat(10_000),
        "a=b; ".repeat(5000),
    ] {
        let header = format!("Accept: text/html\r\nCookie: {cookies}\r\n");
        let answer = attack(world.sidecar.port, get(b"/about/", header.as_bytes()))
            .await
            .expect("an answer");
        assert!(matches!(answer.status, 200 | 400), "{}", answer.status);
    }
    let tab = get(
        b"/about/",
        b"Cookie: session_id=\taaaaaaaaaaaaaaaaaaaa\t\r\nCookie: \x80\xff\r\n",
    );
    assert_eq!(
        attack(world.sidecar.port, tab).await.expect("an answer").status,
        200
    );
    assert_eq!(world.sidecar.metrics().await.get(lookups).copied(), before);
    unharmed(world).await;
}
