//! Who may ask the visitors API, and what it answers the others: with the real site deciding.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::backend::Variant;
use crate::support::member::{FIREFOX, Member};
use crate::support::world::{Parts, Wanted, World};

async fn world(api: &str) -> World {
    let mut wanted = Wanted::usual();
    wanted.config = format!("[api]\n{api}\n");
    wanted.start().await
}

async fn status(member: &Member, path: &str) -> StatusCode {
    member.get(path).await.status()
}

#[tokio::test]
async fn with_access_session_any_signed_in_visitor_may_ask_and_nobody_else() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    for rest in ["", "/", "/count", "/count/", "/stats", "/stats/?days=7"] {
        let path = world.visitors("rust", rest);
        assert_eq!(status(&alice, &path).await, StatusCode::OK, "{path}");
        let refused = world.stranger().get(&path).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert_eq!(refused.json::<Value>().await.unwrap()["status"], 401);
    }
    let counts = format!(
        "/api/visitors/counts?communities={}",
        world.seeded.community("rust")
    );
    let answer = alice.json(&counts).await;
    assert_eq!(answer["counts"][0]["current_visitors"], 1);
    assert_eq!(
        status(&alice, "/api/communities/999999/visitors").await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        status(&alice, &world.visitors("rust", "?limt=5")).await,
        StatusCode::BAD_REQUEST
    );
    let contract: Value = world.stranger().json("/api/visitors/openapi.json").await;
    assert!(contract["openapi"].as_str().unwrap().starts_with("3."));
}

#[tokio::test]
async fn the_app_still_answers_every_other_path_of_its_api() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let community = format!("/api/communities/{}/", world.seeded.community("rust"));
    assert_eq!(alice.json(&community).await["slug"], "rust");
    let more = alice.json(&world.visitors("rust", "/unknown")).await;
    assert_eq!(more["answered_by"], "backend");
}

async fn i9_forbidden_and_absent_look_the_same(variant: Variant) {
    let mut wanted = Wanted::new(Parts::Production, variant);
    wanted.config = "[api]\naccess = \"backend\"\n".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    let mallory = world.member("mallory").await;
    alice.sees(&world.community("hidden")).await;
    world.wait_for_views(1).await;
    for rest in ["", "/count", "/stats"] {
        let hidden = world.visitors("hidden", rest);
        let absent = match variant {
            Variant::Default | Variant::Text | Variant::Django | Variant::Counters => {
                format!("/api/communities/999999/visitors{rest}")
            }
            Variant::Uuid => {
                format!("/api/communities/00000000-0000-4000-8000-000000000000/visitors{rest}")
            }
        };
        assert_eq!(status(&alice, &hidden).await, StatusCode::OK);
        for other in [mallory.clone(), world.stranger()] {
            let (forbidden, missing) = (other.get(&hidden).await, other.get(&absent).await);
            assert_eq!(forbidden.status(), StatusCode::NOT_FOUND);
            assert_eq!(missing.status(), StatusCode::NOT_FOUND);
            assert_eq!(forbidden.text().await.unwrap(), missing.text().await.unwrap());
        }
    }
    // What the app shows to everybody, everybody may ask about.
    assert_eq!(
        status(&world.stranger(), &world.visitors("rust", "/count")).await,
        StatusCode::OK
    );
}

#[tokio::test]
async fn i9_with_access_backend_the_site_decides() {
    i9_forbidden_and_absent_look_the_same(Variant::Default).await;
}

#[tokio::test]
async fn i9_with_access_backend_the_site_decides_with_another_schema() {
    i9_forbidden_and_absent_look_the_same(Variant::Uuid).await;
}

/// What a page of the site posts of itself.
async fn reports(world: &World, member: &Member, cookie: Option<&str>, page: &str) {
    let request = member
        .request(Method::POST, "/api/visits")
        .header("origin", world.sidecar.url(""))
        .header("user-agent", FIREFOX)
        .body(json!({"url": page}).to_string());
    let request = match cookie {
        Some(cookie) => request.header("cookie", cookie),
        None => request,
    };
    // The answer is that to everybody.
    assert_eq!(request.send().await.expect("an answer").status(), 204, "{page}");
}

