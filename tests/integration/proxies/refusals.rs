//! Requests that are refused, and where that shows.

use super::{get, refused};
use crate::support::service::wait_until;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, exchange};
use crate::support::world::{Wanted, World};

async fn sidecar(config: &str) -> Sidecar {
    let mut wanted = Wanted::usual();
    wanted.config = config.into();
    World::shared().await.another_sidecar(&wanted)
}

#[tokio::test]
async fn e18_every_refused_head_is_counted_and_told() {
    let sidecar = sidecar("[log]\nfilter = \"info,headcount=debug\"\n").await;
    let many = "A: b\r\n".repeat(257);
    let large = format!("A: {}\r\n", "b".repeat(70_000));
    let mut all = 0.0;
    for (reason, status, request) in [
        (
            "malformed",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n".to_owned(),
        ),
        ("malformed", 400, "\u{16}\u{3}\u{1}\r\n\r\n".to_owned()),
        (
            "malformed",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        ),
        (
            "malformed",
            400,
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n".to_owned(),
        ),
        // Found only when the request is passed on.
        (
            "malformed",
            400,
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n".to_owned(),
        ),
        ("host", 400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("host", 400, "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned()),
        ("host", 400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        ("host", 400, "GET / HTTP/1.0\r\nHost: a b\r\n\r\n".to_owned()),
        ("path", 400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("method", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (
            "method",
            405,
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".to_owned(),
        ),
        (
            "header_count",
            431,
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        ),
        (
            "header_size",
            431,
            format!("GET / HTTP/1.1\r\nHost: a\r\n{large}\r\n"),
        ),
        // Not even complete.
        (
            "header_size",
            431,
            format!("GET / HTTP/1.1\r\nHost: a\r\n{large}"),
        ),
    ] {
        let what = &request[..request.len().min(80)];
        let counter = format!("headcount_requests_refused_total{{reason=\"{reason}\"}}");
        let before = sidecar.metric(&counter).await;
        let answer = exchange(sidecar.port, &request, false).await;
        assert_eq!(answer.status, status, "{what:?}");
        // What the framework refuses is counted once it has answered.
        sidecar.wait_for_metric(&counter, |count| count > before).await;
        all += if request.contains("Connection:") { 0.0 } else { 1.0 };
    }
    // They are requests, too.
    let requests = "headcount_requests_total{route=\"refused\",status=\"4xx\"}";
    sidecar.wait_for_metric(requests, |count| count >= all).await;
    // Lines are written a moment after what they tell of.
    let told = || sidecar.log().matches("reason=\"").count();
    wait_until("a line for each", || told() >= 14);
    let log = sidecar.log();
    let lines = |level: &str, reason: &str| {
        let reason = format!("reason=\"{reason}\"");
        let lines = log.lines();
        lines
            .filter(|line| line.contains(level) && line.contains(&reason))
            .count()
    };
    // Of each reason one warning; the others are there for who looks for them.
    for (reason, count) in [
        ("malformed", 5),
        ("host", 4),
        ("path", 1),
        ("method", 2),
        ("header_size", 2),
    ] {
        assert_eq!(refused(&sidecar, reason).await, count, "{reason}");
        assert_eq!(lines("WARN", reason), 1, "{reason}: {log}");
        assert_eq!(lines("DEBUG", reason), count - 1, "{reason}: {log}");
    }
    assert_eq!(exchange(sidecar.port, get("/about/"), false).await.status, 200);
}

#[tokio::test]
async fn e18_a_head_that_is_never_complete_is_counted() {
    let sidecar = sidecar("[limits]\nheader_timeout = \"1s\"\nkeepalive_timeout = \"1s\"\n").await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    wire.closes().await;
    sidecar
        .wait_for_metric(
            "headcount_requests_refused_total{reason=\"header_timeout\"}",
            |count| count >= 1.0,
        )
        .await;
    // Who opens a connection and says nothing, or keeps one, was refused nothing.
    let mut wire = Wire::open(sidecar.port).await;
    wire.closes().await;
    let mut wire = Wire::open(sidecar.port).await;
    wire.send("GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    wire.closes().await;
    assert_eq!(refused(&sidecar, "header_timeout").await, 1);
}
