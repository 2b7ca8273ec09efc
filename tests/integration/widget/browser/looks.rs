//! What people see, and what screen readers say.

use serde_json::json;

use super::{ELEMENT, is_in, says, visit, with_pages_by_hand};
use crate::support::chromium::Chromium;

#[tokio::test]
async fn screen_readers_are_told_in_words_and_not_too_often() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = Chromium::of(&world.member("alice").await).await;
    // Half a minute passes when the test says so.
    let source = "const wait = setTimeout; performance.now = () => 1; \
        window.setTimeout = (call, time, ...more) => { \
          if (time === 30000) window.announce = call; else return wait(call, time, ...more); };";
    browser
        .tell("Page.addScriptToEvaluateOnNewDocument", json!({"source": source}))
        .await;
    browser.open(&sidecar.url(&path)).await;
    says(&browser, "1 Person ist hier").await;
    let announced = format!("{ELEMENT}.shadowRoot.querySelector('.announcer').textContent");
    assert_eq!(browser.evaluate(&announced).await, Some(json!("")));
    visit(&world, &sidecar, "bob", &path).await;
    says(&browser, "2 Leute sind hier").await;
    browser
        .wait_for(&format!("{announced} === '2 Leute sind hier'"))
        .await;
    // The next has half a minute.
    visit(&world, &sidecar, "carol", &path).await;
    says(&browser, "3 Leute sind hier").await;
    assert_eq!(
        browser.evaluate(&announced).await,
        Some(json!("2 Leute sind hier"))
    );
    browser.evaluate("announce()").await;
    assert_eq!(
        browser.evaluate(&announced).await,
        Some(json!("3 Leute sind hier"))
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
    let browser = Chromium::of(&world.member("alice").await).await;
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
async fn faces_are_pictures_or_initials_and_never_anything_else() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = Chromium::of(&world.member("alice").await).await;
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
          {ELEMENT}.show({{ count: 4, stale: false }}), {ELEMENT}.setAttribute('avatars', 4))"
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
    let browser = Chromium::of(&world.member("alice").await).await;
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

#[tokio::test]
async fn where_nobody_is_named_the_count_stands_alone() {
    let (world, sidecar, _server) = with_pages_by_hand("", "[api]\nidentities = false").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    browser
        .evaluate(&format!("{ELEMENT}.setAttribute('avatars', 5)"))
        .await;
    let asked = "headcount_api_requests_total{operation=\"visitors\",status=\"2xx\"}";
    sidecar.wait_for_metric(asked, |asked| asked == 1.0).await;
    visit(&world, &sidecar, "bob", &path).await;
    says(&browser, "2 Leute sind hier").await;
    let faces = format!("{ELEMENT}.shadowRoot.querySelector('.avatars').childElementCount");
    assert_eq!(browser.evaluate(&faces).await, Some(json!(0)));
}

#[tokio::test]
async fn pages_that_draw_it_themselves_hear_of_each_change() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let community = world.seeded.community("rust");
    let path = format!("/communities/{community}/");
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    browser
        .evaluate(&format!(
            "(window.heard = [], {ELEMENT}.addEventListener('change', ({{ detail }}) => heard.push(detail)))"
        ))
        .await;
    visit(&world, &sidecar, "bob", &path).await;
    let heard = browser.wait_for("heard.length > 0 && heard").await;
    assert_eq!(
        heard,
        json!([{"community": community, "count": 2, "stale": false}])
    );
}

/// Many themes set the size of the root's text to 10 px, to count in tenths.
#[tokio::test]
async fn p37_text_and_faces_have_their_size_whatever_that_of_the_page_is() {
    let (world, sidecar, _server) = with_pages_by_hand("", "").await;
    let path = format!("/communities/{}/", world.seeded.community("rust"));
    let browser = Chromium::of(&world.member("alice").await).await;
    browser.open(&sidecar.url(&path)).await;
    is_in(&browser, json!("live")).await;
    browser
        .evaluate("document.documentElement.style.fontSize = '10px'")
        .await;
    let sizes = format!(
        "[getComputedStyle({ELEMENT}).fontSize, getComputedStyle({ELEMENT}).getPropertyValue('--size').trim()]"
    );
    assert_eq!(browser.evaluate(&sizes).await, Some(json!(["14px", "24px"])));
}
