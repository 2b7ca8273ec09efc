//! `headcount counters` without a sidecar, and beside one: what is compared, and what `repair` writes when.

use sqlx::Executor as _;

use super::{HELD, ON, by_the_columns, command, execute, start, text, wanted};
use crate::support::postgres::Postgres;
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::redis::{self, eventually};
use crate::support::world::{Wanted, World, any_prefix};

const NONE_DIFFERS_ONE_UNWRITTEN: &str = "0 differ\n1 community has columns that are still to be written";

/// With counters that are written once an hour at most, and whose sidecar has ended.
async fn without_a_sidecar() -> World {
    let mut world = start(Wanted {
        config: format!("{ON}interval = \"1h\"\n"),
        ..wanted()
    })
    .await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    world
}

/// However long `counters.interval` is: as long as that after the last write. What a repair has not written, as it was ended
/// meanwhile, the next one writes.
#[tokio::test]
async fn k5_repair_waits_for_the_whole_interval() {
    const WAITS: &str = "were written less than counters.interval ago: written in ";
    let world = without_a_sidecar().await;
    let written_ago = async |minutes: u32| {
        let sql = format!("UPDATE headcount.counter_lease SET round_at = now() - interval '{minutes} min'");
        execute(&world, &sql).await;
    };
    execute(
        &world,
        "UPDATE communities_community SET page_views = 50 WHERE id = 42",
    )
    .await;
    let repair = ["counters", "repair", "--community", "42"];

    written_ago(30).await;
    let directory = tempfile::tempdir().expect("a folder");
    let config = world.sidecar.directory().join("headcount.toml");
    let config = ["--config", config.to_str().expect("UTF-8")];
    let waiting = Process::start(directory.path(), &[&repair[..], &config].concat(), &[]);
    waiting.says(WAITS);
    waiting.says(" s\n");
    let told = waiting.log();
    let (_, seconds) = told.split_once(WAITS).expect("what was said");
    let seconds = seconds
        .split_once(' ')
        .and_then(|(seconds, _)| seconds.parse().ok());
    assert!(
        seconds.is_some_and(|seconds: u32| (1_700..=1_800).contains(&seconds)),
        "{told}"
    );
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 50);
    drop(waiting);

    written_ago(60).await;
    let told = command(&world.sidecar, &repair);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(
        told.out.contains(NONE_DIFFERS_ONE_UNWRITTEN) && !told.out.contains(WAITS),
        "{}",
        told.out
    );
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 0);
}

#[tokio::test]
async fn k5_repair_writes_what_a_sidecar_that_was_killed_has_not() {
    let wanted = Wanted {
        // Nor does who is there differ.
        config: format!("{ON}interval = \"1h\"\ncurrent_visitors = \"\"\n"),
        ..wanted()
    };
    let mut world = start(wanted.clone()).await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    // The next one's first round comes in an hour.
    execute(&world, "UPDATE headcount.counter_lease SET round_at = now()").await;
    world.sidecar = world.another_sidecar(&wanted);
    world.sidecar.wait_for_metric(HELD, |held| held == 1.0).await;
    let one = ["--community", "42"];
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    // It is counted from here on.
    let told = command(&world.sidecar, &[&["counters", "repair"], &one[..]].concat());
    assert_eq!(told.code, Some(0), "{}", told.err);
    let before = by_the_columns(&world, "rust").await["page_views"].clone();
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(2).await;
    world.sidecar.kill();
    execute(
        &world,
        "UPDATE headcount.counter_lease SET expires_at = now(), round_at = now() - interval '1 hour'",
    )
    .await;
    let told = command(&world.sidecar, &[&["counters", "verify"], &one[..]].concat());
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(told.out.contains(NONE_DIFFERS_ONE_UNWRITTEN), "{}", told.out);
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], before);
    let told = command(&world.sidecar, &[&["counters", "repair"], &one[..]].concat());
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.contains(NONE_DIFFERS_ONE_UNWRITTEN), "{}", told.out);
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 2);
}

