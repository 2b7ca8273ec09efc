//! The widget in a real browser, and what people see of it.
//!
//! Pages that have the element by hand come from a server of the test; sessions and presence are the site's.

use serde_json::{Value, json};

use super::{injecting, members_only};
use crate::support::chromium::Chromium;
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::live::Socket;
use crate::support::member::Member;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

/// In the page: the first element, and what it shows.
const ELEMENT: &str = "document.querySelector('live-visitors')";

/// A page that has the element, under a policy that is as strict as can be.
const BY_HAND: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 0000\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    require-trusted-types-for 'script'\r\n\r\n";

/// Chromium, with a member's session.
async fn browser_of(member: &Member) -> Chromium {
    let browser = Chromium::start().await;
    let cookie = member.cookie();
    let (name, value) = cookie.split_once('=').expect("a cookie");
    let cookie = json!({"name": name, "value": value, "domain": "127.0.0.1", "path": "/"});
    browser.tell("Network.setCookie", cookie).await;
    browser
}

/// Waits until the first element says this.
async fn says(browser: &Chromium, words: &str) {
    let badge =
        format!("{ELEMENT}?.shadowRoot.querySelector('.badge').getAttribute('aria-label') === {words:?}");
    browser.wait_for(&badge).await;
}

/// Waits until the first element is in this state; null: not shown.
async fn is_in(browser: &Chromium, state: Value) {
    browser
        .wait_for(&format!("{ELEMENT}?.getAttribute('state') === {state}"))
        .await;
}

/// Answers each request with a page of the community that its path names, and with elements for it and for the
/// communities of its query.
fn by_hand(request: &Heard) -> Reply {
    let target = request.target().trim_start_matches("GET ");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let community = path.split('/').nth(2).unwrap_or_default();
    let others: Vec<_> = query
        .split('&')
        .filter(|other| !other.is_empty())
        .map(|other| format!("<live-visitors community=\"{other}\" compact></live-visitors>"))
        .collect();
    let others = others.concat();
    let page = format!(
        "<!doctype html><html lang=de><meta name=color-scheme content=\"light dark\"><title>By hand</title>\
         <script async src=\"/api/visitors/widget.js\"></script>\
         <h1>Community</h1><p><live-visitors community=\"{community}\" here label-one=\"{{count}} Person ist hier\" \
         label-other=\"{{count}} Leute sind hier\"></live-visitors></p>{others}</html>"
    );
    let head = BY_HAND.replace("0000", &page.len().to_string());
    Reply::KeepBytes((head + &page).into_bytes().leak())
}

/// A world whose second sidecar has pages with the element by hand. `more` is further configuration.
async fn with_pages_by_hand(record: &str, more: &str) -> (World, Sidecar, FakeUpstream) {
    let server = FakeUpstream::answering(by_hand).await;
    let world = World::usual().await;
    let wanted = Wanted {
        servers: Some(vec![server.address()]),
        record: record.into(),
        config: more.into(),
        session: "cache_ttl = \"1s\"".into(),
        key_prefix: Some(any_prefix()),
        ..Wanted::usual()
    };
    let sidecar = world.another_sidecar(&wanted);
    (world, sidecar, server)
}

/// Somebody who is signed in at the site and looks at pages of another sidecar, without a browser.
async fn visit(world: &World, sidecar: &Sidecar, name: &str, path: &str) -> Member {
    let member = world.member(name).await;
    let request = Member::new(sidecar.url(""))
        .navigation(path)
        .header("cookie", member.cookie());
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    member
}

async fn sockets(sidecar: &Sidecar, count: f64) {
    let name = "headcount_live_connections{kind=\"websocket\"}";
    sidecar.wait_for_metric(name, |open| open == count).await;
}

