//! Tests of the live endpoints: which requests get a connection.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};

use super::fakes::Mood;
use super::support::{Site, anonymous, answer, member};
use crate::api::{Body, Caller};
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
    Site::with_live(configure, config::Live::default())
}

async fn ask(site: &Site, caller: Caller, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path).header("host", "site.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(&site.api, request.body(()).unwrap(), caller).await
}

fn is_connection(answer: &Response<Body>) -> bool {
    matches!(answer.body(), Body::Live(_))
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
            assert!(is_connection(&answer));
        }
    }
    let closed = site.live_metrics.closed.of("client").get();
    assert_eq!(closed, 0, "what nobody takes has not begun");
    assert_eq!(
        site.live().drain(Duration::from_secs(1)).await,
        0,
        "and leaves nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_there_is_no_connection() {
    let site = site(|_| {});
    *site.presence.mood.lock().unwrap() = Mood::Away;
    let answer = ask(&site, member(), LIVE, &WEB_SOCKET).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"));
    let refused = || site.metrics.live_refused.of("unavailable").get();
    assert_eq!(refused(), 1);
    is_sent_away(ask(&site, member(), LIVE, &EVENTS).await, SOON);
    assert_eq!(refused(), 2);
    let closed = site.live_metrics.closed.of("client").get();
    assert_eq!(closed, 0, "what was refused was never open");
    *site.presence.mood.lock().unwrap() = Mood::Fine;
    let answer = ask(&site, member(), LIVE, &EVENTS).await;
    assert!(is_connection(&answer));
}

/// Milliseconds, by the defaults.
const SOON: Range<u64> = 1_500..4_501;
const LATER: Range<u64> = 5_000..15_001;

/// An event stream that says when to come back, and no more. Its connection ends with it: the next one may lead to
/// another process.
fn is_sent_away(answer: Response<Body>, wait: Range<u64>) {
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!is_connection(&answer));
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["connection"], "close");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(!headers.contains_key("retry-after"));
    let Body::Bytes(body) = answer.into_body() else {
        panic!("a connection");
    };
    assert_eq!(headers["content-length"], body.len().to_string());
    let body = std::str::from_utf8(&body).unwrap();
    let (retry, rest) = body.split_once("\n\n").unwrap();
    let retry: u64 = retry.strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!(wait.contains(&retry), "{retry}");
    assert_eq!(
        rest,
        "data: {\"type\":\"close\",\"code\":1013,\"reason\":\"cannot be answered right now\"}\n\n"
    );
}

#[tokio::test(start_paused = true)]
async fn i10_an_event_source_whose_session_may_appear_is_told_to_come_back() {
    let site = site(|_| {});
    let caller = || Caller {
        may_appear: true,
        ..Caller::default()
    };
    is_sent_away(ask(&site, caller(), LIVE, &EVENTS).await, SOON);
    let refused = ask(&site, anonymous(), LIVE, &EVENTS).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}

/// By the standard an `EventSource` gives up for good at any other status than 200.
#[tokio::test(start_paused = true)]
async fn l2_an_event_source_that_cannot_be_served_now_is_told_to_come_back() {
    let site = site(|_| {});
    site.live().drain(Duration::ZERO).await;
    is_sent_away(ask(&site, member(), LIVE, &EVENTS).await, SOON);
    let answer = ask(&site, member(), LIVE, &WEB_SOCKET).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);

    // Nothing is known of the caller.
    let site = self::site(|_| {});
    let unknown = Caller {
        unavailable: true,
        ..anonymous()
    };
    is_sent_away(ask(&site, unknown, LIVE, &EVENTS).await, SOON);
    // Nor of the community, whose table hangs.
    *site.store.mood.lock().unwrap() = Mood::Hung;
    is_sent_away(ask(&site, member(), LIVE, &EVENTS).await, SOON);
    let answer = ask(&site, member(), LIVE, &WEB_SOCKET).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn l2_an_event_source_that_finds_no_place_is_told_to_come_back() {
    let full = |configure: fn(&mut config::Live)| {
        let mut settings = config::Live::default();
        configure(&mut settings);
        Site::with_live(|_| {}, settings)
    };
    for (site, wait) in [
        (full(|settings| settings.max_connections = 1), SOON),
        (
            full(|settings| settings.max_per_address = 1.try_into().unwrap()),
            LATER,
        ),
    ] {
        let caller = Caller {
            address: Some([192, 0, 2, 1].into()),
            ..member()
        };
        let _first = ask(&site, caller.clone(), LIVE, &EVENTS).await;
        is_sent_away(ask(&site, caller.clone(), LIVE, &EVENTS).await, wait);
        let answer = ask(&site, caller, LIVE, &WEB_SOCKET).await;
        assert!(
            answer.headers().contains_key("retry-after"),
            "{}",
            answer.status()
        );
    }
}