#[tokio::test]
async fn k5_k13_without_a_sidecar_repair_writes_by_itself() {
    let mut world = start(wanted()).await;
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    alice.sees(&world.community("django")).await;
    world.wait_for_views(2).await;
    // What is counted is written before the end, and the lease is free then.
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    let columns = by_the_columns(&world, "rust").await;
    assert_eq!(
        (&columns["page_views"], &columns["total_visitors"]),
        (&1.into(), &1.into())
    );

    execute(
        &world,
        "UPDATE communities_community SET page_views = 50 WHERE id IN (42, 43)",
    )
    .await;
    for named in ["42", "0042", "rust"] {
        let told = command(&world.sidecar, &["counters", "verify", "--community", named]);
        assert_eq!(told.code, Some(1), "{named}: {}{}", told.out, told.err);
        assert!(told.out.contains("community 42: page_views 1"), "{}", told.out);
        assert!(told.out.contains("50 and 1 in the app's columns"), "{}", told.out);
    }
    long_ago(&world).await;
    let told = command(&world.sidecar, &["counters", "repair", "--community", "42"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 1);
    assert_eq!(by_the_columns(&world, "django").await["page_views"], 50);
    // One, in the singular; and what it was compared with.
    let compared = "1 community compared, 1 differs\nthey were compared with the events in the database: page views that \
                    wait in the spool of a sidecar are not yet among these\n";
    assert!(told.out.contains(compared), "{}", told.out);
    long_ago(&world).await;
    let told = command(&world.sidecar, &["counters", "repair"]);
    assert!(told.out.contains("1 differ"), "{}", told.out);
    assert_eq!(by_the_columns(&world, "django").await["page_views"], 1);
    for key in ["999", "no-key"] {
        let told = command(&world.sidecar, &["counters", "repair", "--community", key]);
        assert_eq!(told.code, Some(64), "{}", told.err);
        assert!(
            told.err
                .contains(&format!("no community with the key {key}, nor with that slug")),
            "{}",
            told.err
        );
    }
}

/// Without a sidecar, which would write it as soon as the app has given it up.
#[tokio::test]
async fn k3_k5_repair_fails_where_the_app_has_locked_a_row() {
    let world = without_a_sidecar().await;
    let spoil = "UPDATE communities_community SET page_views = 50 WHERE id IN (42, 43)";
    execute(&world, spoil).await;
    long_ago(&world).await;
    let pool = Postgres::shared().pool(world.database.name());
    let mut app = pool.begin().await.expect("a transaction");
    app.execute("SELECT 1 FROM communities_community WHERE id = 42 FOR UPDATE")
        .await
        .expect("locked");
    let repair = ["counters", "repair"];
    let told = command(&world.sidecar, &repair);
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    let locked = "not all columns were written: 1 community is locked by the app; repeat";
    assert!(told.err.contains(locked), "{}", told.err);
    assert_eq!(by_the_columns(&world, "django").await["page_views"], 0);
    app.rollback().await.expect("the lock is given up");
    pool.close().await;
    long_ago(&world).await;
    // Counted already, and one differs of which nothing is to be counted: verify tells of both.
    execute(
        &world,
        "UPDATE communities_community SET current_visitors = 9 WHERE id = 43",
    )
    .await;
    let told = command(&world.sidecar, &["counters", "verify"]);
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    assert!(
        told.out
            .contains("1 differs\n1 community has columns that are still to be written"),
        "{}",
        told.out
    );
    let told = command(&world.sidecar, &repair);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 0);
    assert_eq!(by_the_columns(&world, "django").await["current_visitors"], 0);
}

/// The last write is so long ago that the next need not wait.
async fn long_ago(world: &World) {
    execute(
        world,
        "UPDATE headcount.counter_lease SET round_at = now() - interval '1 hour'",
    )
    .await;
}

/// With a sidecar that runs, and without one, where Redis knows who is there.
#[tokio::test]
async fn k11_k22_current_visitors_that_something_else_overwrote_is_repaired() {
    let redis = Proxy::before(redis::shared().port()).await;
    let prefix = any_prefix();
    let mut world = start(Wanted {
        redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
        key_prefix: Some(prefix.clone()),
        // A test holds up what takes the lease.
        database: "lock_timeout = \"60s\"".into(),
        ..wanted()
    })
    .await;
    world.member("alice").await.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let current = async |world: &World| by_the_columns(world, "rust").await["current_visitors"].as_i64();
    eventually(async || current(&world).await == Some(1)).await;
    let overwrite = "UPDATE communities_community SET current_visitors = 9 WHERE id = 42";
    let found = "community 42: current_visitors 9 in the app's column, 1 there now by Redis";
    let verify = ["counters", "verify"];
    for is_kept in [true, false] {
        if !is_kept {
            world.sidecar.signal("TERM");
            assert_eq!(world.sidecar.wait_for_end(), Some(0));
            long_ago(&world).await;
        }
        let told = command(&world.sidecar, &verify);
        assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
        execute(&world, overwrite).await;
        let told = command(&world.sidecar, &verify);
        assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
        assert!(told.out.contains(found), "{}", told.out);
        let told = command(&world.sidecar, &["counters", "repair", "--community", "rust"]);
        assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
        if is_kept {
            eventually(async || current(&world).await == Some(1)).await;
        }
        assert_eq!(current(&world).await, Some(1));
    }
    who_leaves_before_the_lease_is_taken_is_not_written(&world, &prefix).await;
    execute(&world, overwrite).await;
    redis.refuse().await;
    let told = command(&world.sidecar, &verify);
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    for said in [
        "9 in the app's column, 0 written last",
        "written last: Redis does not",
    ] {
        assert!(told.out.contains(said), "{}", told.out);
    }
    // What is there is not known: what was written last is put back, also if it could not be at first.
    long_ago(&world).await;
    let repair = ["counters", "repair"];
    let pool = Postgres::shared().pool(world.database.name());
    let mut app = pool.begin().await.expect("a transaction");
    app.execute("SELECT FROM communities_community WHERE id = 42 FOR UPDATE")
        .await
        .expect("locked");
    let told = command(&world.sidecar, &repair);
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    app.rollback().await.expect("the lock is given up");
    pool.close().await;
    long_ago(&world).await;
    let told = command(&world.sidecar, &repair);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    assert!(
        told.out.contains("the columns of 1 community have been written"),
        "{}",
        told.out
    );
    assert_eq!(current(&world).await, Some(0));
    let told = command(&world.sidecar, &verify);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}

