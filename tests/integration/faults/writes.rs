//! The database refuses rows, is busy, read-only, or dies: what can be written is, once.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use super::{Fragile, Made, NEVER, all_dropped};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::world::{Wanted, World};

/// Batches are closed by count only.
fn batches_of(views: usize) -> Wanted {
    Wanted {
        batch_age: NEVER,
        record: format!("batch_views = {views}"),
        session: format!("cache_ttl = \"{NEVER}\""),
        ..Wanted::usual()
    }
}

async fn wait_for_retries(world: &World, class: &str) {
    let name = format!("headcount_apply_retries_total{{class=\"{class}\"}}");
    world
        .sidecar
        .wait_for_metric(&name, |retries| retries > 0.0)
        .await;
}

async fn execute(pool: &PgPool, sql: impl Into<String>) {
    pool.execute(AssertSqlSafe(sql.into())).await.expect("it is done");
}

#[tokio::test]
async fn w1_a_view_of_a_user_deleted_meanwhile_is_one_dead_letter() {
    let world = batches_of(6).start().await;
    let community = world.community("rust");
    let (alice, bob, dave) = (
        world.member("alice").await,
        world.member("bob").await,
        world.member("dave").await,
    );
    // Known from here on: looked up late, after the deletion, the view would be nobody's.
    dave.get(&world.visitors("rust", "")).await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community, "/about/"]).await;
    dave.sees(&community).await;
    made.sees("bob", &bob, &[&community, "/about/"]).await;
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 5.0)
        .await;
    world.site.tell("delete-user", &json!({"username": "dave"})).await;
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(&world).await;
    let letters = "headcount_dead_letters";
    world
        .sidecar
        .wait_for_metric(letters, |letters| letters == 1.0)
        .await;
    assert_eq!(all_dropped(&world).await, 0.0);
    let sessions = world.site.ask("oracle/sessions").await;
    let pages = |name: &str| {
        let mut sessions = sessions.as_array().unwrap().iter();
        sessions.find(|session| session["username"] == name).unwrap()["pages_visited"].clone()
    };
    assert_eq!([pages("alice"), pages("bob")], [3, 2]);
}

#[tokio::test]
async fn w7_a_locked_table_makes_the_batch_wait_and_it_lands_once() {
    let world = Wanted {
        database: "lock_timeout = \"50ms\"".into(),
        ..Wanted::usual()
    };
    let world = world.start().await;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    let pool = Postgres::shared().pool(world.database.name());
    let up = "headcount_database_up";
    world.sidecar.wait_for_metric(up, |up| up == 1.0).await;
    let mut transaction = pool.begin().await.unwrap();
    let lock = "LOCK TABLE accounts_userevent IN ACCESS EXCLUSIVE MODE";
    transaction.execute(lock).await.unwrap();
    made.sees("alice", &alice, &[&world.community("rust"), "/about/"])
        .await;
    wait_for_retries(&world, "contention").await;
    // Busy, it does answer.
    assert_eq!(world.sidecar.metric(up).await, 1.0);
    transaction.rollback().await.unwrap();
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
}

#[tokio::test]
async fn w9_a_read_only_database_makes_the_batch_wait_and_it_lands_once() {
    let world = Wanted::usual().start().await;
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(&world).await;

    let name = world.database.name();
    let admin = Postgres::shared().pool("postgres");
    execute(
        &admin,
        format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
    )
    .await;
    // As in a failover: connections break, and those made from now on are read-only.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headcount'";
    execute(&admin, format!("{end} AND datname = '{name}'")).await;
    made.sees("alice", &alice, &[&community, "/about/"]).await;
    wait_for_retries(&world, "read_only").await;
    execute(
        &admin,
        format!("ALTER DATABASE {name} RESET default_transaction_read_only"),
    )
    .await;
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
}

#[tokio::test]
async fn views_queued_before_postgres_was_killed_are_written_once_after_it_was_started_again() {
    let mut server = Postgres::start();
    let database = Database::seeded_on(&server, Variant::Default).await;
    let world = batches_of(4).start_on(database);
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community, "/about/", &community, "/about/"])
        .await;
    made.are_recorded(&world).await;
    made.sees("alice", &alice, &[&community, "/about/"]).await;

    server.kill();
    world.stranger().sees("/about/").await;
    world.stranger().sees("/healthz").await;
    server.start_again();
    made.sees("alice", &alice, &[&community, "/about/"]).await;
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
}

/// The server does not learn that the network is gone: it would keep the transaction, and the locks on what it has
/// changed, until somebody tells it.
#[tokio::test]
async fn a_batch_that_is_cut_off_in_the_middle_holds_up_the_site_no_longer() {
    let wanted = Wanted {
        database: format!("lock_timeout = \"{NEVER}\"\nstatement_timeout = \"{NEVER}\""),
        ..Wanted::usual()
    };
    let fragile = Fragile::start(wanted).await;
    let world = &fragile.world;
    let pool = Postgres::shared().pool(world.database.name());
    let alice = world.member("alice").await;
    let mut made = Made::default();

    // Its last statements have to wait here; the session's row is the batch's by then.
    let mut profiles = pool.begin().await.unwrap();
    let lock = "SELECT 1 FROM accounts_userprofile FOR NO KEY UPDATE";
    profiles.execute(lock).await.unwrap();
    made.sees("alice", &alice, &["/about/"]).await;
    eventually(async || {
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'headcount' AND wait_event_type = 'Lock')";
        sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap()
    })
    .await;
    fragile.database.hang();
    profiles.rollback().await.unwrap();
    alice.sign_out().await;

    fragile.database.resume().await;
    made.are_recorded(world).await;
    assert_eq!(all_dropped(world).await, 0.0);
}

/// As when nobody made next month's partition in time.
#[tokio::test]
async fn w15_without_a_partition_for_now_views_wait_and_it_is_said_once() {
    let world = Wanted::usual().start().await;
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let site = Postgres::shared().pool(world.database.name());
    execute(
        &site,
        "ALTER TABLE accounts_userevent RENAME TO events_before;
         CREATE TABLE accounts_userevent (LIKE events_before INCLUDING DEFAULTS) PARTITION BY RANGE (timestamp);
         CREATE SEQUENCE event_ids;
         ALTER TABLE accounts_userevent ALTER id SET DEFAULT nextval('event_ids');
         CREATE TABLE event_past PARTITION OF accounts_userevent FOR VALUES FROM ('2000-01-01') TO ('2001-01-01')",
    )
    .await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community, "/about/", &community])
        .await;
    let retries = "headcount_apply_retries_total{class=\"other\"}";
    world
        .sidecar
        .wait_for_metric(retries, |retries| retries >= 3.0)
        .await;
    let told = "make the partition, or a DEFAULT one";
    let log = world.sidecar.says(told);
    assert_eq!(log.matches(told).count(), 1, "{log}");
    assert_eq!(world.sidecar.metric("headcount_dead_letters").await, 0.0);

    execute(
        &site,
        "CREATE TABLE event_now PARTITION OF accounts_userevent DEFAULT",
    )
    .await;
    made.are_recorded(&world).await;
    assert_eq!(all_dropped(&world).await, 0.0);
    assert_eq!(
        world.sidecar.metric("headcount_dead_letters_made_total").await,
        0.0
    );
}
