//! The dashboard on the admin listener: what it tells, of whom it tells nothing, and how it looks in a browser.

mod browser;
mod faults;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::backend::Variant;
use crate::support::member::{FIREFOX, Member};
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::world::{Parts, Wanted, World, any_prefix};

/// What the dashboard is told.
async fn report(sidecar: &Sidecar) -> Value {
    let response = reqwest::get(sidecar.admin_url("/dashboard.json")).await;
    response.expect("an answer").json().await.expect("JSON")
}

/// The same, once `holds`.
async fn report_in_which(sidecar: &Sidecar, holds: impl Fn(&Value) -> bool) -> Value {
    let last = RefCell::default();
    eventually(async || {
        let report = report(sidecar).await;
        let is_so = holds(&report);
        last.replace(report);
        is_so
    })
    .await;
    last.into_inner()
}

/// Visitors by community, as far as they are shown.
fn visitors(report: &Value) -> BTreeMap<&str, u64> {
    let communities = report["visitors"]["communities"].as_array().expect("a list");
    let visitors = communities.iter().map(|community| {
        let id = community["id"].as_str().expect("an id");
        (id, community["visitors"].as_u64().expect("a count"))
    });
    visitors.collect()
}

/// What was recorded last, as path, page type and community.
fn recent(report: &Value) -> Vec<Value> {
    let pages = report["recent"].as_array().expect("a list");
    pages
        .iter()
        .map(|page| json!([page["path"], page["page_type"], page["community"]]))
        .collect()
}

async fn tells_who_is_where(parts: Parts) {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        ..Wanted::new(parts, Variant::Default)
    };
    let world = wanted.clone().start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    alice.sees(&world.community("django")).await;
    world.member("bob").await.sees("/c/rust/").await;
    let mut expected = 2;
    let second = (parts == Parts::Production).then(|| world.another_sidecar(&wanted));
    if let Some(second) = &second {
        // Whoever comes through another sidecar is here, too.
        let carol = Member::new(second.url(""));
        carol.sign_in("carol").await;
        carol.sees(&world.community("rust")).await;
        expected = 3;
    }
    world.wait_for_views(3).await;
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let counts = BTreeMap::from([(&*rust, expected), (&*django, 1)]);
    let is_named = |report: &Value| report["visitors"]["communities"][0]["slug"] == "rust";
    let report = report_in_which(&world.sidecar, |report| {
        visitors(report) == counts && is_named(report)
    })
    .await;

    let shown = &report["visitors"];
    assert_eq!(
        (&shown["state"], &shown["stale"]),
        (&json!("known"), &json!(false))
    );
    assert_eq!((&shown["occupied"], &shown["all"]), (&json!(2), &json!(true)));
    let first = &shown["communities"][0];
    assert_eq!(
        (&first["id"], &first["slug"]),
        (&json!(rust), &json!("rust")),
        "most visitors first"
    );
    // The visitors API says the same.
    let count = alice.json(&world.visitors("rust", "/count")).await;
    assert_eq!(count["current_visitors"], first["visitors"]);

    assert_eq!(report["page_views"]["total"], 3);
    let (at_rust, at_django) = (world.community("rust"), world.community("django"));
    assert_eq!(
        recent(&report),
        [
            json!(["/c/rust/", "community", rust]),
            json!([at_django, "community", django]),
            json!([at_rust, "community", rust]),
        ]
    );
    assert_eq!(
        (&report["state"], &report["degraded"]),
        (&json!("ok"), &json!([]))
    );
    assert_eq!(report["database"]["state"], "up");
    let redis = if second.is_some() { "up" } else { "off" };
    assert_eq!(
        (&report["redis"]["state"], &report["recording"]["spool"]),
        (&json!(redis), &json!("up"))
    );
    assert!(report["recording"]["last_apply"].is_string());
}

/// Its page is named by id, and presence is kept in Redis: no path that is recorded after the restart names a slug.
#[tokio::test]
async fn d12_a_community_has_its_name_after_a_restart() {
    let mut world = Wanted::usual().start().await;
    world.member("alice").await.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    world.sidecar.restart();
    let report = report_in_which(&world.sidecar, |report| {
        report["visitors"]["communities"][0]["slug"] == "rust"
    })
    .await;
    assert_eq!(recent(&report), Vec::<Value>::new());
}

#[tokio::test]
async fn it_tells_who_many_are_where_whichever_sidecar_they_come_through() {
    tells_who_is_where(Parts::Production).await;
}

#[tokio::test]
async fn it_tells_the_same_with_presence_in_memory_and_sqlite() {
    tells_who_is_where(Parts::Embedded).await;
}

