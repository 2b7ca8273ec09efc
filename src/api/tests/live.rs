//! Who gets a live connection.

use axum::body::Body;
use http::{Request, Response, StatusCode};

use super::fakes::Mood;
use super::support::{Site, anonymous, member};
use crate::api::{Caller, Opening};
use crate::config::{self, Access};

const LIVE: &str = "/api/communities/42/visitors/live";
const MANY: &str = "/api/visitors/live?communities=42,43";

const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];
const WEB_SOCKET: [(&str, &str); 4] = [
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn site(configure: impl FnOnce(&mut config::Api)) -> Site {
    Site::live(configure, config::Live::default())
}

async fn ask(site: &Site, caller: Caller, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path).header("host", "site.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(caller);
    site.api.call(request).await
}

#[tokio::test(start_paused = true)]
async fn a_connection_comes_with_its_head() {
    let site = site(|_| {});
    for path in [LIVE, MANY, "/api/communities/42/visitors/live/?heartbeat=false"] {
        let events = ask(&site, member(), path, &EVENTS).await;
        assert_eq!(events.status(), StatusCode::OK, "{path}");
        assert_eq!(events.headers()["content-type"], "text/event-stream");
        assert_eq!(events.headers()["transfer-encoding"], "chunked");
        assert_eq!(events.headers()["connection"], "close");
        assert!(!events.headers().contains_key("content-length"));
        let web_socket = ask(&site, member(), path, &WEB_SOCKET).await;
        assert_eq!(web_socket.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
        assert_eq!(web_socket.headers()["upgrade"], "websocket");
        assert_eq!(web_socket.headers()["connection"], "Upgrade");
        assert_eq!(
            web_socket.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        for answer in [events, web_socket] {
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let opening = answer.extensions().get::<Opening>().expect("a connection");
            assert!(
                opening.take().is_some() && opening.take().is_none(),
                "to be taken once"
            );
        }
    }
    let closed = site.metrics.live_closed.with_label_values(&["client"]).get();
    assert_eq!(closed, 6, "a connection that nobody takes ends");
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_there_is_no_connection() {
    let site = site(|_| {});
    *site.presence.mood.lock().unwrap() = Mood::Away;
    let answer = ask(&site, member(), LIVE, &EVENTS).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let refused = site
        .metrics
        .live_refused
        .with_label_values(&["unavailable"])
        .get();
    assert_eq!(refused, 1);
    *site.presence.mood.lock().unwrap() = Mood::Fine;
    assert_eq!(ask(&site, member(), LIVE, &EVENTS).await.status(), StatusCode::OK);
}

/// I9, for listeners.
#[tokio::test(start_paused = true)]
async fn forbidden_and_absent_look_the_same_to_listeners() {
    let site = site(|settings| settings.access = Access::Backend);
    site.backend.says("/api/communities/42/", StatusCode::FORBIDDEN);
    site.backend.says("/api/communities/404/", StatusCode::NOT_FOUND);
    for caller in [member(), anonymous()] {
        let forbidden = ask(&site, caller.clone(), LIVE, &EVENTS).await;
        let absent = ask(&site, caller, "/api/communities/404/visitors/live", &EVENTS).await;
        assert_eq!(forbidden.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            (forbidden.status(), forbidden.headers()),
            (absent.status(), absent.headers())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_rules_are_those_of_the_lists() {
    for (access, caller, expected) in [
        (Access::Session, anonymous(), 401),
        (Access::Session, member(), 200),
        (Access::Public, anonymous(), 200),
        (Access::Backend, anonymous(), 200),
    ] {
        let site = site(|settings| settings.access = access);
        let answer = ask(&site, caller, LIVE, &EVENTS).await;
        assert_eq!(answer.status().as_u16(), expected, "{access:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn i6_a_foreign_page_gets_no_connection() {
    let site = site(|_| {});
    for headers in [&EVENTS[..], &WEB_SOCKET] {
        let mut headers = headers.to_vec();
        headers.push(("origin", "https://evil.test"));
        let answer = ask(&site, member(), LIVE, &headers).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
}