#[tokio::test]
async fn i12_who_may_not_see_a_community_gets_not_among_its_visitors_by_reporting_a_view() {
    let mut wanted = Wanted::usual();
    wanted.config = "[api]\naccess = \"backend\"\n".into();
    let world = wanted.start().await;
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    let hidden = world.community("hidden");
    let errors = "headcount_page_views_not_counted_total{reason=\"error\"}";
    for (count, page) in [hidden.as_str(), "/communities/999999/", "/c/hidden/"]
        .into_iter()
        .enumerate()
    {
        reports(&world, &mallory, None, page).await;
        let refused = f64::from(u32::try_from(count).unwrap()) + 1.0;
        world
            .sidecar
            .wait_for_metric(errors, |errors| errors == refused)
            .await;
    }
    let made_up = "session_id=a-token-that-nobody-has";
    reports(&world, &world.stranger(), Some(made_up), &hidden).await;
    let anonymous = "headcount_page_views_not_counted_total{reason=\"no_session\"}";
    world
        .sidecar
        .wait_for_metric(anonymous, |views| views >= 1.0)
        .await;
    reports(&world, &alice, None, &hidden).await;
    reports(&world, &mallory, None, "/about/").await;
    let views = world.wait_for_views(2).await;
    let who: Vec<_> = views.iter().map(|view| &view["username"]).collect();
    assert!(views.len() == 2 && who.contains(&&json!("alice")), "{who:?}");
    let list = alice.json(&world.visitors("hidden", "")).await;
    assert_eq!(list["current_visitors"], 1, "{list}");
    assert_eq!(list["visitors"][0]["username"], "alice");
    let stats = alice.json(&world.visitors("hidden", "/stats")).await;
    assert_eq!(
        (&stats["total_visitors"], &stats["page_views"]),
        (&json!(1), &json!(1))
    );
}

/// Nobody has answered with the page of a community that does not exist.
#[tokio::test]
async fn i12_a_reported_view_of_no_community_counts_nowhere() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    reports(&world, &alice, None, "/communities/999999/").await;
    let errors = "headcount_page_views_not_counted_total{reason=\"error\"}";
    world
        .sidecar
        .wait_for_metric(errors, |errors| errors == 1.0)
        .await;
    reports(&world, &alice, None, &world.community("rust")).await;
    let views = world.wait_for_views(1).await;
    assert_eq!(views.len(), 1);
    assert_eq!(
        views[0]["metadata"]["community_id"],
        world.seeded.community("rust")
    );
}

#[tokio::test]
async fn public_access_needs_no_session_and_without_identities_nobody_is_named() {
    let world = world("access = \"public\"\nidentities = false").await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let list = world.stranger().json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 1);
    assert_eq!(list["visitors"], Value::Array(Vec::new()));
    assert_eq!(list["next"], Value::Null);
}

#[tokio::test]
async fn the_api_may_live_elsewhere_or_nowhere() {
    let elsewhere = world("prefix = \"/who\"").await;
    let alice = elsewhere.member("alice").await;
    let community = elsewhere.seeded.community("rust");
    assert_eq!(
        alice
            .json(&format!("/who/communities/{community}/visitors"))
            .await["current_visitors"],
        0
    );
    assert_eq!(
        alice.json(&elsewhere.visitors("rust", "")).await["answered_by"],
        "backend"
    );

    let nowhere = world("enabled = false").await;
    let alice = nowhere.member("alice").await;
    assert_eq!(
        alice.json(&nowhere.visitors("rust", "")).await["answered_by"],
        "backend"
    );
}

#[tokio::test]
async fn p13_the_cursor_pages_through_a_crowd_on_real_parts() {
    let world = World::usual().await;
    let names = ["alice", "bob", "carol", "dave"];
    for name in names {
        world.member(name).await.sees(&world.community("rust")).await;
        // One after the other, so that the order is known.
        world.sidecar.wait_until_idle().await;
    }
    world.wait_for_views(names.len()).await;
    let alice = world.member("alice").await;
    let mut seen = Vec::new();
    let mut next = Value::Null;
    loop {
        let cursor = next
            .as_str()
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let page = alice
            .json(&world.visitors("rust", &format!("?limit=1{cursor}")))
            .await;
        seen.extend(
            page["visitors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|v| v["username"].clone()),
        );
        next = page["next"].clone();
        if next.is_null() {
            break;
        }
    }
    assert_eq!(seen, ["dave", "carol", "bob", "alice"]);
}
