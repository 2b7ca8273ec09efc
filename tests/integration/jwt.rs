//! A single-page app with JWTs in front of its site: Django REST framework with djangorestframework-simplejwt under
//! gunicorn, which knows nothing of the sidecar.

mod accounts;
mod live;
mod outages;
mod pyjwt;
mod reload;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::backend::Variant;
use crate::support::jwt::{Pair, refused, signed, status, with_bearer, world};
use crate::support::redis::eventually;
use crate::support::world::{Parts, Wanted, World};

/// A community's feed, as the app's script asks for it.
fn feed(world: &World, slug: &str) -> String {
    format!("/api/feed/{}/", world.seeded.community(slug))
}

async fn counted_and_answered(wanted: Wanted) {
    let (world, _keys) = world(wanted, "").await;
    let (alice, bob) = (Pair::of(&world, "alice").await, Pair::of(&world, "bob").await);
    let app = world.stranger();
    let (rust, visitors) = (feed(&world, "rust"), world.visitors("rust", ""));
    assert_eq!(status(&app, &rust, &alice.access).await, 200);
    let visit = json!({"url": world.community("rust")}).to_string();
    let beacon = with_bearer(&app, Method::POST, "/api/visits", &bob.access)
        .header("origin", world.sidecar.url(""))
        .body(visit);
    assert_eq!(
        beacon.send().await.expect("an answer").status(),
        StatusCode::NO_CONTENT
    );
    let views = world.wait_for_views(2).await;
    let seen = |view: &Value| (view["username"].clone(), view["metadata"]["url"].clone());
    assert_eq!(seen(&views[0]), (json!("alice"), json!(rust)));
    assert_eq!(seen(&views[1]), (json!("bob"), json!(world.community("rust"))));
    // They are in no session of the table.
    let sessions = world.site.ask("oracle/sessions").await;
    let pages = sessions
        .as_array()
        .expect("a list")
        .iter()
        .map(|session| session["pages_visited"].clone());
    assert!(pages.clone().all(|pages| pages == 0), "{sessions}");
    eventually(async || {
        let list = with_bearer(&app, Method::GET, &visitors, &alice.access)
            .send()
            .await;
        let list: Value = list.expect("an answer").json().await.expect("JSON");
        let mut names: Vec<_> = list["visitors"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["username"].clone())
            .collect();
        names.sort_by_key(ToString::to_string);
        names == [json!("alice"), json!("bob")]
    })
    .await;
}

#[tokio::test]
async fn i23_a_jwt_of_the_site_is_counted_and_answered() {
    counted_and_answered(Wanted::usual()).await;
}

#[tokio::test]
async fn i23_a_jwt_of_a_site_with_other_keys_on_sqlite_is_counted_and_answered() {
    let wanted = Wanted::new(Parts::Embedded, Variant::Uuid);
    counted_and_answered(wanted).await;
}

#[tokio::test]
async fn i23_authorization_goes_before_cookies_and_decides_alone() {
    let (world, _keys) = world(Wanted::usual(), "cookie = \"access\"").await;
    let (alice, bob) = (Pair::of(&world, "alice").await, Pair::of(&world, "bob").await);
    let carol = world.member("carol").await;
    let visitors = world.visitors("rust", "");
    // A session cookie alone; with a JWT of another; and with one that is refused.
    assert_eq!(carol.get(&visitors).await.status(), StatusCode::OK);
    assert_eq!(status(&carol, &visitors, &bob.refresh).await, 401);
    let page = |jwt: Option<&str>, cookie: Option<&str>| {
        let mut request = carol.navigation("/about/");
        if let Some(jwt) = jwt {
            request = request.header("authorization", format!("Bearer {jwt}"));
        }
        if let Some(jwt) = cookie {
            request = request.header("cookie", format!("{}; access={jwt}", carol.cookie()));
        }
        async { assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK) }
    };
    page(Some(&bob.access), Some(&alice.access)).await;
    page(Some(&bob.refresh), None).await;
    page(None, Some(&alice.access)).await;
    page(None, Some("expired")).await;
    page(None, None).await;
    let views = world.wait_for_views(4).await;
    let names: Vec<_> = views.iter().map(|view| view["username"].clone()).collect();
    assert_eq!(names, ["bob", "alice", "carol", "carol"].map(|name| json!(name)));
    assert_eq!(world.sidecar.metric(&refused("token_type")).await, 2.0);
    assert_eq!(world.sidecar.metric(&refused("malformed")).await, 1.0);
    let nobody = "headcount_page_views_not_counted_total{reason=\"jwt\"}";
    assert_eq!(world.sidecar.metric(nobody).await, 1.0);
}

