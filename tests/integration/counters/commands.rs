//! What operators see: refusals with place and cure, rights, `check`, and the commands without a sidecar.

use headcount::store;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{HELD, ON, by_the_columns, command, execute, parsed, start, text, wanted};
use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::{self, eventually};
use crate::support::service::free_port;
use crate::support::sidecar::{self, Process, Sidecar};
use crate::support::world::{Parts, Wanted, World, any_prefix};

#[tokio::test]
async fn k8_a_column_that_cannot_be_written_is_refused_with_place_and_cure() {
    let wanted = Wanted {
        config: format!("{ON}page_views = \"slug\"\n"),
        ..Wanted::new(Parts::Production, Variant::Counters)
    };
    let (database, _) = Database::seeded(wanted.parts, wanted.variant).await;
    let site = Backend::start(wanted.variant, &database.url(), Settings::default());
    let (port, admin) = (free_port(), free_port());
    let listen = format!("[listen]\nhttp = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\n");
    let config = format!("{}\n{listen}", wanted.configuration(&site, &database));
    let place = |key: &str| {
        let line = config.lines().position(|line| line.starts_with(key));
        format!("headcount.toml:{}: counters.", line.expect("the key") + 1)
    };
    let told_of = |config: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = sidecar::write_config(directory.path(), config, "");
        let path = path.to_str().expect("UTF-8");
        ["run", "check"].map(|command| {
            let told = sidecar::run(&[command, "--config", path], &[]);
            assert_eq!(told.code, Some(64), "{command}: {}{}", told.out, told.err);
            told.err
        })
    };
    for said in told_of(&config) {
        assert!(
            said.contains(&format!("{}page_views", place("page_views"))),
            "{said}"
        );
        let cure = "is of type character varying(100) where an integer is needed: name a column of that type";
        assert!(said.contains(cure), "{said}");
    }

    for said in told_of(&config.replace("page_views = \"slug\"", "page_views = \"id\"")) {
        assert!(
            said.contains("is a key of communities, which a count would overwrite"),
            "{said}"
        );
    }

    let pool = Postgres::shared().pool(database.name());
    let sql = "ALTER TABLE communities_community ALTER total_visitors DROP DEFAULT";
    pool.execute(AssertSqlSafe(sql))
        .await
        .expect("the app's statement");
    let config = config.replace("page_views = \"slug\"\n", "");
    for said in told_of(&config) {
        assert!(
            said.contains(&format!("{}total_visitors", place("[counters]"))),
            "{said}"
        );
        let cure =
            "ALTER TABLE \"public\".\"communities_community\" ALTER COLUMN \"total_visitors\" SET DEFAULT 0";
        assert!(said.contains(cure), "{said}");
    }
    let sql = "ALTER TABLE communities_community ALTER total_visitors SET DEFAULT 0, DROP page_views";
    pool.execute(AssertSqlSafe(sql))
        .await
        .expect("the app's statement");
    for said in told_of(&config) {
        assert!(
            said.contains("has no column \"page_views\": run headcount migrate"),
            "{said}"
        );
    }
    // A view takes no columns.
    let view = "CREATE VIEW shown_community AS SELECT id, slug, name FROM communities_community";
    pool.execute(view).await.expect("the statement");
    let of_view = format!("{config}\n[schema.community]\ntable = \"shown_community\"\n");
    for said in told_of(&of_view) {
        assert!(
            said.contains("is a view, to which headcount migrate can add no column"),
            "{said}"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = sidecar::write_config(directory.path(), &of_view, "");
    let told = sidecar::run(&["migrate", "--config", path.to_str().expect("UTF-8")], &[]);
    assert!(
        told.code == Some(1)
            && told
                .err
                .contains("shown_community\", which is a view, to which none can be added"),
        "{told:?}"
    );
    let sql = "DROP TABLE headcount.counter";
    pool.execute(AssertSqlSafe(sql)).await.expect("the statement");
    for said in told_of(&config) {
        assert!(
            said.contains("tables of counters are missing: run headcount migrate"),
            "{said}"
        );
    }
    pool.close().await;
}

#[tokio::test]
async fn k8_k12_k20_a_role_with_the_printed_rights_keeps_counters_and_each_that_is_missing_is_named() {
    let wanted = Wanted {
        config: ON.into(),
        ..Wanted::new(Parts::Production, Variant::Counters)
    };
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let site = Backend::start(wanted.variant, &database.url(), Settings::default());
    let config = wanted.configuration(&site, &database);
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let role = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
    let pool = Postgres::shared().pool(database.name());
    let run = async |sql: String| {
        let done = pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.clone()))).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    run(format!(
        "CREATE ROLE {role} LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC"
    ))
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let path = sidecar::write_config(directory.path(), &config, "");
    let told = sidecar::run(
        &[
            "grants",
            "--role",
            &role,
            "--config",
            path.to_str().expect("UTF-8"),
        ],
        &[],
    );
    assert_eq!(told.code, Some(0), "{}", told.err);
    run(told.out.clone()).await;

    let config = config.replace("postgres://postgres@", &format!("postgres://{role}@"));
    let mut world = World {
        sidecar: Sidecar::start(&config),
        site,
        database,
        seeded,
    };
    let alice = world.member("alice").await;
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    eventually(async || by_the_columns(&world, "rust").await["page_views"] == 1).await;
    let told = command(&world.sidecar, &["counters", "repair"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    for (privilege, table) in [
        (
            r#"UPDATE ("total_visitors")"#,
            r#""public"."communities_community""#,
        ),
        (
            r#"SELECT ("current_visitors")"#,
            r#""public"."communities_community""#,
        ),
        ("UPDATE", "headcount.counter"),
        ("INSERT", "headcount.counter_visitor"),
        ("INSERT", "headcount.counter_delta"),
        ("UPDATE", "headcount.counter_lease"),
    ] {
        run(format!("REVOKE {privilege} ON {table} FROM {role}")).await;
        let told = command(&world.sidecar, &["check"]);
        assert_eq!(told.code, Some(64), "{privilege}: {}", told.out);
        let cure = format!(r#"GRANT {privilege} ON TABLE {table} TO "{role}""#);
        assert!(told.err.contains(&cure), "{cure}: {}", told.err);
        // Neither says that all is well, where it has read or written nothing.
        for what in ["verify", "repair"] {
            let told = command(&world.sidecar, &["counters", what]);
            assert_eq!((told.code, &*told.out), (Some(64), ""), "{what}: {}", told.err);
            assert!(told.err.contains(&cure), "{cure}: {}", told.err);
        }
        run(cure).await;
    }
    let told = command(&world.sidecar, &["check"]);
    assert_eq!(told.code, Some(0), "{}", told.err);

    are_named_while_it_runs(&mut world, &alice, &role, &run).await;
    pool.close().await;
}

/// With the first write that fails, with the first batch that cannot be counted, and where the sidecar starts again, or takes
/// over.
async fn are_named_while_it_runs(world: &mut World, alice: &Member, role: &str, run: &impl AsyncFn(String)) {
    for (privilege, table) in [
        (r#"UPDATE ("page_views")"#, r#""public"."communities_community""#),
        ("INSERT", "headcount.counter_delta"),
    ] {
        run(format!("REVOKE {privilege} ON {table} FROM {role}")).await;
        alice.sees(&world.community("rust")).await;
        let cure = format!(r#"GRANT {privilege} ON TABLE {table} TO "{role}""#);
        eventually(async || world.sidecar.log().contains(&cure)).await;
        is_degraded(world, &cure).await;
        if table != "headcount.counter_delta" {
            another_keeps_the_counters(world, alice, role).await;
        }
        run(cure).await;
    }
    // One that starts serves, and says so.
    run(format!(
        "REVOKE UPDATE (page_views) ON communities_community FROM {role}"
    ))
    .await;
    world.sidecar.kill();
    world.sidecar.restart();
    let cure =
        format!(r#"GRANT UPDATE ("page_views") ON TABLE "public"."communities_community" TO "{role}""#);
    is_degraded(world, &cure).await;
    let told = world.sidecar.says("counters cannot be written");
    assert!(told.contains("ERROR"), "{told}");
    // So does one that takes over.
    let mut old = world.sidecar.hand_over();
    assert_eq!(old.wait_for_end(), Some(0));
    is_degraded(world, &cure).await;
    let before = by_the_columns(world, "rust").await["page_views"].clone();
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    run(cure).await;
    eventually(async || by_the_columns(world, "rust").await["page_views"] != before).await;
}

async fn is_degraded(world: &World, cure: &str) {
    eventually(async || {
        let ready = reqwest::get(world.sidecar.admin_url("/readyz")).await;
        let ready = ready.expect("an answer").text().await.expect("a text");
        ready.contains("degraded") && ready.contains(cure)
    })
    .await;
}

/// The sidecar whose role lacks a right leaves the lease to one whose role has it, and reports no write.
async fn another_keeps_the_counters(world: &World, alice: &Member, role: &str) {
    const LAST: &str = "headcount_counters_last_write_timestamp_seconds";
    world.sidecar.wait_for_metric(HELD, |held| held == 0.0).await;
    let stands = world.sidecar.metric(LAST).await;
    let config = std::fs::read_to_string(world.sidecar.config()).expect("a configuration");
    let config = config.replace(&format!("postgres://{role}@"), "postgres://postgres@");
    let config = config.split("[listen]").next().expect("what is before it");
    let mut proper = Sidecar::start(config);
    proper.wait_for_metric(HELD, |held| held == 1.0).await;
    let before = by_the_columns(world, "rust").await["page_views"].clone();
    alice.sees(&world.community("rust")).await;
    eventually(async || by_the_columns(world, "rust").await["page_views"] != before).await;
    let metrics = world.sidecar.metrics().await;
    assert_eq!((metrics[HELD], metrics[LAST]), (0.0, stands));
    proper.signal("TERM");
    assert_eq!(proper.wait_for_end(), Some(0));
}

/// However long `counters.interval` is: as long as that after the last write.
#[tokio::test]
async fn k5_repair_waits_for_the_whole_interval() {
    let mut world = start(Wanted {
        config: format!("{ON}interval = \"30s\"\n"),
        ..wanted()
    })
    .await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    execute(
        &world,
        "UPDATE communities_community SET page_views = 50 WHERE id = 42;
         UPDATE headcount.counter_lease SET round_at = now() - interval '22 s'",
    )
    .await;
    let told = command(&world.sidecar, &["counters", "repair", "--community", "42"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(
        told.out.contains("were written less than counters.interval ago"),
        "{}",
        told.out
    );
    assert_eq!(by_the_columns(&world, "rust").await["page_views"], 0);
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
