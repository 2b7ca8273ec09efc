//! Whoever reads the log goes, stops reading, or has no room: nobody waits for the log and nobody fails with it.
//! Database, Redis and route files fail and come back meanwhile, which every task that looks after them logs.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Fragile, Made};
use crate::support::sidecar::{ROUTES, Sidecar};
use crate::support::world::Wanted;

const LOST: &str = "headcount_log_lines_lost_total";
const LOADED: &str = "headcount_config_reloads_total{outcome=\"success\"}";
const REFUSED: &str = "headcount_config_reloads_total{outcome=\"failure\"}";

/// Bytes that a pipe holds on Linux.
const PIPE: usize = 64 * 1024;

/// A named pipe, held open for reading.
fn pipe(sidecar: &Sidecar) -> (PathBuf, File) {
    let path = sidecar.folder().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    // For both, so that opening it waits for nobody.
    let pipe = OpenOptions::new().read(true).write(true).open(&path);
    (path, pipe.expect("a pipe"))
}

#[tokio::test]
async fn t1_the_reader_of_the_log_is_gone() {
    let mut fragile = Fragile::start(wanted()).await;
    let (path, reader) = pipe(&fragile.world.sidecar);
    log_to(&mut fragile, &path);
    drop(reader);
    everything_fails_and_comes_back(&fragile).await;
    assert!(fragile.world.sidecar.metric(LOST).await > 0.0);
    ends_in_order(fragile);
}

#[tokio::test]
async fn t1_the_disk_of_the_log_is_full() {
    let mut fragile = Fragile::start(wanted()).await;
    log_to(&mut fragile, Path::new("/dev/full"));
    everything_fails_and_comes_back(&fragile).await;
    assert!(fragile.world.sidecar.metric(LOST).await > 0.0);
    ends_in_order(fragile);
}

#[tokio::test]
async fn t2_the_reader_of_the_log_does_not_read() {
    let mut fragile = Fragile::start(wanted()).await;
    let (path, mut reader) = pipe(&fragile.world.sidecar);
    reader.write_all(&vec![b'x'; PIPE]).expect("room");
    log_to(&mut fragile, &path);
    everything_fails_and_comes_back(&fragile).await;
    ends_in_order(fragile);
    drop(reader);
}

fn log_to(fragile: &mut Fragile, path: &Path) {
    let line = format!("exec \"$@\" 2>'{}'", path.display());
    fragile.world.sidecar.restart_through(&line);
}

fn wanted() -> Wanted {
    Wanted {
        config: "[log]\nfilter = \"trace\"\n[routes]\nwatch = false".into(),
        ..Wanted::usual()
    }
}

async fn everything_fails_and_comes_back(fragile: &Fragile) {
    let Fragile {
        world,
        database,
        redis,
    } = fragile;
    let sidecar = &world.sidecar;
    let (mut made, alice) = (Made::default(), world.member("alice").await);
    let community = world.community("rust");
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(world).await;

    database.refuse().await;
    redis.refuse().await;
    let routes = sidecar.directory().join("routes.d/site.toml");
    std::fs::write(&routes, "no routes").expect("a file");
    sidecar.signal("HUP");
    for (metric, value) in [
        ("headcount_database_up", 0.0),
        ("headcount_redis_up", 0.0),
        ("headcount_live_subscription_up", 0.0),
        (REFUSED, 1.0),
    ] {
        sidecar.wait_for_metric(metric, |now| now == value).await;
    }
    made.sees("alice", &alice, &[&community, &community]).await;

    database.resume().await;
    redis.resume().await;
    std::fs::write(&routes, ROUTES).expect("a file");
    sidecar.signal("HUP");
    for metric in [
        "headcount_database_up",
        "headcount_redis_up",
        "headcount_live_subscription_up",
        LOADED,
    ] {
        sidecar.wait_for_metric(metric, |now| now == 1.0).await;
    }
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(world).await;
    fragile.recovered().await;
}

fn ends_in_order(mut fragile: Fragile) {
    fragile.world.sidecar.signal("TERM");
    assert_eq!(fragile.world.sidecar.wait_for_end(), Some(0));
}
