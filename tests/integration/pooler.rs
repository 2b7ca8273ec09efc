//! The database behind a pooler: everything but what needs a connection of its own works as it does without.

use std::fs;
use std::net::TcpListener;

use headcount::config::{Config, Revocation, Secret};
use headcount::store::{MigrateError, migrate, session_listener};

use crate::store_site::{Site, Variant};
use crate::support::backend;
use crate::support::database::Database;
use crate::support::examined;
use crate::support::member::Member;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::process;
use crate::support::sidecar;
use crate::support::world::{Parts, Wanted, any_prefix};

/// Members of two sidecars that share the pooler's few connections: views, sessions, presence, numbers.
async fn the_main_job_is_done(mode: &str, pool_size: u16) {
    let pooler = PgBouncer::start(Postgres::shared().port(), mode, pool_size);
    let wanted = Wanted {
        database_port: Some(pooler.port()),
        key_prefix: Some(any_prefix()),
        session: "cache_ttl = \"10ms\"\n".into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let other = world.another_sidecar(&wanted);
    let alice = world.member("alice").await;
    let bob = world.member("bob").await;
    let through_other = bob.at(other.url(""));
    let (rust, django) = (world.community("rust"), world.community("django"));
    let looks = async |member: &Member| {
        for _ in 0..10 {
            member.sees(&rust).await;
            member.sees("/c/django/").await;
            assert_eq!(
                member.json(&world.visitors("rust", "/stats?days=30")).await["ended_sessions"],
                0
            );
        }
    };
    tokio::join!(looks(&alice), looks(&bob), looks(&through_other));
    bob.sees(&django).await;

    other.wait_until_idle().await;
    world.sidecar.wait_until_idle().await;
    assert_eq!(world.page_views().await.len(), 61, "{mode}");
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 2);
    let mut names: Vec<_> = list["visitors"].as_array().expect("a list").iter().collect();
    names.sort_by_key(|visitor| visitor["username"].to_string());
    assert_eq!([&names[0]["username"], &names[1]["username"]], ["alice", "bob"]);
    assert_eq!(names[0]["pages_visited"], 20);
    // Another window: answers are remembered for a while.
    let stats = alice.json(&world.visitors("rust", "/stats?days=29")).await;
    assert_eq!(
        (&stats["total_visitors"], &stats["page_views"]),
        (&2.into(), &30.into())
    );
    for sidecar in [&world.sidecar, &other] {
        assert_eq!(sidecar.metric("headcount_database_up").await, 1.0);
        let log = sidecar.log();
        for trouble in ["ERROR", "prepared statement", "startup parameter"] {
            assert!(!log.contains(trouble), "{mode}: {log}");
        }
    }
}

#[tokio::test]
async fn w13_behind_a_pooler_that_lends_by_the_session_nothing_is_missing() {
    the_main_job_is_done("session", 40).await;
}

#[tokio::test]
async fn w13_behind_a_pooler_that_lends_by_the_transaction_nothing_is_missing() {
    the_main_job_is_done("transaction", 3).await;
}

/// A site's configuration with its database behind a pooler; the pooler goes with what is returned.
async fn behind(mode: &str, pool_size: u16) -> (Site, Config, PgBouncer) {
    let site = Site::unmigrated(Variant::PostgresDefault).await;
    let pooler = PgBouncer::start(Postgres::shared().port(), mode, pool_size);
    let mut config = site.config.clone();
    let url = config.database.url.take().expect("a URL");
    let (_, name) = url.expose().rsplit_once('/').expect("a name");
    config.database.url = Some(Secret::new(pooler.url(name)));
    config.database.direct_url = None;
    config.session.revocation = Revocation::Trigger;
    (site, config, pooler)
}

/// A lock and settings that are another's a moment later protect nothing.
#[tokio::test]
async fn w13_what_needs_a_connection_of_its_own_says_so_and_takes_the_direct_url() {
    let (site, mut config, _pooler) = behind("transaction", 2).await;
    for dry_run in [true, false] {
        let error = migrate(&config, dry_run).await.expect_err("it is refused");
        assert!(matches!(error, MigrateError::Pooler), "{error:?}");
        assert!(error.to_string().contains("set database.direct_url"), "{error}");
    }
    let mut listener = session_listener(&config)
        .expect("a listener")
        .expect("a listener");
    let error = listener.connect().await.expect_err("it is refused");
    assert!(
        error.chain().contains("set database.direct_url"),
        "{}",
        error.chain()
    );
    let said = examined::notes(&config).await.expect("an answer").concat();
    assert!(
        said.contains("`headcount migrate` and session.revocation"),
        "{said}"
    );

    config.database.direct_url = site.config.database.url.clone();
    migrate(&config, false).await.expect("it is migrated");
    let mut listener = session_listener(&config)
        .expect("a listener")
        .expect("a listener");
    assert!(
        listener.connect().await.expect("it listens"),
        "the trigger is there"
    );
    assert_eq!(
        examined::notes(&config).await.expect("an answer"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn w13_by_the_session_everything_is_done_through_the_pooler() {
    let (_site, config, _pooler) = behind("session", 5).await;
    migrate(&config, false).await.expect("it is migrated");
    let mut listener = session_listener(&config)
        .expect("a listener")
        .expect("a listener");
    assert!(listener.connect().await.expect("it listens"));
    assert_eq!(
        examined::notes(&config).await.expect("an answer"),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn w13_check_tells_of_the_pooler_and_finds_nothing_else() {
    let (database, _) = Database::seeded(Parts::Production, backend::Variant::Default).await;
    let pooler = PgBouncer::start(Postgres::shared().port(), "transaction", 3);
    let directory = tempfile::tempdir().expect("a directory");
    let direct = directory.path().join("direct");
    fs::write(&direct, database.url()).expect("a file");
    let app = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = app.local_addr().expect("an address");
    let check = |more: &str| {
        let config = format!(
            "[upstream]\nservers = [\"{address}\"]\n[database]\nurl = \"{}\"\n{more}",
            database.url_through(pooler.port())
        );
        let config = sidecar::write_config(directory.path(), &config, "");
        process::run(&["check", "--config", config.to_str().expect("UTF-8")], &[])
    };
    let told = check("");
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert!(
        told.out.contains("\nnote: database.url leads to a pooler"),
        "{}",
        told.out
    );
    let told = check("direct_url_file = \"direct\"\n");
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert!(!told.out.contains("note"), "{}", told.out);
}
