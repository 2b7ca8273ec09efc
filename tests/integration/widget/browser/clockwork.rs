//! The script in a page whose time, connections and answers are the test's: when it comes back, and what it believes.

use serde_json::{Value, json};

use super::by_hand;
use crate::support::chromium::Chromium;
use crate::support::fake_upstream::FakeUpstream;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

/// A page with elements by hand, where nothing happens of itself.
pub(super) struct Clockwork {
    browser: Chromium,
    _sidecar: Sidecar,
    _server: FakeUpstream,
}

impl Clockwork {
    /// Opens a page of [`by_hand`].
    pub(super) async fn start(path: &str) -> Self {
        Self::after("", path).await
    }

    /// The same, in a browser in which this was done before.
    pub(super) async fn after(source: &str, path: &str) -> Self {
        let server = FakeUpstream::answering(by_hand).await;
        let wanted = Wanted {
            servers: Some(vec![server.address()]),
            ..Wanted::usual()
        };
        let sidecar = World::shared().await.another_sidecar(&wanted);
        let browser = Chromium::start().await;
        let source = include_str!("clockwork.js").to_owned() + source;
        let source = json!({"source": source});
        browser
            .tell("Page.addScriptToEvaluateOnNewDocument", source)
            .await;
        browser.open(&sidecar.url(path)).await;
        Self {
            browser,
            _sidecar: sidecar,
            _server: server,
        }
    }

    /// Value of an expression.
    pub(super) async fn of(&self, expression: &str) -> Value {
        self.browser.evaluate(expression).await.expect(expression)
    }

    /// Does one thing after the other.
    pub(super) async fn does(&self, steps: &[&str]) {
        for step in steps {
            self.of(&format!("({step}, true)")).await;
        }
    }

    /// So many milliseconds pass; how many connections there have been then.
    pub(super) async fn pass(&self, time: u32) -> Value {
        self.of(&format!("pass({time})")).await
    }

    /// What an element shows.
    pub(super) async fn shown(&self) -> Value {
        self.of("shown(0)").await
    }
}

#[tokio::test]
async fn a_connection_that_no_longer_carries_is_noticed() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    page.does(&["sockets[0].opens()", "sockets[0].counts(42, 3)"])
        .await;
    page.pass(44_999).await;
    assert_eq!(page.of("sockets[0].said").await, json!([]));
    page.pass(1).await;
    let question = json!({"type": "subscribe", "communities": ["."]});
    assert_eq!(page.of("sockets[0].said").await, json!([question]));
    page.does(&["sockets[0].says({type: 'unknown', community_id: '.'})"])
        .await;
    assert_eq!(page.pass(44_999).await, 1);
    assert_eq!(page.shown().await, "live 3");
    // Nobody looks, and then somebody does.
    page.does(&[
        "Object.defineProperty(document, 'hidden', {get: () => window.hides, configurable: true})",
        "window.hides = true",
    ])
    .await;
    page.pass(60_000).await;
    assert_eq!(page.of("sockets[0].said.length").await, 1);
    page.does(&[
        "window.hides = false",
        "document.dispatchEvent(new Event('visibilitychange'))",
    ])
    .await;
    assert_eq!(page.of("sockets[0].said.length").await, 2);
    assert_eq!(page.pass(14_999).await, 1);
    assert_eq!(page.shown().await, "live 3");
    page.pass(1).await;
    assert_eq!(page.shown().await, "stale 3");
    assert_eq!(page.pass(1_000).await, 2);
}

#[tokio::test]
async fn pauses_grow_until_a_connection_lasts() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    for (sockets, pause) in [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000)] {
        page.does(&[
            "sockets.at(-1).opens()",
            "sockets.at(-1).counts(42, 3)",
            "sockets.at(-1).end(1006)",
        ])
        .await;
        assert_eq!(page.pass(pause - 1).await, sockets);
        assert_eq!(page.pass(1).await, sockets + 1);
    }
    page.does(&[
        "sockets.at(-1).opens()",
        "pass(30001)",
        "sockets.at(-1).end(1006)",
    ])
    .await;
    assert_eq!(page.pass(1_000).await, 6);
}