#[tokio::test]
async fn i24_nobody_is_let_in_with_a_jwt_that_the_site_would_refuse() {
    let (world, _keys) = world(Wanted::usual(), "").await;
    let alice = Pair::of(&world, "alice").await;
    let app = world.stranger();
    let (rust, visitors) = (feed(&world, "rust"), world.visitors("rust", ""));
    let (signed_part, signature) = alice.access.rsplit_once('.').expect("a signature");
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let body = signed_part.split_once('.').expect("a body").1;
    for (jwt, reason) in [
        (alice.refresh.clone(), "token_type"),
        (signed(alice.claims(), -1), "expired"),
        (format!("{none}.{body}."), "algorithm"),
        (format!("{signed_part}.{other}{}", &signature[1..]), "signature"),
        ("opaque".into(), "malformed"),
    ] {
        let before = world.sidecar.metric(&refused(reason)).await;
        assert_eq!(status(&app, &rust, &jwt).await, 401, "the site and {reason}");
        assert_eq!(status(&app, &visitors, &jwt).await, 401, "{reason}");
        assert_eq!(
            world.sidecar.metric(&refused(reason)).await,
            before + 2.0,
            "{reason}"
        );
    }
}

#[tokio::test]
async fn i25_a_jwt_that_names_its_session_ends_with_it() {
    let wanted = Wanted {
        session: "cache_ttl = \"0s\"".into(),
        ..Wanted::usual()
    };
    let (world, _keys) = world(wanted, "session_claim = \"sid\"").await;
    let alice = Pair::of(&world, "alice").await;
    let app = world.stranger();
    let (rust, visitors) = (feed(&world, "rust"), world.visitors("rust", ""));
    assert_eq!(status(&app, &rust, &alice.access).await, 200);
    world.wait_for_views(1).await;
    let sessions = world.site.ask("oracle/sessions").await;
    let pages = sessions
        .as_array()
        .expect("a list")
        .iter()
        .map(|session| session["pages_visited"].clone());
    assert_eq!(pages.collect::<Vec<_>>(), [json!(1)]);
    assert_eq!(status(&app, &visitors, &alice.access).await, 200);
    // Another user's session, no session's key, and the session of a user who is somebody else.
    let claims = alice.claims();
    let bob = world.seeded.user("bob");
    for (name, value) in [
        ("sid", json!("0190163d-8694-739b-aea5-966c26f8ad91")),
        ("sid", json!("x")),
        ("profile_id", json!(bob)),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        assert_eq!(status(&app, &visitors, &signed(claims, 60)).await, 401, "{name}");
    }
    world
        .site
        .tell("end-session", &json!({"username": "alice"}))
        .await;
    assert_eq!(status(&app, &visitors, &alice.access).await, 401);
    assert_eq!(
        status(&app, &rust, &alice.access).await,
        200,
        "the site asks no session"
    );
    let sessions = "headcount_session_lookups_total{outcome=\"nobody\"}";
    world
        .sidecar
        .wait_for_metric(sessions, |lookups| lookups >= 3.0)
        .await;
    world.sidecar.wait_until_idle().await;
    assert_eq!(world.page_views().await.len(), 1);
}

#[tokio::test]
async fn i9_a_member_who_may_not_see_a_community_learns_nothing_of_it_with_a_jwt() {
    let wanted = Wanted {
        config: "[api]\naccess = \"backend\"\nbackend_check = \"/api/feed/{community}/\"".into(),
        ..Wanted::usual()
    };
    let (world, _keys) = world(wanted, "").await;
    let (alice, carol) = (Pair::of(&world, "alice").await, Pair::of(&world, "carol").await);
    let app = world.stranger();
    let hidden = world.visitors("hidden", "");
    assert_eq!(status(&app, &hidden, &alice.access).await, 200);
    assert_eq!(status(&app, &hidden, &carol.access).await, 404);
    assert_eq!(
        status(&app, &world.visitors("rust", ""), &carol.access).await,
        200
    );
}