#[tokio::test]
async fn two_members_see_each_other_come_and_go_on_pages_of_an_unchanged_site() {
    let wanted = Wanted {
        record: "window = \"3s\"".into(),
        ..members_only("attributes = { avatars = \"3\" }")
    };
    let world = wanted.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let alices = browser_of(&alice).await;
    alices.open(&world.sidecar.url(&world.community("rust"))).await;
    says(&alices, "1 person here now").await;
    let bobs = browser_of(&bob).await;
    let post = format!("{}posts/1/", world.community("rust"));
    bobs.open(&world.sidecar.url(&post)).await;
    says(&alices, "2 people here now").await;
    says(&bobs, "2 people here now").await;
    bobs.wait_for(&format!(
        "{ELEMENT}.shadowRoot.querySelectorAll('.avatar').length === 2"
    ))
    .await;
    bobs.picture("widget-corner-light").await;
    bobs.prefers(&[("prefers-color-scheme", "dark")]).await;
    bobs.evaluate("document.documentElement.style.colorScheme = 'dark'")
        .await;
    bobs.picture("widget-corner-dark").await;
    // Both are there for longer than the window, and then one goes.
    bobs.open(&world.sidecar.url("/about/")).await;
    says(&alices, "1 person here now").await;
    bobs.wait_for(&format!("!{ELEMENT}")).await;
    let mut complaints = alices.complaints().await;
    // The site has neither its pictures nor an icon.
    complaints.retain(|complaint| !complaint.contains("404"));
    assert_eq!(complaints, Vec::<String>::new());
}

