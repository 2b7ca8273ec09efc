//! The widget in a real browser, and what people see of it.
//!
//! Pages that have the element by hand come from a server of the test; sessions and presence are the site's.

mod clockwork;
mod connection;
mod faces;
mod looks;

use serde_json::{Value, json};

use super::members_only;
use crate::support::chromium::Chromium;
use crate::support::fake_upstream::{FakeUpstream, Heard, Reply};
use crate::support::member::Member;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

/// In the page: the first element, and what it shows.
const ELEMENT: &str = "document.querySelector('live-visitors')";

/// A page that has the element, under a policy that is as strict as can be.
const BY_HAND: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 0000\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    require-trusted-types-for 'script'\r\n\r\n";

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
    let post = path.split('/').nth(4).map(|post| format!("post=\"{post}\""));
    let post = post.unwrap_or_default();
    let others: Vec<_> = query
        .split('&')
        .filter(|other| !other.is_empty())
        .map(|other| format!("<live-visitors community=\"{other}\" compact></live-visitors>"))
        .collect();
    let others = others.concat();
    let page = format!(
        "<!doctype html><html lang=de><meta name=color-scheme content=\"light dark\"><title>By hand</title>\
         <script async src=\"/api/visitors/widget.js\"></script>\
         <h1>Community</h1><p><live-visitors community=\"{community}\" {post} here label-one=\"{{count}} Person ist hier\" \
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
    let alices = Chromium::of(&alice).await;
    alices.open(&world.sidecar.url(&world.community("rust"))).await;
    says(&alices, "1 person here now").await;
    let bobs = Chromium::of(&bob).await;
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

/// Of three who are in the community two are at the post, and the page that shows the site has everybody.
#[tokio::test]
async fn p23_an_element_shows_who_is_at_the_post_or_on_the_site() {
    let (world, sidecar, _server) = with_pages_by_hand("window = \"5m\"", "").await;
    let rust = world.seeded.community("rust");
    let (page, post) = (
        format!("/communities/{rust}/"),
        format!("/communities/{rust}/posts/7/"),
    );
    let alices = Chromium::of(&world.member("alice").await).await;
    alices.open(&sidecar.url(&post)).await;
    says(&alices, "1 Person ist hier").await;
    visit(&world, &sidecar, "bob", &post).await;
    let carol = visit(&world, &sidecar, "carol", &page).await;
    says(&alices, "2 Leute sind hier").await;
    visit(&world, &sidecar, "dave", "/about/").await;
    let element = |change: &str| format!("({ELEMENT}.{change}, true)");
    // The community, and the site, by the same element.
    alices.evaluate(&element("removeAttribute('post')")).await;
    says(&alices, "3 Leute sind hier").await;
    alices.evaluate(&element("site = true")).await;
    says(&alices, "4 Leute sind hier").await;
    alices.evaluate(&element("site = false")).await;
    alices.evaluate(&element("setAttribute('post', '7')")).await;
    says(&alices, "2 Leute sind hier").await;
    // One connection at a time: the others have ended.
    sockets(&sidecar, 1.0).await;
    assert_eq!(alices.complaints().await, Vec::<String>::new());
    drop(carol);
}

#[tokio::test]
async fn two_members_see_each_other_come_and_go_on_pages_with_the_element() {
    let (world, sidecar, _server) = with_pages_by_hand("window = \"3s\"", "").await;
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let page = format!("/communities/{rust}/?{django}");
    let alices = Chromium::of(&world.member("alice").await).await;
    alices.open(&sidecar.url(&page)).await;
    says(&alices, "1 Person ist hier").await;
    // All elements of a page share one connection.
    alices
        .wait_for("document.querySelectorAll('live-visitors[state=live]').length === 2")
        .await;
    sockets(&sidecar, 1.0).await;
    let bobs = Chromium::of(&world.member("bob").await).await;
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

/// As the manual has it for routers.
#[tokio::test]
async fn v5_a_page_with_the_widget_is_one_view_and_what_its_router_shows_another() {
    let (_, manual) = include_str!("../../../src/api/README.md")
        .split_once("## Client-side navigation\n")
        .expect("the section");
    let (_, code) = manual.split_once("```js\n").expect("code");
    let (code, _) = code.split_once("```").expect("an end of it");
    let world = members_only("").start().await;
    let alices = Chromium::of(&world.member("alice").await).await;
    let page = world.community("rust");
    alices.open(&world.sidecar.url(&page)).await;
    says(&alices, "1 person here now").await;
    let run = async |script: &str| {
        let script = format!("(() => {{ {script}; return true; }})()");
        assert_eq!(alices.evaluate(&script).await, Some(json!(true)), "{script}");
    };
    run(&format!("{code}\nwindow.navigated = navigated; navigated()")).await;
    run("location.hash = 'here'; navigated()").await;
    for post in [1, 2] {
        run(&format!(
            "history.pushState(null, '', '{page}posts/{post}/'); navigated(); navigated()"
        ))
        .await;
    }
    let views = world.wait_for_views(3).await;
    let mut urls: Vec<_> = views.iter().map(|view| &view["metadata"]["url"]).collect();
    urls.sort_by_key(ToString::to_string);
    let post = |number: u32| format!("{page}posts/{number}/");
    assert_eq!(urls, [&json!(page), &json!(post(1)), &json!(post(2))]);
    let reported = "headcount_beacons_total{outcome=\"accepted\"}";
    assert_eq!(world.sidecar.metric(reported).await, 2.0);
}