#[tokio::test]
async fn it_shows_no_visitor_and_no_secret() {
    let world = Wanted {
        config: "[privacy]\nquery_allow = [\"page\"]".into(),
        ..Wanted::usual()
    }
    .start()
    .await;
    let alice = world.member("alice").await;
    let page = world.community("rust");
    alice.sees(&format!("{page}?page=2&secret=hunter2")).await;
    alice.sees("/about/?secret=hunter2").await;
    let search = format!("{page}search/?q=hunter2");
    alice.visits(&search).await;
    world.wait_for_views(3).await;
    let report = report_in_which(&world.sidecar, |report| !visitors(report).is_empty()).await;
    let rust = world.seeded.community("rust");
    assert_eq!(
        recent(&report),
        [
            json!([format!("{page}search/"), "search", rust]),
            // No route names it, so nobody has said what its path holds.
            json!([null, null, null]),
            json!([page, "community", rust]),
        ]
    );
    let text = report.to_string();
    let cookie = alice.cookie();
    let token = cookie.split_once('=').expect("a cookie").1;
    for secret in ["alice", "hunter2", "page=2", token, FIREFOX, "127.0.0.1"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn it_shows_as_little_of_pages_as_it_is_told_to() {
    let wanted = |precision| Wanted {
        config: format!("[privacy]\nrecent_pages = \"{precision}\""),
        ..Wanted::usual()
    };
    let world = wanted("route").start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let rust = world.seeded.community("rust");
    assert_eq!(
        recent(&report(&world.sidecar).await),
        [json!([null, "community", rust])]
    );

    let silent = world.another_sidecar(&wanted("none"));
    let bob = Member::new(silent.url(""));
    bob.sign_in("bob").await;
    bob.sees(&world.community("rust")).await;
    silent
        .wait_for_metric("headcount_page_views_counted_total", |views| views > 0.0)
        .await;
    assert_eq!(report(&silent).await["recent"], json!([]));
}

#[tokio::test]
async fn presence_that_is_not_recorded_is_not_shown_as_nobody() {
    let wanted = Wanted {
        record: "presence = false".into(),
        ..Wanted::usual()
    };
    let sidecar = World::shared().await.another_sidecar(&wanted);
    assert_eq!(report(&sidecar).await["visitors"]["state"], "off");
}

/// A page of another site whose name was made to point here (DNS rebinding) is of this origin.
#[tokio::test]
async fn under_another_sites_name_nothing_is_told() {
    let mut world = World::usual().await;
    // Its last section is `[listen]`.
    let file = world.sidecar.config();
    let config = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(&file, config + "admin_hosts = [\"stats.example.org\"]\n").expect("it is written");
    world.sidecar.restart();
    let status = async |path: &str, host: &str| {
        let request = reqwest::Client::new().get(world.sidecar.admin_url(path));
        let response = request.header("host", host).send().await.expect("an answer");
        response.status().as_u16()
    };
    for path in ["/", "/dashboard.json", "/dashboard.js", "/routes/test?url=/"] {
        assert_eq!(status(path, "evil.example:9464").await, 421, "{path}");
        assert_eq!(status(path, "stats.example.org").await, 200, "{path}");
        assert_eq!(status(path, "headcount:9464").await, 200, "{path}");
    }
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(status(path, "headcount.monitoring.svc:9464").await, 200, "{path}");
    }
}

/// Fetch Metadata says that a browser asks; scrapers and probes send none.
#[tokio::test]
async fn t6_browsers_ask_for_metrics_and_health_under_names_that_are_ours() {
    let sidecar = &World::shared().await.sidecar;
    for path in ["/metrics", "/livez", "/readyz"] {
        for (host, status) in [("evil.example:9464", 421), ("localhost:9464", 200)] {
            let request = reqwest::Client::new().get(sidecar.admin_url(path));
            let request = request
                .header("host", host)
                .header("sec-fetch-site", "same-origin");
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status().as_u16(), status, "{path} as {host}");
        }
    }
}

#[tokio::test]
async fn browsers_may_run_nothing_but_its_own_script_on_any_admin_page() {
    let sidecar = &World::shared().await.sidecar;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.svg", "image/svg+xml; charset=utf-8"),
        ("/dashboard.json", "application/json"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/routes/test?url=/", "text/plain; charset=utf-8"),
    ] {
        let response = reqwest::get(sidecar.admin_url(path)).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), kind, "{path}");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn whoever_looks_is_led_to_the_new_process_and_keeps_neither_from_ending() {
    let mut sidecar = World::shared().await.another_sidecar(&Wanted {
        config: "[limits]\ngrace_period = \"1h\"".into(),
        ..Wanted::usual()
    });
    let ask = "GET /dashboard.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut looking = Wire::open(sidecar.admin).await;
    looking.send(ask).await;
    let told = looking.answer().await;
    assert_eq!(
        (told.json()["state"].as_str(), told.header("connection")),
        (Some("ok"), None)
    );

    let mut old = sidecar.hand_over();
    looking.send(ask).await;
    let told = looking.answer().await;
    let state = Some("handed over to another process");
    assert_eq!(
        (told.json()["state"].as_str(), told.header("connection")),
        (state, Some("close"))
    );
    looking.closes().await;
    assert_eq!(old.wait_for_end(), Some(0), "{}", old.log());

    let mut looking = Wire::open(sidecar.admin).await;
    looking.send(ask).await;
    assert_eq!(looking.answer().await.json()["state"], "ok");
    sidecar.signal("TERM");
    assert_eq!(sidecar.wait_for_end(), Some(0));
}
