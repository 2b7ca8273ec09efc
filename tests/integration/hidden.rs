//! Members whom the app hides, end to end: counted or not, as configured, and named in nothing that anybody can read.

mod scopes;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::backend::Variant;
use crate::support::database::Database;
use crate::support::live::Socket;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::world::{Parts, Wanted, World};

/// A site whose profiles say who is hidden, and its database. User ids are long enough to be searched for.
pub async fn start(record: &str) -> (World, PgPool) {
    start_with(|wanted| Wanted {
        record: record.into(),
        ..wanted
    })
    .await
}

/// The same with more configuration.
pub async fn start_with(configure: impl FnOnce(Wanted) -> Wanted) -> (World, PgPool) {
    let wanted = configure(Wanted {
        config: "[schema.profile.columns]\nis_hidden = \"secret\"".into(),
        ..Wanted::new(Parts::Production, Variant::Uuid)
    });
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let pool = Postgres::shared().pool(database.name());
    execute(
        &pool,
        "ALTER TABLE people_profile ADD secret boolean NOT NULL DEFAULT false",
    )
    .await;
    (wanted.start_on((database, seeded)), pool)
}

async fn execute(pool: &PgPool, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await;
    done.expect("the app's statement runs");
}

pub async fn hide(pool: &PgPool, name: &str) {
    execute(
        pool,
        &format!("UPDATE people_profile SET secret = true WHERE username = '{name}'"),
    )
    .await;
}

pub fn names(list: &Value) -> Vec<&str> {
    let visitors = list["visitors"].as_array().expect("a list");
    visitors
        .iter()
        .filter_map(|visitor| visitor["username"].as_str())
        .collect()
}

/// Everything that the sidecar tells, to visitors and to operators. Cursors decoded.
async fn everything_told(world: &World, asking: &Member) -> String {
    let mut told = String::new();
    let mut path = world.visitors("rust", "?limit=1");
    loop {
        let list = asking.json(&path).await;
        told.push_str(&list.to_string());
        let Some(next) = list["next"].as_str() else { break };
        let cursor = URL_SAFE_NO_PAD.decode(next).expect("base64");
        told.push_str(&String::from_utf8_lossy(&cursor));
        path = world.visitors("rust", &format!("?limit=1&cursor={next}"));
    }
    let community = world.seeded.community("rust");
    for path in [
        world.visitors("rust", "/count"),
        world.visitors("rust", "/stats"),
        format!("/api/visitors/counts?communities={community}"),
    ] {
        told.push_str(&asking.json(&path).await.to_string());
    }
    let mut live = Socket::open(&world.sidecar, &world.visitors("rust", "/live"), asking).await;
    told.push_str(&live.next().await.to_string());
    for path in ["/", "/dashboard.json", "/metrics", "/readyz"] {
        let answer = reqwest::get(world.sidecar.admin_url(path))
            .await
            .expect("an answer");
        told.push_str(&answer.text().await.expect("text"));
    }
    told.push_str(&world.sidecar.log());
    told
}

#[tokio::test]
async fn s27_a_hidden_member_counts_and_is_found_in_no_answer_page_or_log() {
    let (world, pool) = start("").await;
    let (alice, bob, carol) = (
        world.member("alice").await,
        world.member("bob").await,
        world.member("carol").await,
    );
    hide(&pool, "bob").await;
    let rust = world.community("rust");
    bob.sees(&format!("{rust}posts/1/")).await;
    world.wait_for_views(1).await;
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["current_visitors"], &list["visitors"], &list["next"]),
        (&json!(1), &json!([]), &Value::Null)
    );
    alice.sees(&rust).await;
    carol.sees(&rust).await;
    world.wait_for_views(3).await;
    bob.sees(&format!("{rust}posts/1/")).await;
    let views = world.wait_for_views(4).await;
    assert_eq!(views.len(), 4, "what is recorded is the app's own");

    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["current_visitors"], names(&list)),
        (&json!(3), vec!["carol", "alice"])
    );
    // From the moment at which the app hides somebody, whatever was cached.
    hide(&pool, "carol").await;
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["current_visitors"], names(&list)),
        (&json!(3), vec!["alice"])
    );

    let told = everything_told(&world, &alice).await;
    for member in ["bob", "carol"] {
        let id = world.seeded.user(member);
        assert!(
            !told.contains(&format!("\"{member}\"")) && !told.contains(&*id),
            "{member}: {told}"
        );
    }
    assert!(
        told.contains(&*world.seeded.user("alice")),
        "what is shown is found: {told}"
    );
    assert!(
        !told.contains("/posts/1/"),
        "the pages of a hidden member: {told}"
    );
}

#[tokio::test]
async fn s27_a_hidden_member_who_is_not_counted_leaves_no_trace() {
    let (world, pool) = start("hidden = \"ignore\"").await;
    hide(&pool, "bob").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let rust = world.community("rust");
    bob.sees(&rust).await;
    let hidden = "headcount_page_views_not_counted_total{reason=\"hidden\"}";
    world.sidecar.wait_for_metric(hidden, |views| views == 1.0).await;
    alice.sees(&rust).await;
    let views = world.wait_for_views(1).await;
    assert_eq!(views.len(), 1);
    // An open connection is a heartbeat, but not of somebody who is not counted.
    let path = world.visitors("rust", "/live");
    let mut live = Socket::open(&world.sidecar, &path, &bob).await;
    live.until(1).await;
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["current_visitors"], names(&list)),
        (&json!(1), vec!["alice"])
    );
}
