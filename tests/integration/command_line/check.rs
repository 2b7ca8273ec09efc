//! `headcount check`: files alone, and against a real Postgres.

use std::net::TcpListener;

use headcount::store;
use sqlx::AssertSqlSafe;

use super::{Folder, IN_ORDER};
use crate::store_site::{self, Site};
use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::postgres::Postgres;
use crate::support::process::Told;
use crate::support::service::free_port;
use crate::support::sidecar::{ROUTES, Sidecar};
use crate::support::world::Parts;

#[test]
fn offline_the_files_alone_are_checked() {
    let folder = Folder::new(IN_ORDER, ROUTES);
    let told = folder.run(&["check", "--offline"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert_eq!(
        told.out,
        format!(
            "{}: the configuration is valid\n{}: 5 routes are valid\nneither the app nor the database was asked\n",
            folder.path("headcount.toml"),
            folder.path("routes.d")
        )
    );
}

#[test]
fn a_route_file_that_is_empty_is_told_where_others_are_not() {
    let folder = Folder::new(IN_ORDER, ROUTES);
    let blank = folder.path("routes.d/blank.toml");
    std::fs::write(&blank, "\n").unwrap();
    let told = folder.run(&["check", "--offline"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    let line = format!("warning: {blank}: the route file is empty: it has no routes\n");
    assert!(told.out.contains(&line), "{}", told.out);
    // A site without routes has an empty one.
    let told = Folder::new(IN_ORDER, "").run(&["check", "--offline"]);
    assert!(told.code == Some(0) && !told.out.contains("warning"), "{told:?}");
}

/// `headcount check` against the site's database after `sql`. Returns what it says of the file.
async fn checked_after(sql: &str) -> Told {
    checked_with(sql, "").await
}

/// The same with more in the configuration.
async fn checked_with(sql: &str, more: &str) -> Told {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let pool = Postgres::shared().pool(database.name());
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&pool)
        .await
        .expect("the tables are changed");
    pool.close().await;
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n{more}\n",
        database.url()
    );
    let folder = Folder::new(&config, ROUTES);
    let mut told = folder.run(&["check"]);
    told.err = told.err.replace(&folder.path("headcount.toml"), "FILE");
    told
}

#[tokio::test]
async fn a_site_as_it_is_needs_nothing() {
    let told = checked_after("").await;
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert!(
        told.out
            .ends_with(
                "\nthe database has the tables that the configuration names\nthe database has the ledger of applied batches\n"
            ),
        "{}",
        told.out
    );
}

#[tokio::test]
async fn servers_of_the_app_that_take_no_connection_are_told() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let app = listener.local_addr().expect("an address");
    let config = format!(
        "[upstream]\nservers = [\"{app}\", \"127.0.0.1:9\", \"unix:/nowhere/app.sock\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    );
    let folder = Folder::new(&config, ROUTES);
    let silent = |server: &str| format!("note: upstream.servers: {server} takes no connection (");
    let told = folder.run(&["check"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    for (server, is_told) in [
        ("127.0.0.1:9", true),
        ("unix:/nowhere/app.sock", true),
        (&*app.to_string(), false),
    ] {
        assert_eq!(
            told.out.contains(&silent(server)),
            is_told,
            "{server}: {}",
            told.out
        );
    }
}

/// As after an upgrade without `headcount migrate`. The routes write no event type of their own.
#[tokio::test]
async fn d25_an_index_that_is_missing_or_of_an_earlier_version_is_named_whatever_routes_write() {
    for variant in [
        store_site::Variant::PostgresDefault,
        store_site::Variant::SqliteDefault,
    ] {
        let site = Site::unmigrated(variant).await;
        store::migrate(&site.config, false).await.expect("it is migrated");
        site.execute(
            "DROP INDEX headcount_event_visitor; DROP INDEX headcount_event_community;
             CREATE INDEX headcount_event_community ON accounts_userevent (user_id)",
        )
        .await;
        let url = site.config.database.url.as_ref().expect("a URL").expose();
        let config = format!("[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{url}\"\n");
        let told = Folder::new(&config, ROUTES).run(&["check"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        let sidecar = Sidecar::start(&config);
        for said in [told.out, sidecar.log()] {
            for fault in [
                "the index headcount_event_visitor is missing",
                "the index headcount_event_community is that of an earlier version, or of other columns",
            ] {
                assert_eq!(said.matches(fault).count(), 1, "{fault}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn each_problem_of_the_schema_is_one_line_with_the_setting_that_cures_it() {
    for (sql, said) in [
        (
            "ALTER TABLE communities_community RENAME TO groups",
            "there is no table communities_community: set schema.community.table to the name of the app's \
             community table",
        ),
        (
            "ALTER TABLE accounts_userevent RENAME user_agent TO agent",
            "table \"public\".\"accounts_userevent\" has no column user_agent: set \
             schema.event.columns.user_agent to the name of the column that holds it",
        ),
        (
            "ALTER TABLE accounts_usersession DROP pages_visited, ADD pages_visited text",
            "column pages_visited of table \"public\".\"accounts_usersession\" is of type text where an \
             integer is needed: set schema.session.columns.pages_visited to a column of that type",
        ),
    ] {
        let told = checked_after(sql).await;
        assert_eq!(told.code, Some(64), "{told:?}");
        assert_eq!(
            told.err,
            format!("headcount: FILE: the database's tables are not as configured:\n  {said}\n")
        );
    }
}

#[tokio::test]
async fn w10_a_column_that_nothing_fills_is_named_with_the_setting_that_fills_it() {
    let told = checked_after(
        "ALTER TABLE accounts_userevent ADD tenant varchar(20) NOT NULL DEFAULT 'x';
         ALTER TABLE accounts_userevent ALTER tenant DROP DEFAULT",
    )
    .await;
    assert_eq!(told.code, Some(64));
    assert!(
        told.err.contains("tenant") && told.err.contains("is NOT NULL"),
        "{}",
        told.err
    );
    assert!(
        told.err.contains("set schema.event.constants.tenant = "),
        "{}",
        told.err
    );
}

#[tokio::test]
async fn i4_a_missing_trigger_is_named_with_both_cures() {
    let told = checked_with("", "[session]\nrevocation = \"trigger\"").await;
    assert_eq!(told.code, Some(64), "{told:?}");
    assert_eq!(
        told.err,
        "headcount: FILE: the database's tables are not as configured:\n  table accounts_usersession has no \
         trigger that notifies of ended sessions, so that sign-outs are noticed within session.cache_ttl only: \
         run headcount migrate, or set session.revocation = \"off\"\n"
    );
}

/// In the words of `migrate`, which alone is refused.
#[tokio::test]
async fn s24_one_table_where_months_are_configured_is_named_by_check_and_start() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let config = |partitions: &str| {
        format!(
            "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n\
             [record]\nevents = \"own\"\nown_partitions = \"{partitions}\"\n",
            database.url()
        )
    };
    let told = Folder::new(&config("none"), ROUTES).run(&["migrate"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let folder = Folder::new(&config("month"), ROUTES);
    let told = folder.run(&["migrate"]);
    let (_, sentence) = told
        .err
        .split_once("headcount.page_view has no partitions")
        .expect("why");
    let sentence = format!("headcount.page_view has no partitions{}", sentence.trim_end());
    let told = folder.run(&["check"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    assert!(
        told.out.contains(&format!("\nwarning: {sentence}\n")),
        "{}",
        told.out
    );
    let sidecar = Sidecar::start(&config("month"));
    let log = sidecar.says("headcount.page_view has no partitions");
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains("has no partitions"))
        .collect();
    assert!(told.len() == 1 && told[0].contains("WARN"), "{log}");
}

#[tokio::test]
async fn all_problems_are_told_at_once() {
    let told = checked_after(
        "ALTER TABLE communities_community RENAME TO groups;
         ALTER TABLE accounts_userevent RENAME user_agent TO agent",
    )
    .await;
    assert_eq!(told.err.lines().count(), 3, "{}", told.err);
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_named_without_its_password() {
    let port = free_port();
    let redis = format!(
        "[record]\nevents = false\n[redis]\nurl = \"redis://:hunter2@127.0.0.1:{port}/0\"\nconnect_timeout = \"300ms\""
    );
    let told = checked_with("SELECT 1", &redis).await;
    let place = format!("redis.url leads to 127.0.0.1:{port}: ");
    assert!(told.out.contains(&place), "{told:?}");
    assert!(!format!("{told:?}").contains("hunter2"));
}

#[test]
fn a_database_that_does_not_answer_ends_with_1_and_shows_no_password() {
    let port = free_port();
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"postgres://app:hunter2@127.0.0.1:{port}/app\"\n"
    );
    let folder = Folder::new(&config, ROUTES);
    for command in [&["check"][..], &["migrate"], &["migrate", "--dry-run"]] {
        let told = folder.run(command);
        assert_eq!(told.code, Some(1), "{told:?}");
        let start = format!("headcount: {}: database: ", folder.path("headcount.toml"));
        assert!(told.err.starts_with(&start), "{}", told.err);
        let place = format!("database.url leads to 127.0.0.1:{port}/app: ");
        assert!(told.err.contains(&place), "{}", told.err);
        assert_eq!(told.err.matches("Connection refused").count(), 1, "{}", told.err);
        assert_eq!(told.err.lines().count(), 1, "{}", told.err);
        assert!(!format!("{told:?}").contains("hunter2"));
    }
}
