//! How fast the site answers while what recording stands on does not. Not asserted: what a machine with other
//! work measures says nothing by itself. Rounds with and without a fault alternate, the medians are printed.

use std::time::{Duration, Instant};

use super::crowd::{Crowd, Pace, Visit};
use super::verdict::{Tables, Verdict};
use super::{dice, drained, length};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis;
use crate::support::world::Wanted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    DatabaseHangs,
    DatabaseRefuses,
    RedisHangs,
}

const ORDER: [Fault; 6] = [
    Fault::None,
    Fault::DatabaseHangs,
    Fault::None,
    Fault::DatabaseRefuses,
    Fault::None,
    Fault::RedisHangs,
];

/// How long each lasts.
const ROUND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn promise_1_views_are_answered_and_recorded_alike_with_and_without_faults() {
    let mut dice = dice();
    let database = Proxy::before(Postgres::shared().port()).await;
    let redis = Proxy::before(redis::shared().port()).await;
    let world = Wanted {
        database_port: Some(database.port()),
        redis: Some(format!("redis://127.0.0.1:{}", redis.port())),
        ..Wanted::usual()
    };
    let world = world.start().await;
    let crowd = Crowd::of(&world).await;
    let base = [world.sidecar.url("")];
    // Everybody and everything is known.
    let load = crowd.browses(&base, Pace::STEADY, &mut dice);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut visits = load.stop().await;

    let mut measured: Vec<(Fault, Duration, Duration)> = Vec::new();
    let end = Instant::now() + length(6);
    while Instant::now() < end {
        for fault in ORDER {
            match fault {
                Fault::None => {}
                Fault::DatabaseHangs => database.hang(),
                Fault::DatabaseRefuses => database.refuse().await,
                Fault::RedisHangs => redis.hang(),
            }
            let load = crowd.browses(&base, Pace::STEADY, &mut dice);
            tokio::time::sleep(ROUND).await;
            let seen = load.stop().await;
            database.resume().await;
            redis.resume().await;
            drained(&world.sidecar).await;
            measured.push((fault, percentile(&seen, 50), percentile(&seen, 99)));
            visits.extend(seen);
        }
    }
    let kinds = [
        Fault::None,
        Fault::DatabaseHangs,
        Fault::DatabaseRefuses,
        Fault::RedisHangs,
    ];
    for fault in &kinds {
        let rounds = measured.iter().filter(|(what, ..)| what == fault);
        let (mut middle, mut high): (Vec<_>, Vec<_>) = rounds.map(|(_, p50, p99)| (*p50, *p99)).unzip();
        middle.sort();
        high.sort();
        println!(
            "{fault:?}: median p50 {:?}, median p99 {:?} over {} rounds",
            middle[middle.len() / 2],
            high[high.len() / 2],
            high.len()
        );
    }
    let tables = Tables::Postgres(Postgres::shared().pool(world.database.name()));
    let verdict = Verdict::of(&crowd, &visits, &tables).await;
    println!("{verdict}");
    verdict.is_perfect();
}

fn percentile(visits: &[Visit], percent: usize) -> Duration {
    let mut took: Vec<Duration> = visits.iter().map(|visit| visit.done - visit.sent).collect();
    took.sort();
    took[(took.len() - 1) * percent / 100]
}
