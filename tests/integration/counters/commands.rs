//! What operators see of counters that cannot be kept: refusals with place and cure, rights, `check`.

use headcount::store;
use sqlx::{AssertSqlSafe, Executor as _};

use super::{HELD, ON, by_the_analysis, by_the_columns, command, parsed};
use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::process;
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::sidecar::{self, Sidecar};
use crate::support::world::{Parts, Wanted, World};

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
            let told = process::run(&[command, "--config", path], &[]);
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
    let told = process::run(&["migrate", "--config", path.to_str().expect("UTF-8")], &[]);
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
async fn k8_k12_k20_k23_a_role_with_the_printed_rights_keeps_counters_and_each_that_is_missing_is_named() {
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
    let told = process::run(
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
    two_are_named_together(&world, &role, &run).await;
    let told = command(&world.sidecar, &["check"]);
    assert_eq!(told.code, Some(0), "{}", told.err);

    are_named_while_it_runs(&mut world, &alice, &role, &run).await;
    pool.close().await;
}

/// Both at once and once each, and nothing that is not lacking.
async fn two_are_named_together(world: &World, role: &str, run: &impl AsyncFn(String)) {
    let rights = [
        r#"UPDATE ("page_views") ON TABLE "public"."communities_community""#,
        "UPDATE ON TABLE headcount.counter_lease",
    ];
    for right in rights {
        run(format!("REVOKE {right} FROM {role}")).await;
    }
    for what in ["verify", "repair"] {
        let told = command(&world.sidecar, &["counters", what]);
        assert_eq!((told.code, &*told.out), (Some(64), ""), "{what}: {}", told.err);
        let lines = told.err.lines().filter(|line| line.starts_with("GRANT "));
        let cures = rights.map(|right| format!(r#"GRANT {right} TO "{role}";"#));
        assert_eq!(lines.collect::<Vec<_>>(), cures, "{what}: {}", told.err);
    }
    for right in rights {
        run(format!("GRANT {right} TO {role}")).await;
    }
}

/// With the first write that fails, with the first batch that cannot be counted, and where the sidecar starts again, or takes
/// over.
async fn are_named_while_it_runs(world: &mut World, alice: &Member, role: &str, run: &impl AsyncFn(String)) {
    let mut given_later = String::new();
    for (privilege, table) in [
        (r#"UPDATE ("page_views")"#, r#""public"."communities_community""#),
        ("INSERT", "headcount.counter_delta"),
    ] {
        world.sidecar.wait_until_idle().await;
        let before = world.sidecar.count("headcount_applied_views_total").await;
        run(format!("REVOKE {privilege} ON {table} FROM {role}")).await;
        alice.sees(&world.community("rust")).await;
        // Written without the right: that it is missing is known before, where the tables are looked at in between.
        world.wait_for_views(before + 1).await;
        let cure = format!(r#"GRANT {privilege} ON TABLE {table} TO "{role}""#);
        eventually(async || world.sidecar.log().contains(&cure)).await;
        is_degraded(world, &cure).await;
        if table == "headcount.counter_delta" {
            given_later = cure;
        } else {
            another_keeps_the_counters(world, alice, role).await;
            run(cure).await;
        }
    }
    // One that starts serves, and says so.
    run(format!(
        "REVOKE UPDATE (page_views) ON communities_community FROM {role}"
    ))
    .await;
    world.sidecar.kill();
    run(given_later).await;
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
    // What was written without the right to note it is counted, too, by a process that knows nothing of that.
    eventually(async || {
        let (_, page_views) = by_the_analysis(world, "rust").await;
        by_the_columns(world, "rust").await["page_views"] == page_views
    })
    .await;
    world.sidecar.says("the counters have the page views again");
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
