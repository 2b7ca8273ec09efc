//! The dashboard in a real browser: it keeps up by itself, says what is away, and fits a phone. With
//! `HEADCOUNT_TEST_PICTURES` it leaves pictures.

use std::time::Duration;

use super::faults::fragile;
use crate::support::chromium::Chromium;
use crate::support::world::{Wanted, World};

/// Looks at the dashboard, once it has its first answer.
async fn looking_at(world: &World) -> Chromium {
    let browser = Chromium::start().await;
    browser.open(&world.sidecar.admin_url("/")).await;
    browser.wait_for(&says("#freshness", "Live")).await;
    browser.wait_for("window.neverReloaded = true").await;
    browser
}

/// An expression: the element's text begins with this one.
fn says(selector: &str, text: &str) -> String {
    format!("document.querySelector('{selector}')?.textContent.startsWith({text:?})")
}

/// An expression: the community's row shows so many visitors.
fn shows(community: &str, visitors: u64) -> String {
    format!(
        "document.querySelector('#visitors tr[data-key={community:?}] td.number')?.textContent === '{visitors}'"
    )
}

/// Pictures, as on a desktop and on a phone, by day and by night.
async fn is_pictured(browser: &Chromium, name: &str) {
    for (device, width, height) in [("desktop", 1280, 1500), ("phone", 360, 3000)] {
        browser.has_size(width, height).await;
        for scheme in ["light", "dark"] {
            browser.prefers(&[("prefers-color-scheme", scheme)]).await;
            browser
                .wait_for(&format!("matchMedia('(prefers-color-scheme: {scheme})').matches"))
                .await;
            let scrolls = "document.documentElement.scrollWidth - innerWidth";
            assert_eq!(
                browser.evaluate(scrolls).await,
                Some(0.into()),
                "{name} on a {device}"
            );
            browser
                .picture(&format!("dashboard-{name}-{device}-{scheme}"))
                .await;
        }
    }
}

