//! What a client may not say of itself (promise 5), and what a trusted proxy may (I8).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{in_front_of, request};
use crate::support::fake_upstream::{FakeUpstream, OK};
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

const CLAIMS: &[&str] = &[
    "X-Forwarded-For: 198.51.100.1, 203.0.113.9, 127.0.0.5",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.test",
    "X-Request-Id: given-by.proxy:1",
    "X-Real-IP: 198.51.100.1",
    "X-Headcount-Recorded: 1",
    "X-Headcount-User: 1",
];

/// Headers that the app receives, as WSGI shows them to it.
async fn received(port: u16, headers: &[&str]) -> BTreeMap<String, String> {
    let answer = exchange(port, request("GET /echo", headers, ""), false)
        .await
        .json();
    let headers: BTreeMap<String, Value> = serde_json::from_value(answer["headers"].clone()).expect("a map");
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    headers
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

#[tokio::test]
async fn i8_nothing_that_a_client_says_of_its_identity_is_believed() {
    let world = World::shared().await;
    let headers = received(world.sidecar.port, CLAIMS).await;
    assert_eq!(headers["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!(headers["HTTP_X_REAL_IP"], "127.0.0.1");
    assert_eq!(headers["HTTP_X_FORWARDED_PROTO"], "http");
    assert_eq!(headers["HTTP_X_FORWARDED_HOST"], "site.test");
    assert_ne!(headers["HTTP_X_REQUEST_ID"], "given-by.proxy:1");
    assert!(!headers.contains_key("HTTP_X_HEADCOUNT_USER"));
}

#[tokio::test]
async fn i8_a_trusted_proxy_is_believed_as_far_as_proxies_vouch_for_it() {
    let world = World::shared().await;
    let mut wanted = Wanted::usual();
    wanted.config = "[limits]\ntrusted_proxies = [\"127.0.0.0/8\"]".into();
    let sidecar = world.another_sidecar(&wanted);
    let headers = received(sidecar.port, CLAIMS).await;
    assert_eq!(
        headers["HTTP_X_FORWARDED_FOR"],
        "203.0.113.9, 127.0.0.5, 127.0.0.1"
    );
    assert_eq!(headers["HTTP_X_REAL_IP"], "203.0.113.9");
    assert_eq!(headers["HTTP_X_FORWARDED_PROTO"], "https");
    assert_eq!(headers["HTTP_X_FORWARDED_HOST"], "shop.test");
    assert_eq!(headers["HTTP_X_REQUEST_ID"], "given-by.proxy:1");
    assert!(!headers.contains_key("HTTP_X_HEADCOUNT_USER"));
    // Odd values of the same headers are not worth more because of who sent them.
    let odd = [
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Host: a/b",
        "X-Request-Id: <script>",
    ];
    let headers = received(sidecar.port, &odd).await;
    assert_eq!(headers["HTTP_X_FORWARDED_PROTO"], "http");
    assert_eq!(headers["HTTP_X_FORWARDED_HOST"], "site.test");
    assert_eq!(headers["HTTP_X_REQUEST_ID"].len(), 36);
}

/// WSGI makes `_` and `-` the same, though gunicorn drops such names by default.
#[tokio::test]
async fn identity_headers_reach_no_app_in_any_spelling() {
    let app = FakeUpstream::answering(|_| OK).await;
    let sidecar = in_front_of(&[&app], "").await;
    let claims = [
        "Remote-User: mallory",
        "REMOTE_USER: mallory",
        "X_Forwarded_For: 198.51.100.1",
        "x-forwarded_proto: https",
        "X-Real_IP: 198.51.100.1",
        "Forwarded: for=198.51.100.1",
        "X-Original-URL: /mallory",
        "Client-IP: 198.51.100.1",
        "True-Client-IP: 198.51.100.1",
        "CF-Connecting-IP: 198.51.100.1",
        "X-Forwarded-User: mallory",
        "X-Auth-Request-Email: mallory",
        "Proxy: http://mallory.test",
        "SCRIPT_NAME: /mallory",
        "X_Headcount_Recorded: mallory",
    ];
    assert_eq!(
        exchange(sidecar.port, request("GET /", &claims, ""), false)
            .await
            .status,
        200
    );
    let head = &app.heard()[0].head;
    assert!(
        !head.contains("mallory") && !head.contains("198.51") && !head.contains('_'),
        "{head}"
    );
}

#[tokio::test]
async fn v8_a_sidecar_that_records_nothing_does_not_say_that_it_does() {
    let world = World::shared().await;
    let mut wanted = Wanted::usual();
    wanted.record = "presence = false\nevents = false\npages_visited = false\nlast_active = false".into();
    let sidecar = world.another_sidecar(&wanted);
    let headers = received(sidecar.port, &["X-Headcount-Recorded: 1"]).await;
    assert!(!headers.contains_key("HTTP_X_HEADCOUNT_RECORDED"));
}
