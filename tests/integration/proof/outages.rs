//! What may happen to Postgres, under load: the site does not notice, and nothing is lost or counts twice.
//! Where the server itself suffers, it is one of the test's own, and the site has its database elsewhere.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::commits::CommitCutter;
use super::crowd::{Crowd, Pace, apart};
use super::verdict::{Tables, Verdict};
use super::{DROPS, KNOWN_PARTS, RETRIES, dice, drained, family, length, total};
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::service::{BETWEEN_LOOKS, in_time};
use crate::support::world::{Wanted, World};

/// Small batches, and connections that are given up soon: more happens in the same time.
fn wanted() -> Wanted {
    Wanted {
        database: "acquire_timeout = \"500ms\"".into(),
        ..Wanted::usual()
    }
}

/// Members browse while something happens to the database; then all is well again, and everything is there.
async fn everything_lands_once(
    world: &World,
    crowd: &Crowd,
    tables: &Tables,
    dice: &mut StdRng,
    meanwhile: impl AsyncFnOnce(&mut StdRng) -> String,
) {
    let load = crowd.browses(&[world.sidecar.url("")], Pace::STEADY, dice);
    let happened = meanwhile(dice).await;
    let visits = load.stop().await;
    drained(&world.sidecar).await;
    let verdict = Verdict::of(crowd, &visits, tables).await;
    println!(
        "{happened}: {verdict}; retries {:?}, parts that the ledger knew {}, drops {:?}",
        family(&world.sidecar, RETRIES).await,
        world.sidecar.metric(KNOWN_PARTS).await,
        family(&world.sidecar, DROPS).await,
    );
    verdict.is_perfect();
    assert!(verdict.answered > 0);
}

async fn pause(dice: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(dice.random_range(milliseconds))).await;
}

/// Waits until the sidecar has tried in vain once more.
async fn fails_again(world: &World, class: &str) {
    let name = format!("{RETRIES}{{class=\"{class}\"}}");
    let before = world.sidecar.metric(&name).await;
    world.sidecar.wait_for_metric(&name, |now| now > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_postgres_is_killed_again_and_again() {
    let mut dice = dice();
    let mut server = Postgres::start();
    let (world, crowd) = apart(&server, wanted(), None).await;
    let tables = Tables::Postgres(server.pool(world.database.name()));
    everything_lands_once(&world, &crowd, &tables, &mut dice, async |dice| {
        let end = Instant::now() + length(8);
        let mut kills = 0;
        while Instant::now() < end {
            pause(dice, 200..1_500).await;
            server.kill();
            kills += 1;
            pause(dice, 0..1_000).await;
            server.start_again();
        }
        format!("Postgres killed {kills} times")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_postgres_is_away_for_long() {
    let mut dice = dice();
    let mut server = Postgres::start();
    let (world, crowd) = apart(&server, wanted(), None).await;
    let tables = Tables::Postgres(server.pool(world.database.name()));
    everything_lands_once(&world, &crowd, &tables, &mut dice, async |dice| {
        pause(dice, 500..1_000).await;
        server.kill();
        fails_again(&world, "connection").await;
        tokio::time::sleep(length(5)).await;
        server.start_again();
        pause(dice, 500..1_000).await;
        format!("Postgres away for {:?}", length(5))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_postgres_becomes_read_only_again_and_again() {
    let mut dice = dice();
    let world = wanted().start().await;
    let crowd = Crowd::of(&world).await;
    let tables = Tables::Postgres(Postgres::shared().pool(world.database.name()));
    let admin = Postgres::shared().pool("postgres");
    let name = world.database.name();
    everything_lands_once(&world, &crowd, &tables, &mut dice, async |dice| {
        let end = Instant::now() + length(6);
        let mut times = 0;
        while Instant::now() < end {
            pause(dice, 200..800).await;
            for sql in [
                format!("ALTER DATABASE {name} SET default_transaction_read_only = on"),
                terminate(name),
            ] {
                admin.execute(AssertSqlSafe(sql)).await.expect("it is done");
            }
            times += 1;
            fails_again(&world, "read_only").await;
            let sql = format!("ALTER DATABASE {name} RESET default_transaction_read_only");
            admin.execute(AssertSqlSafe(sql)).await.expect("it is done");
        }
        format!("Postgres read-only {times} times")
    })
    .await;
}

/// Ends the sidecar's connections, as a failover does.
fn terminate(database: &str) -> String {
    format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'headcount' AND datname = '{database}'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn w6_connections_are_cut_in_the_middle_of_a_commit_and_the_ledger_decides() {
    let mut dice = dice();
    let cutter = CommitCutter::before(Postgres::shared().port(), &mut dice).await;
    let wanted = Wanted {
        database_port: Some(cutter.port()),
        ..wanted()
    };
    let world = wanted.start().await;
    let crowd = Crowd::of(&world).await;
    let tables = Tables::Postgres(Postgres::shared().pool(world.database.name()));
    everything_lands_once(&world, &crowd, &tables, &mut dice, async |_| {
        tokio::time::sleep(length(8)).await;
        // Until there was one of each, however few COMMITs there are.
        in_time("a COMMIT of each fate", async {
            while cutter.swallowed() == 0 || cutter.stopped() == 0 {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        cutter.rests();
        let (swallowed, stopped) = (cutter.swallowed(), cutter.stopped());
        format!("{swallowed} answers to a COMMIT swallowed, {stopped} COMMITs cut off before they arrived")
    })
    .await;
    assert!(cutter.swallowed() > 0 && cutter.stopped() > 0);
    assert!(
        world.sidecar.metric(KNOWN_PARTS).await > 0.0,
        "the ledger decided"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn w9_postgres_is_out_of_connections_again_and_again() {
    let mut dice = dice();
    let server = Postgres::start_with(&["max_connections=24"]);
    let (world, crowd) = apart(&server, wanted(), None).await;
    let name = world.database.name();
    let tables = Tables::Postgres(server.pool(name));
    everything_lands_once(&world, &crowd, &tables, &mut dice, async |dice| {
        let end = Instant::now() + length(6);
        let mut times = 0;
        while Instant::now() < end {
            pause(dice, 200..800).await;
            let held = in_time("all connections", all_connections(&server, name)).await;
            let before = total(&world.sidecar, RETRIES).await;
            eventually(async || total(&world.sidecar, RETRIES).await != before).await;
            times += 1;
            for connection in held {
                connection.close().await.expect("it ends");
            }
        }
        format!("Postgres out of connections {times} times")
    })
    .await;
}

/// Takes every connection that the server has, the sidecar's too.
async fn all_connections(server: &Postgres, database: &str) -> Vec<PgConnection> {
    let url = server.url(database);
    let mut held = Vec::new();
    loop {
        match PgConnection::connect(&url).await {
            Ok(connection) => held.push(connection),
            Err(_) if held.is_empty() => tokio::task::yield_now().await,
            Err(_) => {
                let ended = held[0].execute(AssertSqlSafe(terminate(database))).await;
                if ended.expect("it is done").rows_affected() == 0 {
                    return held;
                }
            }
        }
    }
}
