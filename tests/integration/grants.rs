//! `headcount grants`: a role with the printed rights and no others does everything, and lacks something as soon as one of
//! them is taken away.

mod complete;
mod journeys;
mod lacking;
mod later;
mod manual;
mod migrating;
mod revoked;

use std::path::Path;

use headcount::config::Config;
use headcount::store;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::examined;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Told};
use crate::support::sidecar::{self, Sidecar};
use crate::support::world::{Parts, Wanted, World};

/// A role of the shared server.
struct Role {
    name: String,
    /// What `grants` prints for it.
    sql: String,
}

impl Role {
    /// Without any right: what everybody may do in a new database is taken from everybody.
    async fn make(database: &Database, config: &str) -> Self {
        let name = format!("sidecar_{}", uuid::Uuid::new_v4().simple());
        execute(
            database,
            &format!(
                "CREATE ROLE {name} LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC;
                 REVOKE ALL ON DATABASE {} FROM PUBLIC",
                database.name()
            ),
        )
        .await;
        let directory = tempfile::tempdir().expect("a directory");
        let told = command(directory.path(), config, &["grants", "--role", &name]);
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        Self { name, sql: told.out }
    }

    /// A configuration of the administrator's, for the role.
    fn uses(&self, config: &str) -> String {
        as_role(config, &self.name)
    }

    /// Each right by itself, as it stands between GRANT or REVOKE and the role.
    fn rights(&self) -> Vec<String> {
        let grants = self.sql.lines().filter_map(|line| line.strip_prefix("GRANT "));
        grants.flat_map(|grant| self.split(grant)).collect()
    }

    /// `SELECT ("a", "b"), INSERT ("c") ON TABLE t` as one right per column.
    fn split(&self, grant: &str) -> Vec<String> {
        let end = format!(" TO \"{}\";", self.name);
        let grant = grant.strip_suffix(&end).expect("for the role");
        let (privileges, object) = grant.split_once(" ON ").expect("an object");
        let mut rights = Vec::new();
        let mut privilege = "";
        for part in privileges.split(", ") {
            let column = match part.split_once(" (") {
                Some((name, column)) => {
                    privilege = name;
                    Some(column)
                }
                None if part.starts_with('"') => Some(part),
                None => None,
            };
            rights.push(match column {
                Some(column) => format!("{privilege} ({}) ON {object}", column.trim_end_matches(')')),
                None => format!("{part} ON {object}"),
            });
        }
        rights
    }
}

/// A configuration of the administrator's, for another role.
fn as_role(config: &str, role: &str) -> String {
    config.replace("postgres://postgres@", &format!("postgres://{role}@"))
}

/// Whether the role of the configuration lacks a right.
async fn lacks(config: &Config) -> bool {
    let (tables, ledger) = (examined::tables(config).await, examined::ledger(config).await);
    !tables.is_ok_and(|problems| problems.is_empty()) || !matches!(ledger, Ok(None))
}

async fn execute(database: &Database, sql: &str) {
    let pool = Postgres::shared().pool(database.name());
    let done = pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pool.close().await;
}

fn command(directory: &Path, config: &str, arguments: &[&str]) -> Told {
    let config = sidecar::write_config(directory, config, "");
    let config = ["--config", config.to_str().expect("UTF-8")];
    process::run(&[arguments, &config].concat(), &[])
}

fn parsed(config: &str) -> Config {
    Config::parse(Path::new("headcount.toml"), config.into(), []).expect("a configuration")
}

#[tokio::test]
async fn d7_a_role_with_the_printed_rights_does_everything() {
    let (database, seeded) = Database::seeded(Parts::Production, Variant::Default).await;
    let site = Backend::start(Variant::Default, &database.url(), Settings::default());
    let wanted = Wanted {
        session: "cache_ttl = \"1h\"\nrevocation = \"trigger\"".into(),
        ..Wanted::usual()
    };
    let config = wanted.configuration(&site, &database);
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let role = Role::make(&database, &config).await;
    execute(&database, &role.sql).await;

    let config = role.uses(&config);
    let directory = tempfile::tempdir().expect("a directory");
    let checked = command(directory.path(), &config, &["check"]);
    assert_eq!((checked.code, &*checked.err), (Some(0), ""));
    let world = World {
        sidecar: Sidecar::start(&config),
        site,
        database,
        seeded,
    };
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    alice.sees(&world.community("rust")).await;
    alice.sees("/c/rust/").await;
    bob.sees(&world.community("rust")).await;
    assert_eq!(world.wait_for_views(3).await.len(), 3);
    let sessions = world.site.ask("oracle/sessions").await;
    let pages = sessions.as_array().expect("a list").iter();
    assert_eq!(
        pages
            .filter_map(|session| session["pages_visited"].as_i64())
            .sum::<i64>(),
        3
    );
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(list["current_visitors"], 2);
    assert_eq!(list["visitors"].as_array().map(Vec::len), Some(2));
    let stats = alice.json(&world.visitors("rust", "/stats")).await;
    assert_eq!(stats["page_views"], 3);

    // The trigger notifies.
    let up = "headcount_session_listener_up";
    world.sidecar.wait_for_metric(up, |up| up == 1.0).await;
    bob.sign_out().await;
    let ended = "headcount_session_evictions_total{reason=\"changed\"}";
    world.sidecar.wait_for_metric(ended, |ended| ended >= 1.0).await;

    // A row that the database refuses.
    execute(
        &world.database,
        "ALTER TABLE accounts_userevent ALTER description TYPE varchar(30)",
    )
    .await;
    alice.sees(&format!("{}posts/1/", world.community("rust"))).await;
    let letters = "headcount_dead_letters";
    world
        .sidecar
        .wait_for_metric(letters, |letters| letters == 1.0)
        .await;
}

#[tokio::test]
async fn d7_each_of_the_printed_rights_is_needed() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Uuid).await;
    let site = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n{}",
        database.url(),
        crate::support::world::UUID_SCHEMA
    );
    let role = Role::make(&database, &site).await;
    let config = parsed(&role.uses(&site));
    execute(&database, &role.sql).await;
    assert!(!lacks(&config).await, "{}", role.sql);
    let rights = role.rights();
    assert!(rights.len() > 20, "{rights:?}");
    for right in rights {
        execute(&database, &format!("REVOKE {right} FROM {}", role.name)).await;
        assert!(lacks(&config).await, "{right} is not needed");
        execute(&database, &format!("GRANT {right} TO {}", role.name)).await;
    }
    assert!(!lacks(&config).await);
}

#[tokio::test]
async fn d7_what_is_switched_off_needs_no_rights() {
    let (database, _) = Database::seeded(Parts::Production, Variant::Default).await;
    let config = format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n\
         [record]\nevents = false\npages_visited = false\nlast_active = false\n",
        database.url()
    );
    let sql = store::grants(&parsed(&config), "reader").await.expect("SQL");
    for word in ["INSERT", "UPDATE", "DELETE", "SCHEMA headcount"] {
        assert!(!sql.contains(word), "{word}: {sql}");
    }
}

#[test]
fn d7_sqlite_has_no_roles() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"sqlite:///nowhere/app.db\"\n";
    let told = command(directory.path(), config, &["grants"]);
    assert_eq!(told.code, Some(64));
    assert!(told.err.contains("SQLite has no roles"), "{}", told.err);
}

/// In front of no site.
fn configuration(database: &Database) -> String {
    format!(
        "[upstream]\nservers = [\"127.0.0.1:9\"]\n[database]\nurl = \"{}\"\n",
        database.url()
    )
}
