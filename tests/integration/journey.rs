//! The whole main job, end to end: members sign in through the sidecar and look at communities; presence,
//! rows and statistics are exactly what happened, and the site's own code agrees.

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::backend::{Settings, Variant, text};
use crate::support::member::FIREFOX;
use crate::support::world::{Parts, Wanted, World};

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn everything_that_happened_is_known(parts: Parts, variant: Variant) {
    let wanted = Wanted::new(parts, variant).with_default_access();
    let world = wanted.start().await;
    let before = Utc::now();
    let alice = world.member("alice").await;
    let bob = world.member("bob").await;
    let carol = world.member("carol").await;
    let (rust, django) = (world.community("rust"), world.community("django"));

    alice.sees(&rust).await;
    alice.sees(&format!("{rust}posts/1/")).await;
    alice
        .sees(&format!("{rust}search/?q=borrow%20checker&page=2"))
        .await;
    alice.sees("/c/rust/").await;
    // Hers first, so that the order of the list is known.
    world.wait_for_views(4).await;
    bob.sees(&rust).await;
    bob.sees(&django).await;
    carol.sees("/about/").await;
    let views = world.wait_for_views(7).await;
    assert_eq!(views.len(), 7);

    // Who is here now.
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 2);
    assert_eq!(list["stale"], false);
    assert_eq!(list["window_seconds"], 300);
    assert_eq!(text(&list["community_id"]), world.seeded.community("rust"));
    // Latest first.
    let names: Vec<_> = list["visitors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["username"].clone())
        .collect();
    assert_eq!(names, ["bob", "alice"]);
    let first = &list["visitors"][1];
    assert_eq!(text(&first["user_id"]), world.seeded.user("alice"));
    assert_eq!(first["pages_visited"], 4);
    assert!(first["avatar"].as_str().unwrap().starts_with("/media/avatars/"));
    assert_eq!(list["visitors"][0]["avatar"], Value::Null);
    assert!(time(&first["started_at"]) >= before && time(&first["last_seen_at"]) >= before);
    assert_eq!(
        bob.json(&world.visitors("django", "/count/")).await["current_visitors"],
        1
    );

    // The rows, as the site's ORM reads them.
    let search = views
        .iter()
        .find(|view| view["metadata"]["page_type"] == "search")
        .unwrap();
    assert_eq!(search["username"], "alice");
    assert_eq!(search["event_type"], "page_view");
    assert_eq!(search["user_agent"], FIREFOX);
    assert_eq!(search["ip_address"], "127.0.0.1");
    assert_eq!(search["location_data"], json!({}));
    assert_eq!(
        search["device_info"],
        json!({"browser": "Firefox 140.0", "os": "Windows 10", "device": "desktop"})
    );
    let metadata = &search["metadata"];
    assert_eq!(metadata["url"], format!("{rust}search/"));
    assert_eq!(metadata["community_id"], world.seeded.community("rust"));
    assert_eq!(metadata["search_query"], "borrow checker");
    assert_eq!(metadata["route"], "community-search");
    assert_eq!(metadata["status"], 200);
    assert_eq!(metadata["source"], "headcount");
    assert!(metadata["duration_ms"].is_u64());
    assert!(time(&search["timestamp"]) >= before && time(&search["timestamp"]) <= Utc::now());
    let by_slug = views
        .iter()
        .find(|view| view["metadata"]["url"] == "/c/rust/")
        .unwrap();
    assert_eq!(
        by_slug["metadata"]["community_id"],
        world.seeded.community("rust")
    );
    let about = views.iter().find(|view| view["username"] == "carol").unwrap();
    assert_eq!(about["metadata"]["community_id"], Value::Null);
    assert_eq!(about["metadata"]["route"], Value::Null);

    // Counters.
    let sessions = world.site.ask("oracle/sessions").await;
    let pages = |name: &str| {
        let of = |s: &&Value| s["username"] == name;
        sessions.as_array().unwrap().iter().find(of).unwrap()["pages_visited"].clone()
    };
    assert_eq!([pages("alice"), pages("bob"), pages("carol")], [4, 2, 1]);
    let profiles = world.site.ask("oracle/profiles").await;
    for name in ["alice", "bob", "carol"] {
        let latest = views
            .iter()
            .filter(|v| v["username"] == name)
            .map(|v| time(&v["timestamp"]))
            .max();
        let profile = profiles
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["username"] == name)
            .unwrap();
        assert_eq!(Some(time(&profile["last_active"])), latest, "{name}");
    }

    // Statistics, and what the site's own functions say.
    bob.sign_out().await;
    let stats = alice.json(&world.visitors("rust", "/stats?days=30")).await;
    assert_eq!(stats["total_visitors"], 2);
    assert_eq!(stats["page_views"], 5);
    assert_eq!(stats["ended_sessions"], 1);
    let oracle = world
        .site
        .ask(&format!(
            "oracle/stats/{}?days=30",
            world.seeded.community("rust")
        ))
        .await;
    for number in ["total_visitors", "page_views"] {
        assert_eq!(stats[number], oracle[number], "{number}");
    }
    let mean = |stats: &Value| stats["avg_session_duration"].as_f64().unwrap();
    assert!((mean(&stats) - mean(&oracle)).abs() < 1e-6, "{stats} {oracle}");
    let active = world
        .site
        .ask(&format!("oracle/visitors/{}", world.seeded.community("rust")))
        .await;
    let mut ids: Vec<_> = active["user_ids"].as_array().unwrap().iter().map(text).collect();
    ids.sort();
    let mut expected = vec![world.seeded.user("alice")];
    ids.dedup();
    expected.sort();
    // Bob has signed out: the site's function knows active sessions only. Presence keeps him for the window.
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn the_main_job_on_postgres_and_redis() {
    everything_that_happened_is_known(Parts::Production, Variant::Default).await;
}

