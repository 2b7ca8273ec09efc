//! When a page is connected, and when it comes back.

use serde_json::{Value, json};

use super::{ELEMENT, is_in, says, sockets, with_pages_by_hand};
use crate::support::chromium::Chromium;
use crate::support::live::Socket;
use crate::support::world::World;
use crate::widget::injecting;

#[tokio::test]
async fn a_restarted_sidecar_is_found_again() {
    let (world, mut sidecar, _server) = with_pages_by_hand("", "[live]\nretry = \"200ms\"").await;
    let rust = world.seeded.community("rust");
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&format!("/communities/{rust}/"))).await;
    is_in(&browser, json!("live")).await;
    sidecar.kill();
    is_in(&browser, json!("stale")).await;
    says(&browser, "1 Person ist hier").await;
    browser.picture("widget-stale").await;
    sidecar.restart();
    is_in(&browser, json!("live")).await;
    // And after a polite end.
    sidecar.signal("TERM");
    is_in(&browser, json!("stale")).await;
    sidecar.restart();
    is_in(&browser, json!("live")).await;
}

#[tokio::test]
async fn whether_a_connection_carries_can_be_asked_again_and_again() {
    let world = World::shared().await;
    let alice = world.member("alice").await;
    let path = format!(
        "/api/visitors/live?communities={}",
        world.seeded.community("rust")
    );
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    socket.count().await;
    for _ in 0..2 {
        socket
            .say(json!({"type": "subscribe", "communities": ["."]}).to_string())
            .await;
        assert_eq!(
            socket.next().await,
            json!({"type": "unknown", "community_id": "."})
        );
    }
}

#[tokio::test]
async fn where_there_is_no_place_the_count_is_asked_for_until_there_is() {
    let (world, sidecar, _server) = with_pages_by_hand("", "[live]\nmax_connections = 1").await;
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let bob = world.member("bob").await;
    let path = format!("/api/communities/{django}/visitors/live");
    let taken = Socket::open(&sidecar, &path, &bob).await;
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&format!("/communities/{rust}/"))).await;
    says(&browser, "1 Person ist hier").await;
    is_in(&browser, json!("live")).await;
    sockets(&sidecar, 1.0).await;
    drop(taken);
    sidecar
        .wait_for_metric("headcount_live_closed_total{reason=\"client\"}", |gone| {
            gone == 1.0
        })
        .await;
    sockets(&sidecar, 1.0).await;
}

#[tokio::test]
async fn i5_where_the_session_has_ended_nothing_is_shown() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let alice = world.member("alice").await;
    let browser = Chromium::of(&alice).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    alice.sign_out().await;
    is_in(&browser, Value::Null).await;
    sockets(&sidecar, 0.0).await;
    assert_eq!(
        browser.evaluate(&format!("{ELEMENT}.count")).await,
        Some(Value::Null)
    );
    assert_eq!(
        browser
            .evaluate(&format!("getComputedStyle({ELEMENT}).display"))
            .await,
        Some(json!("none"))
    );
    // Whoever never had one is told by the first answer.
    let refused = "headcount_api_requests_total{operation=\"counts\",status=\"4xx\"}";
    browser.open(&sidecar.url(&path)).await;
    sidecar.wait_for_metric(refused, |asked| asked == 1.0).await;
    is_in(&browser, Value::Null).await;
}

/// The session's row is written a moment after its cookie, by a task for one.
#[tokio::test]
async fn i10_where_the_session_appears_a_moment_later_the_count_is_shown() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let rust = world.seeded.community("rust");
    let token = "a-token-whose-row-comes-later";
    let browser = Chromium::start().await;
    browser.keep(&format!("session_id={token}")).await;
    browser.open(&sidecar.url(&format!("/communities/{rust}/"))).await;
    let refused = "headcount_api_requests_total{operation=\"counts\",status=\"4xx\"}";
    sidecar.wait_for_metric(refused, |asked| asked >= 1.0).await;
    let row = json!({"username": "alice", "session_id": token});
    world.site.tell("add-session", &row).await;
    is_in(&browser, json!("live")).await;
    says(&browser, "1 Person ist hier").await;
}

#[tokio::test]
async fn p11_a_page_that_is_hidden_for_long_no_longer_counts_as_being_there() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = Chromium::of(&world.member("alice").await).await;
    // Five minutes pass at once, and the test says what is hidden.
    let source = "const wait = setTimeout; \
        window.setTimeout = (call, time, ...more) => wait(call, time === 300000 ? 0 : time, ...more); \
        window.hides = false; Object.defineProperty(document, 'hidden', { get: () => window.hides });";
    browser
        .tell("Page.addScriptToEvaluateOnNewDocument", json!({"source": source}))
        .await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    sockets(&sidecar, 1.0).await;
    let hide = |hides: bool| {
        format!("(window.hides = {hides}, document.dispatchEvent(new Event('visibilitychange')))")
    };
    browser.evaluate(&hide(true)).await;
    is_in(&browser, json!("stale")).await;
    sockets(&sidecar, 0.0).await;
    browser.evaluate(&hide(false)).await;
    is_in(&browser, json!("live")).await;
    sockets(&sidecar, 1.0).await;
}

#[tokio::test]
async fn a_page_that_the_browser_kept_for_back_is_live_again() {
    let world = injecting("").start().await;
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&world.sidecar.url(&world.community("rust"))).await;
    is_in(&browser, json!("live")).await;
    sockets(&world.sidecar, 1.0).await;
    // Whatever this browser does with connections of pages that it keeps: there is none.
    browser.evaluate("dispatchEvent(new Event('pagehide'))").await;
    sockets(&world.sidecar, 0.0).await;
    browser.evaluate("dispatchEvent(new Event('pageshow'))").await;
    sockets(&world.sidecar, 1.0).await;
    browser.evaluate("window.isKept = true").await;
    browser.click("a[href='/about/']", "/about/").await;
    sockets(&world.sidecar, 0.0).await;
    browser.evaluate("history.back()").await;
    browser.wait_for("window.isKept").await;
    is_in(&browser, json!("live")).await;
    sockets(&world.sidecar, 1.0).await;
}
