//! Counts in the app's community table, end to end: as the analysis' own functions have them, whatever happens to
//! sidecars, database and Redis meanwhile.

mod commands;
mod django;
mod journey;
mod plans;
mod repair;
mod surroundings;
mod unusable;

use std::path::Path;

use headcount::config::Config;
use headcount::store;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::backend::{Backend, Settings, Variant};
use crate::support::database::Database;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::process::{self, Told};
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World, any_prefix};

/// The section that switches them on.
const ON: &str = "[counters]\nenabled = true\n";
const HELD: &str = "headcount_counters_lease_held";
const COMMUNITIES: [&str; 2] = ["rust", "django"];

/// Counters in the columns of the site's own model.
fn wanted() -> Wanted {
    Wanted {
        config: ON.into(),
        key_prefix: Some(any_prefix()),
        ..Wanted::new(Parts::Production, Variant::Counters)
    }
}

fn parsed(config: &str) -> Config {
    Config::parse(Path::new("headcount.toml"), config.into(), []).expect("a configuration")
}

/// Starts site and sidecar where `headcount migrate` was run with this configuration.
async fn start(wanted: Wanted) -> World {
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let site = Backend::start(wanted.variant, &database.url(), Settings::default());
    let config = wanted.configuration(&site, &database);
    let mut migrating = parsed(&config);
    migrating.database.url = Some(headcount::config::Secret::new(database.url()));
    store::migrate(&migrating, false).await.expect("migrated");
    World {
        sidecar: Sidecar::start(&config),
        site,
        database,
        seeded,
    }
}

async fn execute(world: &World, sql: &str) {
    let pool = Postgres::shared().pool(world.database.name());
    let done = pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    pool.close().await;
}

/// One text of the database.
async fn text(world: &World, sql: &str) -> String {
    let pool = Postgres::shared().pool(world.database.name());
    let found = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(&pool)
        .await;
    pool.close().await;
    found.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// A command of the sidecar, with its configuration.
fn command(sidecar: &Sidecar, arguments: &[&str]) -> Told {
    let config = sidecar.directory().join("headcount.toml");
    let config = ["--config", config.to_str().expect("UTF-8")];
    process::run(&[arguments, &config].concat(), &[])
}

/// The counts of a community by the analysis' own functions, over all time: visitors and page views.
async fn by_the_analysis(world: &World, slug: &str) -> (Value, Value) {
    let path = format!("oracle/stats/{}?days=36500", world.seeded.community(slug));
    let mut stats = world.site.ask(&path).await;
    (stats["total_visitors"].take(), stats["page_views"].take())
}

/// The same, as a view of the site reads them from the columns.
async fn by_the_columns(world: &World, slug: &str) -> Value {
    let url = world
        .site
        .url(&format!("/communities/{}/counts/", world.seeded.community(slug)));
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

/// Waits until the columns are what the analysis' functions say, to the unit, and say who is here.
async fn agree(world: &World, asking: &Member) {
    for slug in COMMUNITIES {
        eventually(async || {
            let (visitors, page_views) = by_the_analysis(world, slug).await;
            let columns = by_the_columns(world, slug).await;
            let here = asking.json(&world.visitors(slug, "/count")).await;
            columns["total_visitors"] == visitors
                && columns["page_views"] == page_views
                && columns["current_visitors"] == here["current_visitors"]
        })
        .await;
    }
}
