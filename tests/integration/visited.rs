//! Who may see a community's visitors where nothing is configured: those to whom the site has shown it lately. With the
//! real site deciding, and one sidecar or two.

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::backend::{Seeded, Variant};
use crate::support::database::Database;
use crate::support::live::{Events, Socket};
use crate::support::member::{FIREFOX, Member};
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, eventually};
use crate::support::sidecar::{ROUTES, write_config};
use crate::support::world::{Parts, Wanted, World, any_prefix};

pub fn wanted() -> Wanted {
    Wanted::usual().with_default_access()
}

pub async fn status(member: &Member, path: &str) -> u16 {
    member.get(path).await.status().as_u16()
}

/// Everything that an answer says, but for when.
pub async fn answer(member: &Member, path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
    let request = member.request(Method::GET, path).header("accept", accept);
    let response = request.send().await.expect("an answer");
    let (status, mut headers) = (response.status(), response.headers().clone());
    headers.remove(HeaderName::from_static("date"));
    let text = response.text().await.expect("text");
    match serde_json::from_str::<Value>(&text) {
        Ok(mut json) if json.get("as_of").is_some() => {
            json["as_of"] = Value::Null;
            (status, headers, json.to_string())
        }
        _ => (status, headers, text),
    }
}

/// The same community by another id: one that there is not.
pub fn absent(path: &str, world: &World) -> String {
    path.replace(&world.seeded.community("hidden"), "999999")
}

/// Every way to ask about a community.
pub fn ways(world: &World) -> Vec<(String, &'static str)> {
    let mut ways: Vec<_> = [
        "",
        "/",
        "?limit=1",
        "/count",
        "/count/",
        "/stats",
        "/stats?days=7",
    ]
    .map(|rest| (world.visitors("hidden", rest), "application/json"))
    .into();
    ways.push((world.visitors("hidden", "/live"), "text/event-stream"));
    ways.push((
        world.visitors("hidden", "/live?heartbeat=false"),
        "text/event-stream",
    ));
    let hidden = world.seeded.community("hidden");
    ways.push((
        format!("/api/visitors/counts?communities={hidden}"),
        "application/json",
    ));
    ways.push((
        format!("/api/visitors/live?communities={hidden}"),
        "text/event-stream",
    ));
    ways
}

/// What a page of the site posts of itself.
async fn reports(world: &World, member: &Member, page: &str) {
    let request = member
        .request(Method::POST, "/api/visits")
        .header("origin", world.sidecar.url(""))
        .header("user-agent", FIREFOX)
        .body(json!({"url": page}).to_string());
    assert_eq!(request.send().await.expect("an answer").status(), 204, "{page}");
}