#[tokio::test]
async fn two_members_see_each_other_come_and_go_on_pages_with_the_element() {
    let (world, sidecar, _server) = with_pages_by_hand("window = \"3s\"", "").await;
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let page = format!("/communities/{rust}/?{django}");
    let alices = browser_of(&world.member("alice").await).await;
    alices.open(&sidecar.url(&page)).await;
    says(&alices, "1 Person ist hier").await;
    // All elements of a page share one connection.
    alices
        .wait_for("document.querySelectorAll('live-visitors[state=live]').length === 2")
        .await;
    sockets(&sidecar, 1.0).await;
    let bobs = browser_of(&world.member("bob").await).await;
    bobs.open(&sidecar.url(&page)).await;
    says(&alices, "2 Leute sind hier").await;
    says(&bobs, "2 Leute sind hier").await;
    bobs.picture("widget-inline-light").await;
    bobs.prefers(&[("prefers-color-scheme", "dark")]).await;
    bobs.picture("widget-inline-dark").await;
    bobs.open("about:blank").await;
    says(&alices, "1 Person ist hier").await;
    // Elements come and go on the same connection.
    alices
        .evaluate(&format!(
            "document.querySelectorAll('live-visitors')[1].community = '{rust}'"
        ))
        .await;
    alices
        .wait_for("[...document.querySelectorAll('live-visitors')].every(one => one.count === 1)")
        .await;
    sockets(&sidecar, 1.0).await;
    assert_eq!(alices.complaints().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_restarted_sidecar_is_found_again() {
    let (world, mut sidecar, _server) = with_pages_by_hand("", "[live]\nretry = \"200ms\"").await;
    let rust = world.seeded.community("rust");
    let browser = browser_of(&world.member("alice").await).await;
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
async fn where_there_is_no_place_the_count_is_asked_for_until_there_is() {
    let (world, sidecar, _server) = with_pages_by_hand("", "[live]\nmax_connections = 1").await;
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let bob = world.member("bob").await;
    let path = format!("/api/communities/{django}/visitors/live");
    let taken = Socket::open(&sidecar, &path, &bob).await;
    let browser = browser_of(&world.member("alice").await).await;
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
    let browser = browser_of(&alice).await;
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

#[tokio::test]
async fn screen_readers_are_told_in_words_and_not_too_often() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = browser_of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    says(&browser, "1 Person ist hier").await;
    let announced = format!("{ELEMENT}.shadowRoot.querySelector('.announcer').textContent");
    assert_eq!(browser.evaluate(&announced).await, Some(json!("")));
    visit(&world, &sidecar, "bob", &path).await;
    says(&browser, "2 Leute sind hier").await;
    browser
        .wait_for(&format!("{announced} === '2 Leute sind hier'"))
        .await;
    // The next announcement has half a minute.
    visit(&world, &sidecar, "carol", &path).await;
    says(&browser, "3 Leute sind hier").await;
    assert_eq!(
        browser.evaluate(&announced).await,
        Some(json!("2 Leute sind hier"))
    );
    let tree = browser.tell("Accessibility.getFullAXTree", json!({})).await;
    let nodes = tree["nodes"].as_array().expect("nodes").iter();
    let images: Vec<_> = nodes
        .filter(|node| node["role"]["value"] == "image")
        .map(|node| node["name"]["value"].clone())
        .collect();
    assert_eq!(images, ["3 Leute sind hier"]);
}

#[tokio::test]
async fn nothing_moves_for_those_who_want_less_motion() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = browser_of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    says(&browser, "1 Person ist hier").await;
    visit(&world, &sidecar, "bob", &path).await;
    says(&browser, "2 Leute sind hier").await;
    let animation =
        format!("getComputedStyle({ELEMENT}.shadowRoot.querySelector('.dot'), '::after').animationName");
    browser
        .prefers(&[("prefers-reduced-motion", "no-preference")])
        .await;
    assert_eq!(browser.evaluate(&animation).await, Some(json!("odd")));
    browser.prefers(&[("prefers-reduced-motion", "reduce")]).await;
    assert_eq!(browser.evaluate(&animation).await, Some(json!("none")));
}

#[tokio::test]
async fn p11_a_page_that_is_hidden_for_long_no_longer_counts_as_being_there() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = browser_of(&world.member("alice").await).await;
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
    let browser = browser_of(&world.member("alice").await).await;
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

#[tokio::test]
async fn faces_are_pictures_or_initials_and_never_anything_else() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = browser_of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    let visitors = json!([
        {"user_id": 1, "username": "<b>eve</b>", "avatar": "javascript:alert(1)"},
        {"user_id": 2, "username": "mallory", "avatar": "data:image/svg+xml,<svg/>"},
        {"user_id": 3, "username": "trent", "avatar": null},
        {"user_id": 4, "username": "peggy", "avatar": "/api/visitors/widget.js?picture"},
    ]);
    let answer = json!({ "visitors": visitors }).to_string();
    let script = format!(
        "(window.fetch = async () => new Response({answer:?}), window.sources = [],
          Object.defineProperty(HTMLImageElement.prototype, 'src', {{ set(url) {{ sources.push(url); }} }}),
          {ELEMENT}.setAttribute('avatars', 4))"
    );
    browser.evaluate(&script).await;
    let faces = format!("[...{ELEMENT}.shadowRoot.querySelectorAll('.avatar')]");
    browser
        .wait_for(&format!(
            "{faces}.map(face => face.textContent).join() === '<,M,T,'"
        ))
        .await;
    assert_eq!(
        browser
            .evaluate(&format!("{faces}.map(face => face.title)"))
            .await,
        Some(json!(["<b>eve</b>", "mallory", "trent", "peggy"]))
    );
    // Only one of the addresses was ever that of a picture; one that does not load is an initial, too.
    let picture = sidecar.url("/api/visitors/widget.js?picture");
    assert_eq!(browser.evaluate("sources").await, Some(json!([picture])));
    let image = format!("{faces}[3].querySelector('img')");
    browser
        .evaluate(&format!("{image}.dispatchEvent(new Event('error'))"))
        .await;
    browser.wait_for(&format!("{faces}[3].textContent === 'P'")).await;
}

#[tokio::test]
async fn a_page_with_an_element_of_its_own_gets_no_second_one() {
    let (world, sidecar, _server) = with_pages_by_hand("", "[widget]\ninject = true").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = browser_of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    assert_eq!(
        browser
            .evaluate("document.querySelectorAll('script').length")
            .await,
        Some(json!(2))
    );
    assert_eq!(
        browser
            .evaluate("document.querySelectorAll('live-visitors').length")
            .await,
        Some(json!(1))
    );
}
