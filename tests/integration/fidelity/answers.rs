//! Statuses, headers and bodies of answers.

use super::{get, request, unchanged};
use crate::support::wire::Wire;
use crate::support::world::World;

#[tokio::test]
async fn pages_json_files_and_errors_come_as_the_site_made_them() {
    let world = World::shared().await;
    let community = world.community("rust");
    let hidden = world.community("hidden");
    let paths = [
        "/",
        "/about/",
        "/about",
        &community,
        &hidden,
        "/c/rust/",
        "/json-page",
        "/api/communities/",
        "/static/site.css",
        "/attachment",
        "/healthz",
        "/nowhere/",
        "/redirect",
        "/redirect?to=https%3A%2F%2Felsewhere.test%2F%3Fq%3D1%23top",
        "/redirect?to=//site.test/",
    ];
    for path in paths {
        unchanged(world, get(path)).await;
    }
    assert_eq!(unchanged(world, get(&hidden)).await.status, 404);
}

#[tokio::test]
async fn every_status_passes_with_its_body_or_without() {
    let world = World::shared().await;
    for status in [
        200, 201, 204, 205, 206, 299, 301, 304, 400, 404, 418, 451, 499, 500, 502, 503, 504, 599,
    ] {
        let answer = unchanged(world, get(&format!("/status/{status}"))).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn several_cookies_with_odd_values_stay_several_and_odd() {
    let answer = unchanged(World::shared().await, get("/cookies")).await;
    let cookies: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .collect();
    assert_eq!(cookies.len(), 10);
    let has = |text: &str| cookies.iter().any(|(_, value)| value.contains(text));
    assert!(has("a=b==&c=d") && has("\"with spaces, and commas\"") && has("{\"a\":1,\"b\":[2,3]}"));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let world = World::shared().await;
    for path in [
        "/about/",
        "/download?size=1000",
        "/stream?n=3",
        "/nowhere/",
        "/healthz",
    ] {
        unchanged(world, request(&format!("HEAD {path}"), &[], "")).await;
    }
    // Nothing of a body follows: the next answer on the same connection is understood.
    let mut wire = Wire::open(world.sidecar.port).await;
    for _ in 0..3 {
        wire.send("HEAD /download?size=70000 HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        let answer = wire.try_answer(true).await.expect("a response");
        assert_eq!(answer.header("content-length"), Some("70000"));
    }
}

#[tokio::test]
async fn ranges_pass_both_ways() {
    let world = World::shared().await;
    let range = |range: &str| {
        request(
            "GET /download?size=100000",
            &[&format!("Range: bytes={range}")],
            "",
        )
    };
    for (wanted, status, length) in [
        ("0-0", 206, 1),
        ("10-65550", 206, 65541),
        ("-5", 206, 5),
        ("99999-", 206, 1),
        ("100000-", 416, 0),
        ("nonsense", 200, 100_000),
    ] {
        let answer = unchanged(world, range(wanted)).await;
        assert_eq!((answer.status, answer.body.len()), (status, length), "{wanted}");
    }
}

#[tokio::test]
async fn a_match_of_the_etag_is_304() {
    let world = World::shared().await;
    let first = unchanged(world, get("/etag")).await;
    let condition = format!("If-None-Match: {}", first.header("etag").expect("an ETag"));
    assert_eq!(
        unchanged(world, request("GET /etag", &[&condition], ""))
            .await
            .status,
        304
    );
    let other = request("GET /etag", &["If-None-Match: \"other\""], "");
    assert_eq!(unchanged(world, other).await.status, 200);
}

#[tokio::test]
async fn large_response_headers_pass() {
    let world = World::shared().await;
    for query in ["n=100&size=100", "n=4&size=16000", "n=1&size=60000"] {
        let answer = unchanged(world, get(&format!("/headers/large?{query}"))).await;
        assert_eq!(answer.status, 200, "{query}");
    }
}

#[tokio::test]
async fn chunked_answers_stay_chunked() {
    let world = World::shared().await;
    let answer = unchanged(world, get("/stream?n=20")).await;
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(answer.header("content-length"), None);
    let events = unchanged(world, get("/sse?n=3")).await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks_and_the_connections_end() {
    let world = World::shared().await;
    for (path, host) in [
        ("/about/", ""),
        ("/stream?n=5", ""),
        ("/stream?n=5", "Host: site.test\r\n"),
    ] {
        let answer = unchanged(world, format!("GET {path} HTTP/1.0\r\n{host}\r\n")).await;
        assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None));
    }
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send("GET /about/ HTTP/1.0\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&wire.rest().await).ends_with("</html>\n"));
}