#[tokio::test]
async fn the_main_job_on_postgres_and_redis_with_another_schema() {
    everything_that_happened_is_known(Parts::Production, Variant::Uuid).await;
}

#[tokio::test]
async fn the_main_job_on_sqlite_and_memory() {
    everything_that_happened_is_known(Parts::Embedded, Variant::Default).await;
}

#[tokio::test]
async fn the_main_job_on_sqlite_and_memory_with_another_schema() {
    everything_that_happened_is_known(Parts::Embedded, Variant::Uuid).await;
}

#[tokio::test]
async fn p12_two_sessions_of_one_user_are_one_visitor() {
    let world = World::usual().await;
    let (desktop, phone) = (world.member("alice").await, world.member("alice").await);
    desktop.sees(&world.community("rust")).await;
    phone.sees(&world.community("rust")).await;
    world.wait_for_views(2).await;
    let list = desktop.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 1);
    assert_eq!(list["visitors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_view_is_counted_once_though_the_site_records_its_own() {
    let mut wanted = Wanted::usual();
    wanted.settings = Settings {
        tracks: true,
        ..Settings::default()
    };
    wanted.record = "pages_visited = false".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    assert_eq!(world.events().await.len(), 2, "the site's event and ours");
    let stats = alice.json(&world.visitors("rust", "/stats")).await;
    assert_eq!(stats["page_views"], 1);
}

#[tokio::test]
async fn every_write_can_be_switched_off() {
    let mut wanted = Wanted::usual();
    wanted.record = "events = false\npages_visited = false\nlast_active = false".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    let before = world.site.ask("oracle/profiles").await;
    alice.sees(&world.community("rust")).await;
    world
        .sidecar
        .wait_for_metric("headcount_page_views_counted_total", |views| views >= 1.0)
        .await;
    world.sidecar.wait_until_idle().await;
    assert_eq!(
        alice.json(&world.visitors("rust", "/count")).await["current_visitors"],
        1
    );
    assert!(world.events().await.is_empty());
    assert_eq!(world.site.ask("oracle/profiles").await, before);
    let sessions = world.site.ask("oracle/sessions").await;
    assert!(
        sessions
            .as_array()
            .unwrap()
            .iter()
            .all(|session| session["pages_visited"] == 0)
    );
}

#[tokio::test]
async fn v4_the_sidecars_own_api_is_no_page() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    // A browser can open these, too.
    alice.sees(&world.visitors("rust", "")).await;
    alice.sees("/api/visitors/openapi.json").await;
    alice.sees(&world.community("rust")).await;
    let views = world.wait_for_views(1).await;
    assert_eq!(views.len(), 1);
    assert_eq!(views[0]["metadata"]["route"], "community");
}

#[tokio::test]
async fn v6_a_view_belongs_to_the_session_that_came_with_the_request() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    // The same browser becomes somebody else; the answer to the sign-in sets the new cookie.
    alice.sign_in("bob").await;
    alice.sees(&world.community("django")).await;
    let views = world.wait_for_views(2).await;
    let who: Vec<_> = views.iter().map(|view| view["username"].clone()).collect();
    assert_eq!(who, ["alice", "bob"]);
}

#[tokio::test]
async fn i3_an_expired_or_ended_session_is_nobody() {
    let mut wanted = Wanted::usual();
    wanted.session = "cache_ttl = \"1ms\"\nnegative_ttl = \"1ms\"".into();
    let world = wanted.start().await;
    let (alice, bob, carol) = (
        world.member("alice").await,
        world.member("bob").await,
        world.member("carol").await,
    );
    world
        .site
        .tell("expire-session", &json!({"username": "alice"}))
        .await;
    world.site.tell("end-session", &json!({"username": "bob"})).await;
    alice.sees(&world.community("rust")).await;
    bob.sees(&world.community("rust")).await;
    carol.sees(&world.community("rust")).await;
    let views = world.wait_for_views(1).await;
    assert_eq!(views.len(), 1);
    assert_eq!(views[0]["username"], "carol");
    assert_eq!(
        alice.get(&world.visitors("rust", "")).await.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        bob.get(&world.visitors("rust", "")).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

fn time(value: &Value) -> DateTime<Utc> {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("{value} is no time"))
}

/// What a browser shows in a tab is looked at again: the answer need not say that it is no page.
#[tokio::test]
async fn v2_a_picture_that_is_not_sent_again_counts_no_more_than_when_it_was() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let again = async |path: &str| {
        let first = alice.navigation(path).send().await.expect("an answer");
        assert_eq!(first.status(), 200, "{path}");
        let again = alice
            .navigation(path)
            .header("if-none-match", first.headers()["etag"].clone());
        let again = again.send().await.expect("an answer");
        assert_eq!(again.status(), 304, "{path}");
        assert!(!again.headers().contains_key("content-type"), "{path}");
    };
    again("/picture").await;
    again("/etag").await;
    let views = world.wait_for_views(2).await;
    assert!(
        views.iter().all(|view| view["metadata"]["url"] == "/etag"),
        "{views:?}"
    );
    let not_counted = "headcount_page_views_not_counted_total{reason=\"not_html\"}";
    assert_eq!(world.sidecar.metric(not_counted).await, 2.0);
}