/// Neither the command nor the sidecar knows who is there then: what was written last stays known, and it is written once they do.
#[tokio::test]
async fn k11_beside_a_sidecar_while_redis_is_away_repair_fails_and_the_sidecar_writes_it_afterwards() {
    let redis = Proxy::before(redis::shared().port()).await;
    let world = start(Wanted {
        redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
        key_prefix: Some(any_prefix()),
        ..wanted()
    })
    .await;
    world.member("alice").await.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let current = async || by_the_columns(&world, "rust").await["current_visitors"].as_i64();
    eventually(async || current().await == Some(1)).await;
    // The first pass, which would find what is overwritten, is over.
    let passed = "headcount_counters_last_reconciliation_timestamp_seconds";
    world.sidecar.wait_for_metric(passed, |at| at > 0.0).await;
    redis.refuse().await;
    let overwrite = "UPDATE communities_community SET current_visitors = 9 WHERE id = 42";
    execute(&world, overwrite).await;
    let [verify, repair] = ["verify", "repair"].map(|what| ["counters", what]);
    for _ in 0..2 {
        let told = command(&world.sidecar, &verify);
        assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
        assert!(
            told.out.contains("9 in the app's column, 1 written last"),
            "{}",
            told.out
        );
        let told = command(&world.sidecar, &repair);
        assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
        assert!(
            told.err.contains("current_visitors is not known (Redis"),
            "{}",
            told.err
        );
        // It stays to be written through the rounds meanwhile.
        let failures = r#"headcount_counters_failures_total{operation="presence"}"#;
        let before = world.sidecar.metric(failures).await;
        world
            .sidecar
            .wait_for_metric(failures, |now| now > before + 1.0)
            .await;
        world
            .sidecar
            .wait_for_metric("headcount_counters_pending", |pending| pending >= 1.0)
            .await;
    }
    redis.resume().await;
    eventually(async || current().await == Some(1)).await;
    eventually(async || command(&world.sidecar, &verify).code == Some(0)).await;
}

/// The lease may be waited for as long as `counters.interval`; here until the test lets it be taken.
async fn who_leaves_before_the_lease_is_taken_is_not_written(world: &World, prefix: &str) {
    long_ago(world).await;
    execute(
        world,
        "UPDATE communities_community SET current_visitors = 9 WHERE id = 42;
         CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
         CREATE TRIGGER held_up BEFORE UPDATE ON headcount.counter_lease EXECUTE FUNCTION wait_for_the_test()",
    )
    .await;
    let pool = Postgres::shared().pool(world.database.name());
    let mut holding_up = pool.begin().await.expect("a transaction");
    holding_up
        .execute("SELECT pg_advisory_xact_lock(7)")
        .await
        .expect("the lock");
    let config = world.sidecar.config();
    let arguments = ["counters", "repair", "--config", &config];
    let mut repair = Process::start(&world.sidecar.folder(), &arguments, &[]);
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                                WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)::text";
    eventually(async || text(world, waits).await == "true").await;
    repair.says("current_visitors 9 in the app's column, 1 there now by Redis");
    let keys: Vec<String> = redis::shared().does(&["KEYS", &format!("{prefix}*")]).await;
    for key in &keys {
        redis::shared().does::<()>(&["DEL", key]).await;
    }
    holding_up.rollback().await.expect("the lock is given up");
    pool.close().await;
    assert_eq!(repair.wait_for_end(), Some(0), "{}", repair.log());
    assert_eq!(by_the_columns(world, "rust").await["current_visitors"], 0);
    execute(world, "DROP FUNCTION wait_for_the_test CASCADE").await;
}
