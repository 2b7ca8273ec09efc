//! What those learn who may not see a community, or a member, while a part of the system is away.

use std::fmt::Write as _;

use futures_util::future::join_all;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::hidden::{hide, names};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, eventually};
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, any_prefix};
use crate::visited::{absent, answer, status, wanted, ways};

/// An answer without the time after which an event stream is to be opened again, which is by chance.
async fn told(caller: &Member, path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
    let (status, headers, text) = answer(caller, path, accept).await;
    let lines = text.lines().filter(|line| !line.starts_with("retry: "));
    (status, headers, lines.collect())
}

/// The sidecar knows the hidden community, since its members ask about it.
async fn learns_nothing_without_postgres(key: &str) {
    let database = Database::seeded(Parts::Production, Variant::Default).await;
    let proxy = Proxy::before(Postgres::shared().port()).await;
    let mut wanted = wanted();
    wanted.database_port = Some(proxy.port());
    wanted.config = format!("[api]\ncommunity_key = \"{key}\"\n");
    // In memory: nothing is waited for.
    wanted.redis_at = Some(String::new());
    let world = wanted.start_on(database);
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    let by_slug = |path: &str, slug: &str| path.replace(&world.seeded.community("hidden"), slug);
    let count = world.visitors("hidden", "/count");
    alice.sees(&world.community("hidden")).await;
    assert_eq!(status(&alice, &count).await, 200);
    if key == "either" {
        assert_eq!(status(&alice, &by_slug(&count, "hidden")).await, 200);
    }
    mallory.sees(&world.community("rust")).await;

    proxy.refuse().await;
    // Each answer takes as long as a connection is waited for: all ways at once.
    join_all(ways(&world).iter().map(async |(path, accept)| {
        let forbidden = told(&mallory, path, accept).await;
        let missing = told(&mallory, &absent(path, &world), accept).await;
        assert_eq!(forbidden, missing, "{path}");
        let forbidden = told(&mallory, &by_slug(path, "hidden"), accept).await;
        let missing = told(&mallory, &by_slug(path, "nowhere"), accept).await;
        assert_eq!(forbidden, missing, "{path} by slug");
    }))
    .await;
}

#[tokio::test]
async fn a21_without_postgres_a_known_community_is_told_like_none_by_id() {
    learns_nothing_without_postgres("id").await;
}

#[tokio::test]
async fn a21_without_postgres_a_known_community_is_told_like_none_by_slug() {
    learns_nothing_without_postgres("either").await;
}

/// Refused, shown long ago elsewhere, or never heard of: all the same, whatever part is away.
#[tokio::test]
async fn a21_without_redis_and_after_a_start_nothing_is_told_either() {
    let mut redis = RedisServer::start(&[]);
    let mut wanted = wanted();
    wanted.redis = Some(redis.url());
    wanted.key_prefix = Some(any_prefix());
    let world = wanted.clone().start().await;
    let second = world.another_sidecar(&wanted);
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    let elsewhere = mallory.at(second.url(""));
    let (page, count) = (world.community("hidden"), world.visitors("hidden", "/count"));
    alice.sees(&page).await;
    assert_eq!(status(&alice, &count).await, 200);
    assert_eq!(mallory.visits(&page).await, StatusCode::NOT_FOUND);
    let same = async |caller: &Member, told: u16| {
        for path in [&count, &world.visitors("hidden", "/stats")] {
            let forbidden = answer(caller, path, "application/json").await;
            let missing = answer(caller, &absent(path, &world), "application/json").await;
            assert_eq!(forbidden, missing, "{path}");
            assert_eq!(forbidden.0.as_u16(), told, "{path}");
        }
    };
    same(&mallory, 404).await;
    same(&elsewhere, 404).await;
    redis.kill();
    same(&mallory, 503).await;
    same(&elsewhere, 503).await;
    // One that has just started remembers nothing.
    let third = world.another_sidecar(&wanted);
    same(&mallory.at(third.url("")), 503).await;
}

/// Everything about a community that two members may ask, and the dashboard.
async fn told_of_rust(sidecar: &Sidecar, asking: &Member, base: &str) -> String {
    let mut told = String::new();
    for path in ["", "?limit=1", "/count", "/stats"] {
        let (_, headers, text) = answer(asking, &format!("{base}{path}"), "application/json").await;
        let _ = write!(told, "{headers:?}{text}");
    }
    for path in ["/dashboard.json", "/metrics", "/readyz"] {
        let answer = reqwest::get(sidecar.admin_url(path)).await.expect("an answer");
        told.push_str(&answer.text().await.expect("text"));
    }
    told + &sidecar.log()
}

#[tokio::test]
async fn a22_a_hidden_member_is_found_nowhere_with_two_sidecars_without_redis_and_after_a_start() {
    let mut redis = RedisServer::start(&[]);
    let wanted = Wanted {
        redis: Some(redis.url()),
        key_prefix: Some(any_prefix()),
        config: "[schema.profile.columns]\nis_hidden = \"secret\"".into(),
        ..Wanted::new(Parts::Production, Variant::Uuid)
    };
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let pool = Postgres::shared().pool(database.name());
    sqlx::query("ALTER TABLE people_profile ADD secret boolean NOT NULL DEFAULT false")
        .execute(&pool)
        .await
        .expect("a column");
    let world = wanted.clone().start_on((database, seeded));
    let second = world.another_sidecar(&wanted);
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    hide(&pool, "bob").await;
    let (rust, list) = (world.community("rust"), world.visitors("rust", ""));
    let (elsewhere, bob_elsewhere) = (alice.at(second.url("")), bob.at(second.url("")));
    alice.sees(&rust).await;
    bob.sees(&rust).await;
    bob_elsewhere.sees(&rust).await;
    world.wait_for_views(2).await;
    let id = world.seeded.user("bob").clone();
    let is_nowhere = |told: String| {
        assert!(!told.contains(&id) && !told.contains("\"bob\""), "{told}");
    };
    for (sidecar, asking) in [(&world.sidecar, &alice), (&second, &elsewhere)] {
        eventually(async || asking.json(&list).await["current_visitors"] == 2).await;
        let told = asking.json(&list).await;
        assert_eq!(names(&told), ["alice"]);
        is_nowhere(told_of_rust(sidecar, asking, &list).await);
    }
    redis.kill();
    eventually(async || alice.json(&list).await["stale"] == true).await;
    is_nowhere(told_of_rust(&world.sidecar, &alice, &list).await);
    is_nowhere(told_of_rust(&second, &elsewhere, &list).await);
    let third = world.another_sidecar(&wanted);
    is_nowhere(told_of_rust(&third, &alice.at(third.url("")), &list).await);
    pool.close().await;
}