/// Handshakes may wait for long, for the app, its table or a snapshot.
#[tokio::test(start_paused = true)]
async fn handshakes_that_wait_take_no_place_of_other_requests() {
    let site = Arc::new(site(|_| {}));
    let held = site.store.hold.lock().await;
    let waiting: Vec<_> = (0..300)
        .map(|_| {
            let site = Arc::clone(&site);
            tokio::spawn(async move { ask(&site, member(), LIVE, &WEB_SOCKET).await.status() })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()), "they wait");
    let other = site.get("/api/visitors/openapi.json").await;
    assert_eq!(other.status, StatusCode::OK);
    drop(held);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), StatusCode::SWITCHING_PROTOCOLS);
    }
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
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
    }
}

/// Without these headers the browser would keep the stream from the page, whatever this side allows.
#[tokio::test(start_paused = true)]
async fn a_page_of_an_origin_that_is_allowed_may_read_its_event_stream_and_why_there_is_none() {
    let settings = config::Live {
        allowed_origins: vec!["https://app.example.org".into()],
        ..config::Live::default()
    };
    let site = Site::with_live(|_| {}, settings);
    let headers = [EVENTS[0], ("origin", "https://app.example.org")];
    for (caller, path, status) in [
        (member(), LIVE, 200),
        (anonymous(), LIVE, 401),
        (member(), "/api/communities/404/visitors/live", 404),
        (member(), "/api/visitors/live?communities=", 400),
    ] {
        let answer = ask(&site, caller.clone(), path, &headers).await;
        assert_eq!(answer.status().as_u16(), status);
        let allowed = answer.headers();
        assert_eq!(allowed["access-control-allow-origin"], "https://app.example.org");
        assert_eq!(allowed["access-control-allow-credentials"], "true");
        assert_eq!(allowed["vary"], "Cookie, Accept, Origin");
        let own = ask(&site, caller, path, &[EVENTS[0], ("origin", "https://site.test")]).await;
        assert!(!own.headers().contains_key("access-control-allow-origin"));
        assert_eq!(own.headers()["vary"], "Cookie, Accept, Origin");
    }
    site.live().drain(Duration::ZERO).await;
    let away = ask(&site, member(), LIVE, &headers).await;
    assert_eq!(
        away.headers()["access-control-allow-origin"],
        "https://app.example.org"
    );
    is_sent_away(away, SOON);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_with_a_body_is_no_handshake() {
    let site = site(|_| {});
    for kind in [&EVENTS[..], &WEB_SOCKET] {
        for header in [("content-length", "5"), ("transfer-encoding", "chunked")] {
            let mut headers = kind.to_vec();
            headers.push(header);
            let answer = ask(&site, member(), LIVE, &headers).await;
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
        let mut headers = kind.to_vec();
        headers.push(("content-length", "0"));
        let answer = ask(&site, member(), LIVE, &headers).await;
        assert!(is_connection(&answer));
    }
    let refused = site.metrics.live_refused.of("request").get();
    assert_eq!(refused, 4);
}
