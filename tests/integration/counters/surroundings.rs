//! Redis away, a pooler, events of our own in partitions, SQLite.

use headcount::store;

use super::{COMMUNITIES, HELD, ON, agree, by_the_columns, command, parsed, start, text, wanted};
use crate::support::backend::Variant;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::redis::{self, eventually};
use crate::support::service::wait_until;
use crate::support::sidecar::{Sidecar, WAITING};
use crate::support::world::{Parts, Wanted, World};

#[tokio::test]
async fn k7_while_redis_is_away_who_is_here_keeps_its_last_value() {
    let redis = Proxy::before(redis::shared().port()).await;
    let world = start(Wanted {
        redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
        ..wanted()
    })
    .await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let rust = world.community("rust");
    alice.sees(&rust).await;
    world.wait_for_views(1).await;
    agree(&world, &alice).await;
    assert_eq!(by_the_columns(&world, "rust").await["current_visitors"], 1);

    redis.refuse().await;
    world
        .sidecar
        .wait_for_metric("headcount_redis_up", |up| up == 0.0)
        .await;
    bob.sees(&rust).await;
    world.wait_for_views(2).await;
    eventually(async || by_the_columns(&world, "rust").await["total_visitors"] == 2).await;
    assert_eq!(by_the_columns(&world, "rust").await["current_visitors"], 1);
    // Which is told.
    world
        .sidecar
        .wait_for_metric(
            r#"headcount_counters_failures_total{operation="presence"}"#,
            |failures| failures > 0.0,
        )
        .await;

    redis.resume().await;
    eventually(async || by_the_columns(&world, "rust").await["current_visitors"] == 2).await;
    agree(&world, &alice).await;
    world
        .sidecar
        .says("the counters of communities are kept up to date again");
}

#[tokio::test]
async fn k1_behind_a_pooler_with_events_of_our_own_in_partitions() {
    let pooler = PgBouncer::start(Postgres::shared().port(), "transaction", 4);
    let wanted = Wanted {
        database_port: Some(pooler.port()),
        record: "events = \"own\"\nown_partitions = \"month\"".into(),
        ..wanted()
    };
    let world = start(wanted.clone()).await;
    let other = world.another_sidecar(&wanted);
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    for member in [&alice, &bob, &bob.at(other.url(""))] {
        member.sees(&world.community("rust")).await;
        member.sees("/c/django/").await;
    }
    world.sidecar.wait_until_idle().await;
    other.wait_until_idle().await;
    for slug in COMMUNITIES {
        eventually(async || {
            let columns = by_the_columns(&world, slug).await;
            columns["page_views"] == 3 && columns["total_visitors"] == 2 && columns["current_visitors"] == 2
        })
        .await;
        let stats = alice.json(&world.visitors(slug, "/stats?days=30")).await;
        assert_eq!(
            (&stats["page_views"], &stats["total_visitors"]),
            (&3.into(), &2.into())
        );
    }
    let told = command(&world.sidecar, &["counters", "verify"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    for sidecar in [&world.sidecar, &other] {
        let log = sidecar.log();
        for trouble in ["ERROR", "WARN", "prepared statement"] {
            assert!(!log.contains(trouble), "{log}");
        }
    }
}

#[tokio::test]
async fn k1_with_sqlite_and_presence_in_memory() {
    let mut world = start(Wanted {
        config: ON.into(),
        ..Wanted::new(Parts::Embedded, Variant::Counters)
    })
    .await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    agree(&world, &alice).await;
    // The command does not know who is in the memory of the sidecar, and says so.
    let told = command(&world.sidecar, &["counters", "verify"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(
        told.out.contains("only the sidecar that runs knows who is there"),
        "{}",
        told.out
    );
    alice.sees(&world.community("django")).await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(3).await;
    world.sidecar.signal("KILL");
    world.sidecar.restart();
    // The lease of the process that is gone has to expire.
    world.sidecar.wait_for_metric(HELD, |held| held == 1.0).await;
    agree(&world, &alice.at(world.sidecar.url(""))).await;
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 2);
}

/// It may never serve, and knows of nobody who is there. Nobody else wants the lease from its start on.
#[tokio::test]
async fn k1_a_process_that_waits_for_the_sockets_of_another_keeps_no_counters() {
    let without = Wanted {
        config: String::new(),
        ..wanted()
    };
    let mut world = without.start().await;
    let config = wanted().configuration(&world.site, &world.database);
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let path = world.sidecar.config();
    let before = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(path, format!("{before}\n{ON}")).expect("a configuration");
    let waiting = world.sidecar.newcomer();
    waiting.says(WAITING);
    never_takes_the_lease(&world, &waiting, 1).await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    never_takes_the_lease(&world, &waiting, 4).await;
    let other = Sidecar::start(&config);
    other.wait_for_metric(HELD, |held| held == 1.0).await;
}

/// Reloads three times, from the `first` of all on. Each asks the database more than taking the lease would.
async fn never_takes_the_lease(world: &World, waiting: &Process, first: usize) {
    let was_never_held = "SELECT (holder IS NULL AND expires_at IS NULL)::text FROM headcount.counter_lease";
    for times in first..first + 3 {
        waiting.signal("HUP");
        let count = || waiting.log().matches("route files loaded").count();
        wait_until("a reload", || count() == times);
        assert_eq!(text(world, was_never_held).await, "true");
    }
}
