//! Tests of the backend check against a real backend, over TCP and over a Unix socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap as Headers;
use axum::response::Redirect;
use axum::routing::get;
use http::{HeaderMap, StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::api::{BackendCheck, CheckError, UpstreamCheck};
use crate::config::Upstream;

type Log = Arc<Mutex<Vec<(String, Headers)>>>;

/// A backend that lets callers in with the cookie `key=right`, and writes down who came.
fn app(log: Log) -> Router {
    async fn community(State(log): State<Log>, uri: Uri, headers: Headers) -> StatusCode {
        let allowed = headers.get("cookie").is_some_and(|cookie| cookie == "key=right");
        log.lock().unwrap().push((uri.to_string(), headers));
        if allowed {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        }
    }
    Router::new()
        .route("/c/{id}/", get(community))
        .route("/login/", get(community))
        .route("/moved/", get(async || Redirect::temporary("/c/1/")))
        .route("/large/", get(async || "x".repeat(1 << 20)))
        .with_state(log)
}

async fn tcp_backend(log: Log) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, app(log)).await });
    address
}

fn check(servers: &[&str]) -> UpstreamCheck {
    let upstream = Upstream {
        servers: servers.iter().map(|server| (*server).to_owned()).collect(),
        ..Upstream::default()
    };
    UpstreamCheck::new(&upstream, Duration::from_secs(20))
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect()
}

/// A server that reads a request, writes these bytes, and keeps the connection open.
async fn raw_backend(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
                std::future::pending::<()>().await;
            });
        }
    });
    address
}

/// An address at which nothing listens, and the socket that keeps it from others.
fn nobody() -> (String, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap().to_string(), socket)
}

#[tokio::test]
async fn the_backends_status_is_returned_over_tcp() {
    let check = check(&[&tcp_backend(Log::default()).await]);
    let right = headers(&[("cookie", "key=right")]);
    assert_eq!(check.may_see("/c/1/", &right).await.unwrap(), StatusCode::OK);
    let wrong = headers(&[("cookie", "key=wrong")]);
    assert_eq!(
        check.may_see("/c/1/", &wrong).await.unwrap(),
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        check.may_see("/nowhere/", &right).await.unwrap(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_server_name_is_resolved() {
    let address = tcp_backend(Log::default()).await;
    let check = check(&[&address.replace("127.0.0.1", "localhost")]);
    let right = headers(&[("cookie", "key=right")]);
    assert_eq!(check.may_see("/c/1/", &right).await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn the_backends_status_is_returned_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async { axum::serve(listener, app(Log::default())).await });
    let check = check(&[&format!("unix:{}", path.display())]);
    let right = headers(&[("cookie", "key=right")]);
    assert_eq!(check.may_see("/c/1/", &right).await.unwrap(), StatusCode::OK);
    assert_eq!(
        check.may_see("/c/1/", &HeaderMap::new()).await.unwrap(),
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let log = Log::default();
    let check = check(&[&tcp_backend(log.clone()).await]);
    let status = check.may_see("/moved/", &HeaderMap::new()).await.unwrap();
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_backend_gets_who_the_caller_is_and_no_conditions() {
    let log = Log::default();
    let check = check(&[&tcp_backend(log.clone()).await]);
    let sent = headers(&[
        ("host", "www.example.com"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("user-agent", "Mozilla/5.0"),
        ("if-none-match", "\"1\""),
        ("range", "bytes=0-1"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("accept", "text/event-stream"),
    ]);
    check.may_see("/c/a%2Fb/", &sent).await.unwrap();
    let log = log.lock().unwrap();
    let [(path, got)] = &log[..] else {
        panic!("one request")
    };
    assert_eq!(path, "/c/a%2Fb/");
    for name in [
        "host",
        "authorization",
        "x-forwarded-for",
        "x-forwarded-proto",
        "user-agent",
    ] {
        assert_eq!(got.get(name), sent.get(name), "{name}");
    }
    assert_eq!(got.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    for name in [
        "if-none-match",
        "range",
        "content-length",
        "transfer-encoding",
        "upgrade",
    ] {
        assert!(!got.contains_key(name), "{name}");
    }
    assert_eq!(got["accept"], "*/*");
    assert_eq!(got["connection"], "close");
}

#[tokio::test]
async fn a_server_that_is_down_is_passed_over() {
    let ((dead, _nobody), alive) = (nobody(), tcp_backend(Log::default()).await);
    let check = check(&[&dead, "unix:/nowhere/app.sock", &alive]);
    let right = headers(&[("cookie", "key=right")]);
    for _ in 0..6 {
        assert_eq!(check.may_see("/c/1/", &right).await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test]
async fn servers_are_asked_in_turn() {
    let (first, second) = (Log::default(), Log::default());
    let check = check(&[
        &tcp_backend(first.clone()).await,
        &tcp_backend(second.clone()).await,
    ]);
    for _ in 0..4 {
        check.may_see("/c/1/", &HeaderMap::new()).await.unwrap();
    }
    assert_eq!(first.lock().unwrap().len(), 2);
    assert_eq!(second.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_is_an_error() {
    let (dead, _nobody) = nobody();
    let error = check(&[&dead])
        .may_see("/c/1/", &HeaderMap::new())
        .await
        .unwrap_err();
    assert!(matches!(error, CheckError::Unreachable(_)), "{error}");
    let error = check(&[]).may_see("/c/1/", &HeaderMap::new()).await.unwrap_err();
    assert!(matches!(error, CheckError::NoServer), "{error}");
}

#[tokio::test]
async fn a_backend_that_hangs_is_an_error() {
    let hung = raw_backend(b"").await;
    let half = raw_backend(b"HTTP/1.1 200 OK\r\nContent-Le").await;
    for server in [hung, half] {
        let upstream = Upstream {
            servers: vec![server],
            ..Upstream::default()
        };
        let check = UpstreamCheck::new(&upstream, Duration::from_millis(50));
        let error = check.may_see("/c/1/", &HeaderMap::new()).await.unwrap_err();
        assert!(matches!(error, CheckError::Timeout(_)), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_an_error() {
    let check = check(&[&raw_backend(b"SSH-2.0-OpenSSH\r\n\r\n").await]);
    let error = check.may_see("/c/1/", &HeaderMap::new()).await.unwrap_err();
    assert!(matches!(error, CheckError::Exchange(_)), "{error}");
}

#[tokio::test]
async fn a_path_that_cannot_stand_in_a_request_line_is_an_error() {
    let check = check(&[&tcp_backend(Log::default()).await]);
    for path in ["/c/1/ HTTP/1.1\r\nX-Injected: 1", "/c/a b/"] {
        let error = check.may_see(path, &HeaderMap::new()).await.unwrap_err();
        assert!(matches!(error, CheckError::Exchange(_)), "{error}");
    }
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let server = raw_backend(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let status = check(&[&server])
        .may_see("/c/1/", &HeaderMap::new())
        .await
        .unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

/// V7, for checks: the head decides.
#[tokio::test]
async fn a_body_that_is_large_or_broken_or_does_not_end_changes_nothing() {
    let check_large = check(&[&tcp_backend(Log::default()).await]);
    let status = check_large.may_see("/large/", &HeaderMap::new()).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    for answer in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx",
    ] {
        let check = check(&[&raw_backend(answer).await]);
        let status = check.may_see("/c/1/", &HeaderMap::new()).await.unwrap();
        assert_eq!(status, StatusCode::OK);
    }
}