#[tokio::test]
async fn nobody_comes_back_sooner_than_the_server_says() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    page.does(&[
        "sockets[0].opens()",
        "sockets[0].says({type: 'retry', after_ms: 5000})",
        "sockets[0].end(1001)",
    ])
    .await;
    assert_eq!(page.pass(3_000).await, 1);
    // Not even where the network is back, the page is looked at again, or other elements come.
    page.does(&[
        "dispatchEvent(new Event('online'))",
        "pass(0)",
        "dispatchEvent(new Event('pagehide'))",
        "dispatchEvent(new Event('pageshow'))",
        "pass(0)",
        "window.one = document.querySelector('live-visitors')",
        "one.remove()",
        "pass(1100)",
        "document.body.append(one)",
    ])
    .await;
    assert_eq!(page.pass(899).await, 1);
    assert_eq!(page.pass(1).await, 2);
}

#[tokio::test]
async fn an_answer_that_comes_late_changes_nothing() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    // While it is on its way no other is wanted.
    page.does(&[
        "sockets[0].end(1006)",
        "document.querySelector('live-visitors').here = false",
    ])
    .await;
    assert_eq!(page.pass(2_000).await, 1);
    assert_eq!(page.of("questions.length").await, 1);
    page.does(&[
        "dispatchEvent(new Event('pagehide'))",
        "dispatchEvent(new Event('pageshow'))",
    ])
    .await;
    assert_eq!(page.pass(0).await, 2);
    page.does(&["sockets[1].end(1006)"]).await;
    page.does(&[
        "dispatchEvent(new Event('pagehide'))",
        "dispatchEvent(new Event('pageshow'))",
    ])
    .await;
    assert_eq!(page.pass(0).await, 3);
    page.does(&[
        "sockets[2].opens()",
        "sockets[2].counts(42, 5)",
        "questions[0].answer(200, {counts: [{community_id: 42, current_visitors: 3}], stale: false})",
        "questions[1].answer(401)",
    ])
    .await;
    assert_eq!(page.shown().await, "live 5");
    assert_eq!(page.of("sockets[2].readyState").await, 1);
    page.pass(60_000).await;
    assert_eq!(page.of("questions.length").await, 2);
}

#[tokio::test]
async fn a_count_that_no_connection_keeps_up_is_stale_after_a_while() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    page.does(&[
        "sockets[0].end(1006)",
        "questions[0].answer(200, {counts: [{community_id: 42, current_visitors: 3}], stale: false})",
    ])
    .await;
    assert_eq!(page.shown().await, "live 3");
    assert_eq!(page.pass(19_999).await, 2);
    assert_eq!(page.shown().await, "live 3");
    page.pass(1).await;
    assert_eq!(page.shown().await, "stale 3");
}

#[tokio::test]
async fn a_count_that_nobody_asked_about_for_a_while_is_not_shown_again() {
    let page = Clockwork::start("/communities/42/").await;
    page.pass(0).await;
    page.does(&[
        "sockets[0].opens()",
        "sockets[0].counts(42, 3)",
        "window.one = document.querySelector('live-visitors')",
        "one.remove()",
        "pass(1100)",
        "document.body.append(one)",
    ])
    .await;
    assert_eq!(page.of("sockets[0].readyState").await, 3);
    assert_eq!(page.shown().await, "null null");
}

#[tokio::test]
async fn an_id_is_the_same_community_in_every_spelling() {
    let uuid = "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11";
    let path = format!("/communities/042/?42&{uuid}&9007199254740993");
    let page = Clockwork::start(&path).await;
    page.pass(0).await;
    page.does(&["sockets[0].opens()"]).await;
    let subscribe = json!({"type": "subscribe", "communities": [uuid, "9007199254740993"]});
    assert_eq!(page.of("sockets[0].said").await, json!([subscribe]));
    page.does(&[
        "sockets[0].counts(42, 3)",
        &format!("sockets[0].counts('{}', 4)", uuid.to_lowercase()),
        "sockets[0].counts('9007199254740993', 5)",
    ])
    .await;
    assert_eq!(
        page.of("[0, 1, 2, 3].map((index) => shown(index))").await,
        json!(["live 3", "live 3", "live 4", "live 5"])
    );
    // It is left under the id that the server has for it.
    page.does(&[
        "window.one = document.querySelectorAll('live-visitors')[2]",
        "one.remove()",
        "pass(1100)",
    ])
    .await;
    let unsubscribe = json!({"type": "unsubscribe", "communities": [uuid.to_lowercase()]});
    assert_eq!(page.of("sockets[0].said").await, json!([subscribe, unsubscribe]));
    // What was on its way then is of nobody's interest.
    let late = format!("sockets[0].counts('{}', 6)", uuid.to_lowercase());
    page.does(&[&late, "document.body.append(one)"]).await;
    assert_eq!(page.of("shown(3)").await, "null null");
}
