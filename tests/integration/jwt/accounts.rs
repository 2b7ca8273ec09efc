//! Accounts and profiles: JWTs that name the account where sessions name the profile, and accounts that are disabled.

use sqlx::AssertSqlSafe;

use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::jwt::{Pair, key_file, records_the_feed, status, world};
use crate::support::live::Socket;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::world::{Parts, Wanted, World};

/// As simplejwt comes: its JWTs name the account, whose key is another than that of the profile.
#[tokio::test]
async fn i31_a_jwt_that_names_the_account_is_its_profiles_user() {
    let (_folder, key) = key_file();
    let wanted = Wanted {
        config: format!(
            "[session.jwt]\nalgorithms = [\"HS256\"]\nkey_file = \"{}\"\n\
             [schema.profile.columns]\njwt_account = \"user_id\"\n",
            key.display()
        ),
        ..Wanted::new(Parts::Production, Variant::Uuid)
    };
    let world = wanted.start().await;
    records_the_feed(&world.sidecar).await;
    let alice = Pair::of(&world, "alice").await;
    assert_ne!(alice.claims()["user_id"].to_string(), world.seeded.user("alice"));
    let (app, bob) = (world.stranger(), world.member("bob").await);
    let feed = format!("/api/feed/{}/", world.seeded.community("rust"));
    assert_eq!(status(&app, &feed, &alice.access).await, 200);
    let views = world.wait_for_views(1).await;
    assert_eq!(views[0]["username"], "alice");
    // Sessions name the profile all the same.
    let list = bob.json(&world.visitors("rust", "")).await;
    assert_eq!(list["visitors"][0]["username"], "alice", "{list}");
    assert_eq!(
        list["visitors"][0]["user_id"],
        world.seeded.user("alice"),
        "{list}"
    );
    assert_eq!(
        status(&app, &world.visitors("rust", "/count"), &alice.access).await,
        200
    );
}

async fn disables(database: &Database, name: &str) {
    let pool = Postgres::shared().pool(database.name());
    let sql = format!("UPDATE auth_user SET is_active = false WHERE username = '{name}'");
    let done = sqlx::query(AssertSqlSafe(sql)).execute(&pool).await;
    assert_eq!(done.expect("the site's statement runs").rows_affected(), 1);
    pool.close().await;
}

async fn told(world: &World, member: &Member) -> u16 {
    let count = world.visitors("rust", "/count");
    member.get(&count).await.status().as_u16()
}

/// Django keeps the sessions of such an account, and lets nobody in by them.
#[tokio::test]
async fn i32_whose_account_is_disabled_is_nobody_within_the_time_of_the_cache() {
    let wanted = Wanted {
        config: "[schema.profile.columns]\n\
                 is_active = { table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"is_active\" }\n"
            .into(),
        session: "cache_ttl = \"1s\"".into(),
        ..Wanted::usual()
    };
    let (world, _folder) = world(wanted, "").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let (app, pair) = (world.stranger(), Pair::of(&world, "alice").await);
    let count = world.visitors("rust", "/count");
    for member in [&alice, &bob] {
        assert_eq!(told(&world, member).await, 200);
    }
    assert_eq!(status(&app, &count, &pair.access).await, 200);
    let mut socket = Socket::open(&world.sidecar, &world.visitors("rust", "/live"), &alice).await;
    disables(&world.database, "alice").await;
    eventually(async || told(&world, &alice).await == 401).await;
    eventually(async || status(&app, &count, &pair.access).await == 401).await;
    assert_eq!(socket.close_code().await, 4401);
    assert_eq!(told(&world, &bob).await, 200);
    let page = alice.navigation("/about/").send().await;
    page.expect("an answer");
    let disabled = "headcount_page_views_not_counted_total{reason=\"account_disabled\"}";
    world
        .sidecar
        .wait_for_metric(disabled, |views| views == 1.0)
        .await;
}
