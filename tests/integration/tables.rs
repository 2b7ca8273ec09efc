//! The app's tables as they are, end to end: page views in a table of our own, names beside the profiles, and writes that
//! the tables do not take.

use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::process::run;
use crate::support::redis::eventually;
use crate::support::world::{Parts, Wanted, World};

async fn execute(pool: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await;
    done.expect("the app's statement runs");
}

async fn readyz(world: &World) -> String {
    let answer = reqwest::get(world.sidecar.admin_url("/readyz")).await;
    answer.expect("an answer").text().await.expect("text")
}

async fn readyz_says(world: &World, line: &str) {
    eventually(async || readyz(world).await.contains(line)).await;
}

/// Views wait for the table that `headcount migrate` makes; the site and its lists do not.
async fn our_own_table_is_all_that_is_written(wanted: &Wanted, world: World) {
    let alice = world.member("alice").await;
    let rust = world.community("rust");
    alice.sees(&rust).await;
    alice.sees(&rust).await;
    readyz_says(&world, "run headcount migrate").await;
    assert!(
        !readyz(&world).await.contains("not available"),
        "{}",
        readyz(&world).await
    );
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 1);
    let expected = match wanted.parts {
        Parts::Production => "ALICE",
        Parts::Embedded => "alice",
    };
    assert_eq!(list["visitors"][0]["username"], expected);

    let told = run(&["migrate", "--config", &world.sidecar.config()], &[]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let of_the_app = world.wait_for_views(2).await;
    assert_eq!(of_the_app, [json!(null); 0], "the app's own table is left alone");
    let stats = alice.json(&world.visitors("rust", "/stats")).await;
    assert_eq!(
        (&stats["page_views"], &stats["total_visitors"]),
        (&json!(2), &json!(1)),
        "{stats}"
    );
    let told = run(&["check", "--config", &world.sidecar.config()], &[]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
}

/// Its partitions, through a pooler that lends connections by the transaction; names from another table.
#[tokio::test]
async fn s25_our_own_table_is_all_that_is_written_behind_a_pooler() {
    let pooler = PgBouncer::start(Postgres::shared().port(), "transaction", 3);
    let (database, seeded) = Database::seeded(Parts::Production, Variant::Default).await;
    let pool = Postgres::shared().pool(database.name());
    execute(
        &pool,
        "CREATE TABLE names AS SELECT id AS account, upper(username) AS name FROM accounts_userprofile;
         ALTER TABLE names ADD PRIMARY KEY (account)",
    )
    .await;
    let wanted = Wanted {
        database_port: Some(pooler.port()),
        database: format!("direct_url = \"{}\"", database.url()),
        record: "events = \"own\"\nown_partitions = \"month\"".into(),
        config: "[schema.profile.columns]\nusername = { table = \"names\", key = \"account\", of = \"id\", column = \"name\" }"
            .into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start_on((database, seeded));
    our_own_table_is_all_that_is_written(&wanted, world).await;
}

#[tokio::test]
async fn s25_our_own_table_is_all_that_is_written_on_sqlite() {
    let wanted = Wanted {
        record: "events = \"own\"".into(),
        ..Wanted::new(Parts::Embedded, Variant::Default)
    };
    let world = wanted.clone().start().await;
    our_own_table_is_all_that_is_written(&wanted, world).await;
}

/// What a publication or a foreign server says is known to no catalogue.
#[tokio::test]
async fn s23_what_can_never_be_written_is_told_with_its_reason_and_holds_up_nothing_else() {
    let world = World::usual().await;
    let pool = Postgres::shared().pool(world.database.name());
    execute(
        &pool,
        "ALTER TABLE accounts_usersession REPLICA IDENTITY NOTHING;
         CREATE PUBLICATION cannot FOR TABLE accounts_usersession",
    )
    .await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    assert_eq!(world.wait_for_views(1).await.len(), 1);
    readyz_says(
        &world,
        "degraded: page views are written, but not pages_visited: cannot update table \"accounts_usersession\"",
    )
    .await;

    // Tried again with a later view: the schema is read again every few seconds while something is left out.
    execute(&pool, "DROP PUBLICATION cannot").await;
    eventually(async || {
        alice.sees(&world.community("rust")).await;
        !readyz(&world).await.contains("page view")
    })
    .await;
    let told = "no update beside page views fails any more";
    let log = world.sidecar.says(told);
    assert_eq!(log.matches(told).count(), 1, "{log}");
}
