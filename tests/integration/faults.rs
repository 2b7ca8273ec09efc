//! Things go wrong: Redis and the database stop, hang and come back, processes are told to end, rows are
//! refused, cookies are made up. The site is served as if nothing had happened, and what was recorded is
//! exactly what was seen.
//!
//! Between the sidecar and its Postgres and Redis stands a [`Proxy`] that can hang and refuse; the site
//! itself has its database to itself. No test measures time. That nothing waits is shown by timeouts of an
//! hour on servers that never answer: what waited for them would not end within the test's patience.

#![expect(clippy::float_cmp, reason = "metrics are whole numbers here")]

mod chain;
mod dead_letters;
mod flood;
mod former;
mod fsync;
mod heals;
mod identity;
mod logs;
mod lost;
mod moments;
mod outages;
mod queues;
mod remembered;
mod rows;
mod shutdown;
mod snapshot;
mod start;
mod tasks;
mod writes;

use std::collections::HashMap;

use serde_json::Value;

use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::{self, eventually};
use crate::support::world::{Wanted, World};

/// Longer than any test: for what must not happen by itself.
const NEVER: &str = "1h";

/// A world whose sidecar reaches Postgres and Redis through proxies.
struct Fragile {
    world: World,
    database: Proxy,
    redis: Proxy,
}

impl Fragile {
    async fn start(wanted: Wanted) -> Self {
        let (database, redis) = (refusing_database(), refusing_redis());
        database.resume().await;
        redis.resume().await;
        Self::behind(wanted, database, redis).await
    }

    async fn behind(wanted: Wanted, database: Proxy, redis: Proxy) -> Self {
        let world = Wanted {
            database_port: Some(database.port()),
            redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
            ..wanted
        };
        Self {
            world: world.start().await,
            database,
            redis,
        }
    }

    /// Waits until the sidecar has noticed that everything answers.
    async fn recovered(&self) {
        let readyz = self.world.sidecar.admin_url("/readyz");
        eventually(async || text(&readyz).await == (200, "ok\n".into())).await;
    }
}

fn refusing_database() -> Proxy {
    Proxy::refusing(Postgres::shared().port())
}

fn refusing_redis() -> Proxy {
    Proxy::refusing(redis::shared().port())
}

/// With these, whoever waits for a server that hangs waits longer than any test.
fn endlessly_patient() -> Wanted {
    Wanted {
        database: format!("acquire_timeout = \"{NEVER}\"\nstatement_timeout = \"{NEVER}\""),
        redis_keys: format!("connect_timeout = \"{NEVER}\"\nresponse_timeout = \"{NEVER}\""),
        session: format!("cache_ttl = \"{NEVER}\""),
        config: "[api]\ntimeout = \"1s\"".into(),
        ..Wanted::usual()
    }
}

/// Page views that were made, to be compared with those that were recorded.
#[derive(Default)]
struct Made(Vec<(String, String)>);

impl Made {
    /// Alice's first page view, recorded.
    async fn first(world: &World) -> (Member, Self) {
        let alice = world.member("alice").await;
        let mut made = Self::default();
        made.sees("alice", &alice, &["/about/"]).await;
        made.are_recorded(world).await;
        (alice, made)
    }

    /// `member` looks at the pages, each of which is counted.
    async fn sees(&mut self, name: &str, member: &Member, paths: &[&str]) {
        for path in paths {
            member.sees(path).await;
            self.note(name, path);
        }
    }

    fn note(&mut self, name: &str, path: &str) {
        self.0.push((name.to_owned(), path.to_owned()));
    }

    /// Waits until that many views were applied; each must be there once, and nothing else.
    async fn are_recorded(&self, world: &World) {
        let views = world.wait_for_views(self.0.len()).await;
        self.are_exactly(&views);
    }

    /// Each is there once, and nothing else.
    fn are_exactly(&self, views: &[Value]) {
        let of = |view: &Value| (field(&view["username"]), field(&view["metadata"]["url"]));
        let mut recorded: Vec<_> = views.iter().map(of).collect();
        let mut made = self.0.clone();
        recorded.sort();
        made.sort();
        assert_eq!(recorded, made);
    }
}

fn field(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The name of a counter of dropped views.
fn dropped(reason: &str) -> String {
    format!("headcount_recorder_dropped_total{{reason=\"{reason}\"}}")
}

/// Every drop, whatever its reason.
async fn all_dropped(world: &World) -> f64 {
    drops_in(&world.sidecar.metrics().await)
}

/// The same at one moment.
fn drops_in(metrics: &HashMap<String, f64>) -> f64 {
    let drops = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("headcount_recorder_dropped_total"));
    drops.map(|(_, drops)| drops).sum()
}

/// Page views waiting in a queue.
fn queued(queue: &str) -> String {
    format!("headcount_recorder_queue_views{{queue=\"{queue}\"}}")
}

/// Session lookups that had an outcome.
fn lookups(outcome: &str) -> String {
    format!("headcount_session_lookups_total{{outcome=\"{outcome}\"}}")
}

/// Status and body.
async fn text(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("text"))
}

/// The visitors API refuses to answer, and says so in the form of a problem.
async fn is_unavailable(member: &Member, path: &str) {
    let response = member.get(path).await;
    assert_eq!(response.status(), 503, "{path}");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], 503);
}

/// While Redis is away the visitors API tells whom the sidecar has seen itself, and says that it does.
async fn is_told_from_memory(member: &Member, path: &str, visitors: usize) {
    let list = member.json(path).await;
    assert_eq!(list["stale"], true, "{list}");
    assert_eq!(list["current_visitors"], visitors, "{list}");
    assert_eq!(
        list["visitors"].as_array().map(Vec::len),
        Some(visitors),
        "{list}"
    );
}

/// Waits until the visitors API shows so many visitors, and not from memory.
async fn shows_visitors(member: &Member, path: &str, visitors: usize) {
    eventually(async || {
        let response = member.get(path).await;
        let list: Value = match response.status().as_u16() {
            200 => response.json().await.expect("JSON"),
            503 => return false,
            other => panic!("{path}: {other}"),
        };
        list["stale"] == false
            && list["current_visitors"] == visitors
            && list["visitors"].as_array().map(Vec::len) == Some(visitors)
    })
    .await;
}

/// A token that the app does not know: of the right form, but too long for the app to look it up.
fn unknown_token() -> String {
    format!("{:0>80}", uuid::Uuid::new_v4().simple())
}

/// Somebody with a cookie of the app's name looks at a page, which must be there.
async fn sees_with_token(visitor: &Member, token: &str, path: &str) {
    let request = visitor
        .navigation(path)
        .header("cookie", format!("session_id={token}"));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("a body");
}
