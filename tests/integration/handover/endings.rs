//! What becomes of the old process and its connections.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use super::load::Way;
use super::{NEVER, still_serves};
use crate::support::process::Process;
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::sidecar::{Sidecar, WAITING};
use crate::support::tls::Certificate;
use crate::support::wire::{Wire, connect};
use crate::support::world::{Wanted, World};

/// A sidecar of its own, in front of the site that all share.
async fn sidecar(grace: &str) -> Sidecar {
    World::shared().await.another_sidecar(&Wanted {
        config: format!("[limits]\ngrace_period = \"{grace}\""),
        ..Wanted::usual()
    })
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub(super) fn ends_well(old: &mut Process) {
    assert_eq!(old.wait_for_end(), Some(0), "{}", old.log());
}

/// A gate in the site that is this test's own.
pub(super) fn any_gate() -> String {
    format!("gate{}", uuid::Uuid::new_v4().simple())
}

pub(super) async fn open(gate: &str) {
    let site = &World::shared().await.site;
    let opened = reqwest::get(site.url(&format!("/gates/{gate}/open"))).await;
    assert_eq!(opened.expect("an answer").status(), 204);
}

#[tokio::test]
async fn what_the_old_process_has_begun_it_ends() {
    let mut sidecar = sidecar(NEVER).await;
    let gate = any_gate();
    let mut request = Wire::open(sidecar.port).await;
    request.send(get(&format!("/gates/{gate}/wait"))).await;
    let mut events = Wire::open(sidecar.port).await;
    events.send(get(&format!("/sse?n=3&gate={gate}"))).await;
    assert_eq!(events.head().await.status, 200);
    let first = events.chunk().await.expect("an event");
    assert!(first.starts_with(b"id: 0"));

    let mut old = sidecar.hand_over();
    still_serves(&sidecar).await;
    for _ in 0..3 {
        open(&gate).await;
    }
    let answer = request.answer().await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("connection"), Some("close"));
    request.closes().await;
    let mut rest = Vec::new();
    while let Some(chunk) = events.chunk().await {
        rest.extend(chunk);
    }
    let rest = String::from_utf8(rest).expect("UTF-8");
    assert!(rest.starts_with("id: 1") && rest.contains("id: 2"), "{rest}");
    // The stream's head had promised to keep the connection.
    events.send(get("/about/")).await;
    assert_eq!(events.answer().await.header("connection"), Some("close"));
    events.closes().await;
    ends_well(&mut old);
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_kept_connection_is_answered_once_more_and_told_to_end() {
    let mut sidecar = sidecar(NEVER).await;
    let mut kept = Wire::open(sidecar.port).await;
    let fresh = Wire::open(sidecar.port).await;
    kept.send(get("/about/")).await;
    assert_eq!(kept.answer().await.header("connection"), Some("keep-alive"));
    // Both connections have been accepted.
    sidecar
        .wait_for_metric("headcount_connections", |connections| connections == 2.0)
        .await;
    let mut old = sidecar.hand_over();
    for mut wire in [kept, fresh] {
        wire.send(get("/about/")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("About"));
        assert_eq!(answer.header("connection"), Some("close"));
        wire.closes().await;
    }
    ends_well(&mut old);
}

#[tokio::test]
async fn a_kept_connection_of_the_admin_listener_is_led_to_the_new_process() {
    let mut sidecar = sidecar(NEVER).await;
    let mut kept = Wire::open(sidecar.admin).await;
    kept.send(get("/readyz")).await;
    let ready = kept.answer().await;
    assert_eq!((ready.status, ready.header("connection")), (200, None));
    let mut old = sidecar.hand_over();
    kept.send(get("/readyz")).await;
    let gone = kept.answer().await;
    assert_eq!(gone.status, 503);
    assert_eq!(gone.text(), "handed over to another process\n");
    assert_eq!(gone.header("connection"), Some("close"));
    kept.closes().await;
    ends_well(&mut old);
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn a_tls_handshake_that_has_begun_with_the_old_process_ends_there() {
    let certificate = Certificate::of("site.test");
    let port = free_port();
    let mut sidecar = World::shared().await.another_sidecar(&Wanted {
        config: format!(
            "{}[limits]\ngrace_period = \"{NEVER}\"\n",
            certificate.listener(port)
        ),
        ..Wanted::usual()
    });
    let way = Way::tls(port, certificate.path(), "site.test");
    let silent = connect(port).await;
    // Connections are accepted in their order: with this one, the other has been.
    let mut after = way.open().await;
    after.send(get("/about/")).await;
    assert_eq!(after.answer().await.status, 200);
    drop(after);

    let mut first = sidecar.hand_over();
    // The second one has no connection at all, and takes its time to end. The first would have, too.
    let mut second = sidecar.hand_over();
    ends_well(&mut second);
    assert!(!first.log().contains("ended"), "{}", first.log());
    let mut late = way.over(silent).await;
    late.send(get("/about/")).await;
    let answer = late.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    ends_well(&mut first);
}

#[tokio::test]
async fn connections_that_stay_idle_keep_the_old_process_for_the_grace_period_only() {
    let mut sidecar = sidecar("1s").await;
    let mut kept = Wire::open(sidecar.port).await;
    kept.send(get("/about/")).await;
    assert_eq!(kept.answer().await.status, 200);
    let mut old = sidecar.hand_over();
    kept.closes().await;
    ends_well(&mut old);
    assert!(!old.log().contains("cut off"), "{}", old.log());
}

#[tokio::test]
async fn a_tunnel_lives_on_in_the_old_process_for_the_grace_period_at_most() {
    for (grace, lives) in [(NEVER, true), ("1s", false)] {
        let mut sidecar = sidecar(grace).await;
        let handshake = format!("ws://127.0.0.1:{}/ws/echo", sidecar.port)
            .into_client_request()
            .expect("a URL");
        let (mut tunnel, _) = connect_async(handshake).await.expect("a handshake");
        let mut old = sidecar.hand_over();
        if lives {
            tunnel
                .send(Message::text("still here"))
                .await
                .expect("an open tunnel");
            let echo = tunnel.next().await.expect("an open tunnel").expect("a message");
            assert_eq!(echo, Message::text("still here"));
            tunnel.close(None).await.expect("an open tunnel");
        }
        ends_well(&mut old);
        assert_eq!(old.log().contains("requests=1"), !lives, "{}", old.log());
    }
}

/// An old process that a tunnel keeps after a hand-over.
async fn kept_by_a_tunnel() -> (Sidecar, Process, Wire) {
    let mut sidecar = sidecar(NEVER).await;
    let mut stream = Wire::open(sidecar.port).await;
    stream.send(get(&format!("/sse?n=2&gate={}", any_gate()))).await;
    assert_eq!(stream.head().await.status, 200);
    let old = sidecar.hand_over();
    (sidecar, old, stream)
}

#[tokio::test]
async fn two_sigterms_end_the_old_process_at_once() {
    let (sidecar, mut old, _stream) = kept_by_a_tunnel().await;
    old.signal("TERM");
    old.says("shutting down");
    old.signal("TERM");
    assert_eq!(old.wait_for_end(), Some(1), "{}", old.log());
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn one_sigterm_makes_the_old_process_wait_for_requests_only() {
    let mut sidecar = sidecar(NEVER).await;
    let mut kept = Wire::open(sidecar.port).await;
    kept.send(get("/about/")).await;
    assert_eq!(kept.answer().await.status, 200);
    let mut old = sidecar.hand_over();
    old.signal("TERM");
    ends_well(&mut old);
    kept.closes().await;
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn sighup_and_sigquit_do_no_harm_at_any_time() {
    let (mut sidecar, old, _stream) = kept_by_a_tunnel().await;
    let new = sidecar.newcomer();
    new.says(WAITING);
    // Too early for the one, too late for the other.
    new.signal("QUIT");
    old.signal("QUIT");
    for process in [&new, &old, sidecar.process()] {
        let before = process.log().matches("route files loaded").count();
        process.signal("HUP");
        eventually(async || process.log().matches("route files loaded").count() > before).await;
    }
    sidecar.signal("QUIT");
    new.says("it is ignored");
    let mut previous = sidecar.replace_with(new);
    ends_well(&mut previous);
    still_serves(&sidecar).await;
    assert!(!old.log().contains("ended"), "{}", old.log());
}
