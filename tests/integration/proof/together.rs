//! Two sidecars and the app itself write to the same sessions and users, as fast as they can, in opposite
//! orders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use reqwest::Client;
use serde_json::json;
use sqlx::PgPool;

use super::crowd::{Crowd, Pace};
use super::verdict::{Tables, Verdict};
use super::{DROPS, KNOWN_PARTS, RETRIES, dice, drained, family, length};
use crate::support::postgres::Postgres;
use crate::support::world::{Wanted, any_prefix};

/// Tasks of the app that write.
const WRITERS: usize = 4;

const HURRIED: Pace = Pace {
    pause: Duration::from_millis(4),
    user_agent: 60,
};

/// What the app did.
#[derive(Default)]
struct Written {
    /// Pages added to each session.
    pages: BTreeMap<usize, i64>,
    transactions: usize,
    /// Transactions that failed, by what the app answered.
    failures: Vec<String>,
}

/// One task of the app: transactions that touch some users and then some sessions, each from the highest key
/// down.
async fn writes(url: String, tokens: Vec<String>, mut dice: StdRng, stop: Arc<AtomicBool>) -> Written {
    let client = Client::builder().no_proxy().build().expect("a client");
    let mut written = Written::default();
    while !stop.load(Ordering::Relaxed) {
        let chosen: Vec<usize> = (0..tokens.len()).filter(|_| dice.random_bool(0.6)).collect();
        let body: Vec<&String> = chosen.iter().map(|place| &tokens[*place]).collect();
        let request = client.post(&url).json(&json!({ "session_ids": body }));
        let response = request.send().await.expect("an answer");
        written.transactions += 1;
        if response.status() == 200 {
            for place in chosen {
                *written.pages.entry(place).or_default() += 1;
            }
        } else {
            written.failures.push(response.text().await.unwrap_or_default());
        }
    }
    written
}

async fn deadlocks(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        .fetch_one(pool)
        .await
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn w7_two_sidecars_and_the_app_write_the_same_rows_at_full_speed() {
    let mut dice = dice();
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        record: "batch_views = 50".into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let other = world.another_sidecar(&wanted);
    let crowd = Crowd::of(&world).await;
    let pool = Postgres::shared().pool(world.database.name());

    let load = crowd.browses(&[world.sidecar.url(""), other.url("")], HURRIED, &mut dice);
    let stop = Arc::new(AtomicBool::new(false));
    let tokens: Vec<String> = crowd.tokens().map(ToOwned::to_owned).collect();
    let app = (0..WRITERS).map(|_| {
        let url = world.site.url("/__test__/write-in-descending-order");
        let dice = StdRng::seed_from_u64(dice.next_u64());
        tokio::spawn(writes(url, tokens.clone(), dice, Arc::clone(&stop)))
    });
    let app: Vec<_> = app.collect();
    tokio::time::sleep(length(10)).await;
    stop.store(true, Ordering::Relaxed);
    let mut written = Written::default();
    for task in app {
        let of_task = task.await.expect("it does not panic");
        for (place, pages) in of_task.pages {
            *written.pages.entry(place).or_default() += pages;
        }
        written.transactions += of_task.transactions;
        written.failures.extend(of_task.failures);
    }
    let visits = load.stop().await;
    let (mut retries, mut known_parts) = (Vec::new(), 0.0);
    for sidecar in [&world.sidecar, &other] {
        drained(sidecar).await;
        retries.extend(family(sidecar, RETRIES).await);
        known_parts += sidecar.metric(KNOWN_PARTS).await;
        assert_eq!(family(sidecar, DROPS).await, []);
    }

    let tables = Tables::Postgres(pool.clone());
    let mut verdict = Verdict::of(&crowd, &visits, &tables).await;
    println!(
        "{} transactions of the app, {} of them failed; deadlocks that Postgres broke: {}; {verdict}; retries \
         of the sidecars {retries:?}, parts that the ledger knew {known_parts}",
        written.transactions,
        written.failures.len(),
        deadlocks(&pool).await,
    );
    assert_eq!(written.failures, Vec::<String>::new());
    // What the app added is not the sidecars'.
    for (place, pages) in &written.pages {
        *verdict.drift.entry(*place).or_default() -= pages;
    }
    verdict.drift.retain(|_, drift| *drift != 0);
    verdict.is_perfect();
    assert!(written.transactions > 0 && verdict.answered > 0);
}
