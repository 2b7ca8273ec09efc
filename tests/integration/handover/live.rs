//! Live connections across a hand-over: whoever listens to the old process is sent away, and comes back to the new
//! one without anybody's doing, also by way of a connection that the old one still keeps.

use super::endings::{ends_well, get};
use super::still_serves;
use crate::support::chromium::Chromium;
use crate::support::live::{Events, Socket};
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Answer, Wire};
use crate::support::world::{Wanted, World};

/// A sidecar of its own, whose live clients come back soon, in front of the site that all share.
async fn sidecar() -> Sidecar {
    World::shared().await.another_sidecar(&Wanted {
        config: "[live]\nretry = \"500ms\"\n[limits]\ngrace_period = \"1h\"".into(),
        ..Wanted::usual()
    })
}

/// A connection that the sidecar keeps.
async fn kept(sidecar: &Sidecar) -> Wire {
    let mut wire = Wire::open(sidecar.port).await;
    wire.send(get("/about/")).await;
    assert_eq!(wire.answer().await.status, 200);
    wire
}

/// Asks for a live connection over one that is kept, which ends with the answer.
async fn asks(mut wire: Wire, path: &str, headers: &str) -> Answer {
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"))
        .await;
    let answer = wire.answer().await;
    assert_eq!(answer.header("connection"), Some("close"));
    wire.closes().await;
    answer
}

#[tokio::test]
async fn l3_whoever_comes_back_to_the_old_process_is_sent_on() {
    let world = World::shared().await;
    let mut sidecar = sidecar().await;
    let alice = world.member("alice").await;
    let path = world.visitors("rust", "/live");
    let mut events = Events::open(&sidecar, &path, &alice).await;
    let mut socket = Socket::open(&sidecar, &path, &alice).await;
    let (first, second) = (kept(&sidecar).await, kept(&sidecar).await);
    let mut old = sidecar.hand_over();
    let last = events.ends().await;
    assert_eq!((&last["type"], &last["code"]), (&"close".into(), &1001.into()));
    events.closes().await;
    assert_eq!(socket.close_code().await, 1001);

    let cookie = format!("Cookie: {}\r\n", alice.cookie());
    let answer = asks(first, &path, &format!("Accept: text/event-stream\r\n{cookie}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    assert!(
        text.starts_with("retry: ") && text.contains("\"code\":1013"),
        "{text}"
    );
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = asks(second, &path, &format!("{handshake}{cookie}")).await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());

    let mut again = Events::open(&sidecar, &path, &alice).await;
    again.count().await;
    ends_well(&mut old);
    still_serves(&sidecar).await;
}

#[tokio::test]
async fn l3_in_a_browser_an_event_source_comes_back_by_itself() {
    let world = World::shared().await;
    let mut sidecar = sidecar().await;
    let alice = world.member("alice").await;
    let browser = Chromium::start().await;
    browser.open(&sidecar.url("/about/")).await;
    let (cookie, path) = (alice.cookie(), world.visitors("rust", "/live"));
    browser
        .wait_for(&format!(
            "(() => {{ document.cookie = '{cookie}; path=/'; window.told = [];
                window.stream = new EventSource('{path}');
                stream.onmessage = (event) => told.push(JSON.parse(event.data)); return true; }})()"
        ))
        .await;
    browser
        .wait_for("told.some((message) => message.type === 'count')")
        .await;
    // Connections that the browser will use again.
    browser
        .wait_for(
            "(() => { window.fetched = 0;
                for (let i = 0; i < 4; i++) fetch('/about/?' + i).then((page) => page.text()).then(() => fetched++);
                return true; })()",
        )
        .await;
    browser.wait_for("fetched === 4").await;
    let _old = sidecar.hand_over();
    browser
        .wait_for(
            "(() => { const end = told.findIndex((message) => message.type === 'close');
                return end >= 0 && told.slice(end).some((message) => message.type === 'count'); })()",
        )
        .await;
}