/// Mallory may not see the hidden community, however often she asks for its pages.
#[tokio::test]
async fn a7_whoever_the_site_refuses_learns_nothing_from_any_path() {
    let world = wanted().start().await;
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    alice.sees(&world.community("hidden")).await;
    world.wait_for_views(1).await;
    let hidden = world.community("hidden");
    for page in [&*hidden, &format!("{hidden}posts/1/"), "/c/hidden/"] {
        assert_eq!(mallory.visits(page).await, StatusCode::NOT_FOUND);
    }
    let preflight = mallory.request(Method::OPTIONS, &hidden).send().await;
    preflight.expect("an answer");
    reports(&world, &mallory, &hidden).await;
    let errors = "headcount_page_views_not_counted_total{reason=\"error\"}";
    world
        .sidecar
        .wait_for_metric(errors, |errors| errors >= 4.0)
        .await;
    for (path, accept) in ways(&world) {
        let forbidden = answer(&mallory, &path, accept).await;
        let missing = answer(&mallory, &absent(&path, &world), accept).await;
        assert_eq!(forbidden, missing, "{path}");
        if !path.contains("/counts?") {
            assert_eq!(forbidden.0, StatusCode::NOT_FOUND, "{path}");
            let cookie = mallory.cookie();
            let headers = [("cookie", &*cookie)];
            if path.contains("/live") {
                for path in [path.clone(), absent(&path, &world)] {
                    let socket = Socket::try_open(&world.sidecar, &path, &headers).await;
                    assert_eq!(socket.err(), Some(404), "{path}");
                }
            }
            let strangers = answer(&world.stranger(), &path, accept).await;
            assert_eq!(strangers.0, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    // However many she asks about.
    let many: Vec<_> = (1..=100).map(|id| id.to_string()).collect();
    let counts = format!("/api/visitors/counts?communities={}", many.join(","));
    assert_eq!(mallory.json(&counts).await["counts"], json!([]));
    // She is among the members of no list, and asks over a connection that she may have.
    let list = alice.json(&world.visitors("hidden", "")).await;
    assert_eq!(list["visitors"].as_array().unwrap().len(), 1, "{list}");
    mallory.sees(&world.community("rust")).await;
    let rust = world.visitors("rust", "/live");
    let mut socket = Socket::open(&world.sidecar, &rust, &mallory).await;
    socket.count().await;
    let hidden: Value = serde_json::from_str(&world.seeded.community("hidden")).unwrap();
    for community in [hidden, json!(999_999)] {
        let asked = json!({"type": "subscribe", "communities": [community]});
        socket.say(asked.to_string()).await;
        assert_eq!(
            socket.next().await,
            json!({"type": "unknown", "community_id": community})
        );
    }
}

/// The page, another page below it, its data, and nothing else.
async fn whoever_saw_a_page_may_see_who_is_there(parts: Parts) {
    let wanted = Wanted::new(parts, Variant::Default).with_default_access();
    let world = wanted.start().await;
    let pages = [
        world.community("hidden"),
        format!("{}posts/1/", world.community("hidden")),
        "/c/hidden/".to_owned(),
    ];
    for page in pages {
        // A new browser each time: what was granted is the user's.
        let alice = world.member("alice").await;
        alice.sees(&page).await;
        for (path, accept) in ways(&world)
            .into_iter()
            .filter(|(_, accept)| *accept != "text/event-stream")
        {
            let (status, _, text) = answer(&alice, &path, accept).await;
            assert_eq!(status, StatusCode::OK, "{page}: {path}: {text}");
        }
    }
    let alice = world.member("alice").await;
    let mut socket = Socket::open(&world.sidecar, &world.visitors("hidden", "/live"), &alice).await;
    socket.count().await;
    // A page below the community's own, whose route does not say that the site has checked the community.
    let carol = world.member("carol").await;
    carol
        .sees(&format!("{}search/?q=borrow", world.community("rust")))
        .await;
    assert_eq!(status(&carol, &world.visitors("rust", "/count")).await, 404);
    // The same browser is let out and in again by the site.
    let bob = world.member("bob").await;
    assert_eq!(status(&bob, &world.visitors("rust", "/count")).await, 404);
    assert_eq!(bob.visits("/about/").await, StatusCode::OK);
    assert_eq!(status(&bob, &world.visitors("rust", "/count")).await, 404);
    bob.sees(&world.community("rust")).await;
    assert_eq!(status(&bob, &world.visitors("rust", "/count")).await, 200);
    assert_eq!(status(&bob, &world.visitors("django", "/count")).await, 404);
}

#[tokio::test]
async fn a7_whoever_saw_a_page_may_see_who_is_there_with_postgres_and_redis() {
    whoever_saw_a_page_may_see_who_is_there(Parts::Production).await;
}

#[tokio::test]
async fn a7_whoever_saw_a_page_may_see_who_is_there_with_sqlite_and_memory() {
    whoever_saw_a_page_may_see_who_is_there(Parts::Embedded).await;
}

/// Takes a member out of the hidden community, in the site's own tables.
pub async fn expels(database: &Database, seeded: &Seeded, name: &str) {
    let pool = Postgres::shared().pool(database.name());
    let sql = format!(
        "DELETE FROM communities_community_members WHERE community_id = {} AND userprofile_id = {}",
        seeded.community("hidden"),
        seeded.user(name)
    );
    let deleted = pool.execute(AssertSqlSafe(sql)).await.expect("it is deleted");
    assert_eq!(deleted.rows_affected(), 1);
    pool.close().await;
}

#[tokio::test]
async fn a8_whoever_is_refused_later_sees_no_more_on_every_sidecar_and_open_connections_end() {
    let mut wanted = wanted();
    wanted.key_prefix = Some(any_prefix());
    wanted.config = "[live]\naccess_check_interval = \"1s\"\n".into();
    let world = wanted.clone().start().await;
    let second = world.another_sidecar(&wanted);
    let alice = world.member("alice").await;
    let elsewhere = alice.at(second.url(""));
    let (page, count) = (world.community("hidden"), world.visitors("hidden", "/count"));
    alice.sees(&page).await;
    let live = world.visitors("hidden", "/live");
    let mut socket = Socket::open(&world.sidecar, &live, &alice).await;
    socket.count().await;
    assert_eq!(status(&elsewhere, &count).await, 200);
    expels(&world.database, &world.seeded, "alice").await;
    // The site says so when it is asked; here through the other sidecar.
    assert_eq!(elsewhere.visits(&page).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&elsewhere, &count).await, 404);
    assert_eq!(socket.close_code().await, 4404);
    assert_eq!(status(&alice, &count).await, 404);
}

/// A missing page says nothing about its community.
#[tokio::test]
async fn a8_a_page_that_there_is_not_takes_nothing_away() {
    let world = wanted().start().await;
    let alice = world.member("alice").await;
    let page = world.community("rust");
    alice.sees(&page).await;
    for missing in [format!("{page}nothing/"), format!("{page}posts/x/")] {
        assert_eq!(alice.visits(&missing).await, StatusCode::NOT_FOUND);
    }
    assert_eq!(status(&alice, &world.visitors("rust", "/count")).await, 200);
}

/// An open page keeps what closed ones lose.
#[tokio::test]
async fn a10_a_grant_ends_and_an_open_page_keeps_it() {
    let world = Wanted {
        // Her end reads nothing meanwhile, and answers no ping.
        config:
            "[api]\nvisited_ttl = \"20s\"\n[live]\naccess_check_interval = \"1s\"\nping_interval = \"1h\"\n"
                .into(),
        ..wanted()
    };
    let world = world.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let count = world.visitors("rust", "/count");
    for member in [&alice, &bob] {
        member.sees(&world.community("rust")).await;
        assert_eq!(status(member, &count).await, 200);
    }
    let live = world.visitors("rust", "/live");
    let mut socket = Socket::open(&world.sidecar, &live, &alice).await;
    socket.count().await;
    eventually(async || status(&bob, &count).await != 200).await;
    assert_eq!(status(&alice, &count).await, 200, "her page is open");
    socket
        .say(json!({"type": "subscribe", "communities": ["nowhere"]}).to_string())
        .await;
    // The connection is there; that bob has come may be told late.
    while socket.next().await["type"] != "unknown" {}
}

/// The first page of a new session, and what that page asks at once, while the sidecar that passed the page on still
/// looks for the session. `ask` is asked by `at`: the same sidecar, or the second.
async fn waits_for_the_lookup(by_the_second: bool) {
    let database = Database::seeded(Parts::Production, Variant::Default).await;
    let proxy = Proxy::before(Postgres::shared().port()).await;
    let mut wanted = wanted();
    wanted.key_prefix = Some(any_prefix());
    // A fifth of it is how long a caller waits for what others know.
    wanted.config = "[api]\ntimeout = \"60s\"\n".into();
    let second = wanted.clone();
    wanted.database_port = Some(proxy.port());
    let world = wanted.start_on(database);
    let second = by_the_second.then(|| world.another_sidecar(&second));
    let alice = world.member("alice").await;
    let caller = second
        .as_ref()
        .map_or(alice.clone(), |second| alice.at(second.url("")));
    proxy.hang();
    alice.sees(&world.community("hidden")).await;
    proxy.holds_something().await;
    let count = world.visitors("hidden", "/count");
    let asking = tokio::spawn({
        let (caller, count) = (caller.clone(), count.clone());
        async move { status(&caller, &count).await }
    });
    // Nobody else is let in by it, meanwhile or afterwards.
    if let Some(second) = &second {
        let found = "headcount_session_lookups_total{outcome=\"found\"}";
        second.wait_for_metric(found, |found| found >= 1.0).await;
    }
    assert!(!asking.is_finished());
    proxy.resume().await;
    assert_eq!(asking.await.unwrap(), 200);
    assert_eq!(status(&caller, &count).await, 200);
}

#[tokio::test]
async fn a11_the_first_page_of_a_session_lets_its_widget_ask() {
    waits_for_the_lookup(false).await;
}

#[tokio::test]
async fn a11_the_first_page_of_a_session_lets_its_widget_ask_another_sidecar() {
    waits_for_the_lookup(true).await;
}

/// Without Redis for a while, what this sidecar has passed on counts.
#[tokio::test]
async fn a9_while_redis_is_away_the_sidecar_that_served_the_page_knows() {
    let mut redis = RedisServer::start(&[]);
    let mut wanted = wanted();
    wanted.redis = Some(redis.url());
    let world = wanted.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    alice.sees(&world.community("hidden")).await;
    redis.kill();
    let count = world.visitors("hidden", "/count");
    assert_eq!(status(&alice, &count).await, 200);
    bob.sees(&world.community("rust")).await;
    assert_eq!(status(&bob, &world.visitors("rust", "/count")).await, 200);
    // What nobody here has shown cannot be told, whether or not it is there.
    let mallory = world.member("mallory").await;
    assert_eq!(status(&mallory, &count).await, 503);
    assert_eq!(status(&mallory, &absent(&count, &world)).await, 503);
}

/// In an event stream the last word is that of a community that there is not.
#[tokio::test]
async fn a8_an_event_stream_ends_like_that_of_no_community() {
    let mut wanted = wanted();
    wanted.config = "[live]\naccess_check_interval = \"1s\"\n".into();
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("hidden")).await;
    let mut events = Events::open(&world.sidecar, &world.visitors("hidden", "/live"), &alice).await;
    events.count().await;
    expels(&world.database, &world.seeded, "alice").await;
    assert_eq!(
        alice.visits(&world.community("hidden")).await,
        StatusCode::NOT_FOUND
    );
    let last = events.ends().await;
    assert_eq!((&last["type"], &last["code"]), (&json!("close"), &json!(4404)));
}

#[test]
fn a7_check_warns_of_names_for_everybody_who_is_signed_in() {
    let says = |api: &str| {
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[upstream]\nservers = [\"127.0.0.1:1\"]\n[database]\nurl = \"sqlite://none\"\n[api]\n{api}\n"
        );
        let path = write_config(directory.path(), &config, ROUTES);
        let told = run(&["check", "--offline", "--config", path.to_str().unwrap()], &[]);
        assert_eq!(told.code, Some(0), "{told:?}");
        told.out
            .contains("warning: api.access = \"session\" shows who is in a community")
    };
    assert!(says("access = \"session\""));
    for safe in [
        "",
        "access = \"backend\"",
        "access = \"session\"\nidentities = false",
    ] {
        assert!(!says(safe), "{safe}");
    }
}