#[tokio::test]
async fn it_follows_members_who_come_and_go_without_a_reload() {
    let world = Wanted {
        record: "window = \"15s\"".into(),
        ..Wanted::usual()
    }
    .start()
    .await;
    let rust = world.seeded.community("rust");
    let browser = looking_at(&world).await;
    browser.wait_for(&says("#visitors-empty", "Nobody is here")).await;
    let alice = world.member("alice").await;
    let stays = async {
        loop {
            alice.sees("/c/rust/").await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let comes_and_goes = async {
        browser.wait_for(&shows(&rust, 1)).await;
        browser.wait_for(&says("#recent .path", "/c/rust/")).await;
        browser.wait_for(&says("#visitors th", "rust")).await;
        world.member("bob").await.sees(&world.community("rust")).await;
        browser.wait_for(&shows(&rust, 2)).await;
        browser
            .wait_for("document.querySelectorAll('#visitors .stroke').length === 1")
            .await;
        is_pictured(&browser, "busy").await;
        browser.wait_for(&shows(&rust, 1)).await;
    };
    tokio::select! {
        () = stays => unreachable!("it never ends"),
        () = comes_and_goes => {}
    }
    browser.wait_for(&says("#visitors-empty", "Nobody is here")).await;
    browser.wait_for("window.neverReloaded").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn it_says_which_part_is_away_and_that_counts_are_stale() {
    let (world, database, redis) = fragile().await;
    let rust = world.seeded.community("rust");
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let browser = looking_at(&world).await;
    browser.wait_for(&says("#health", "Nothing to act on")).await;
    browser.wait_for(&shows(&rust, 1)).await;

    redis.hang();
    database.refuse().await;
    alice.sees(&world.community("rust")).await;
    alice.sees(&world.community("django")).await;
    browser.wait_for(&says("#redis dd", "Away")).await;
    browser.wait_for(&says("#database dd", "Away")).await;
    browser.wait_for(&says("#spool dd", "2 views")).await;
    browser.wait_for(&says("#visitors-about", "Stale")).await;
    browser.wait_for(&shows(&rust, 1)).await;
    browser.wait_for(&says("#freshness", "Live, 2 problems")).await;
    browser
        .wait_for("document.querySelectorAll('#health li').length === 2")
        .await;
    is_pictured(&browser, "away").await;

    redis.resume().await;
    database.resume().await;
    browser.wait_for(&says("#health", "Nothing to act on")).await;
    browser.wait_for(&says("#visitors-about", "As of")).await;
    browser.wait_for(&says("#spool dd", "0 views")).await;
    browser.wait_for("window.neverReloaded").await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn it_says_that_it_is_not_current_while_the_sidecar_is_gone_or_hangs() {
    let mut world = Wanted::usual().start().await;
    let browser = looking_at(&world).await;
    assert_eq!(browser.complaints().await, [""; 0]);
    world.sidecar.kill();
    browser.wait_for(&says("#freshness", "Not current")).await;
    let gone = says(
        "#health",
        "The sidecar has ended, hangs, or cannot be reached from here: what is shown is of ",
    );
    browser.wait_for(&gone).await;
    is_pictured(&browser, "gone").await;
    world.sidecar.restart();
    browser.wait_for(&says("#freshness", "Live")).await;

    world.sidecar.signal("STOP");
    browser.wait_for(&says("#freshness", "Not current")).await;
    browser.wait_for(&gone).await;
    world.sidecar.signal("CONT");
    browser.wait_for(&says("#freshness", "Live")).await;
    browser.wait_for("window.neverReloaded").await;
}

// A connection of the test is closed by another thread than the one that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_dashboard_keeps_no_process_from_ending_and_goes_on_with_the_next_one() {
    let mut world = Wanted {
        config: "[limits]\ngrace_period = \"1h\"".into(),
        ..Wanted::usual()
    }
    .start()
    .await;
    let browser = looking_at(&world).await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("django")).await;
    let latest = |path: &str| format!("document.querySelector('#recent tr .path')?.textContent === {path:?}");
    browser.wait_for(&latest(&world.community("django"))).await;
    // Her connection would be kept for as long as the grace period.
    drop(alice);
    let mut old = world.sidecar.hand_over();
    assert_eq!(old.wait_for_end(), Some(0), "{}", old.log());
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    // The new process numbers its pages from the beginning.
    browser.wait_for(&latest(&world.community("rust"))).await;
    browser.wait_for(&shows(&world.seeded.community("rust"), 1)).await;
    browser.wait_for("window.neverReloaded").await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
}

#[tokio::test]
async fn a_path_is_explained_in_place_and_the_keyboard_reaches_everything() {
    let world = World::shared().await;
    let browser = looking_at(world).await;
    browser
        .wait_for("(document.querySelector('#url').value = '/communities/42/', true)")
        .await;
    browser.press("#test button").await;
    let told = reqwest::get(world.sidecar.admin_url("/routes/test?url=/communities/42/"))
        .await
        .unwrap();
    let told = told.text().await.unwrap();
    browser.wait_for(&says("#explanation", told.trim())).await;
    browser
        .wait_for("window.neverReloaded && location.pathname === '/'")
        .await;
    // Nothing takes itself out of the order of tabs, or puts itself in front.
    browser
        .wait_for("[...document.querySelectorAll('a, button, input, .scroll')].every((element) => element.tabIndex === 0)")
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn nothing_jumps_when_the_first_answer_comes() {
    let world = World::usual().await;
    world.member("alice").await.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let browser = Chromium::start().await;
    for (width, height) in [(1280, 900), (360, 740)] {
        browser.has_size(width, height).await;
        browser.open(&world.sidecar.admin_url("/")).await;
        browser.wait_for(&shows(&world.seeded.community("rust"), 1)).await;
        // What the browser has measured since the page came: it tells that to observers only.
        browser
            .wait_for(
                "(window.observer ??= new PerformanceObserver((list) => {
                    window.shifted = list.getEntries().reduce((sum, { value }) => sum + value, window.shifted ?? 0);
                }), observer.observe({ type: 'layout-shift', buffered: true }), true)",
            )
            .await;
        browser
            .wait_for("new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(true), 0)))")
            .await;
        let shifted = browser.evaluate("window.shifted ?? 0").await;
        let shifted = shifted.and_then(|shifted| shifted.as_f64()).expect("a number");
        // Browsers call this good.
        assert!(shifted < 0.1, "at {width}: {shifted}");
    }
}
