//! Open files: whoever opens connections must not use up those that the site needs.

use super::{Wire, World};
use crate::support::sidecar::Sidecar;

/// The limit of open files of the running process.
fn limit(sidecar: &Sidecar) -> String {
    let limits = format!("/proc/{}/limits", sidecar.process().pid());
    let limits = std::fs::read_to_string(limits).expect("a running process");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.expect("a limit").split_whitespace().collect();
    format!("{} {}", words[3], words[4])
}

#[tokio::test]
async fn t5_the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let mut world = World::usual().await;
    let line = "ulimit -Sn 300; ulimit -Hn 10000; exec \"$@\"";
    world.sidecar.restart_through(line);
    assert_eq!(limit(&world.sidecar), "10000 10000");
}

#[tokio::test]
async fn t5_files_that_do_not_suffice_are_told_and_kept_for_requests() {
    let mut world = World::usual().await;
    world.sidecar.restart_through("ulimit -n 400; exec \"$@\"");
    let log = world.sidecar.log();
    assert!(
        log.contains("LimitNOFILE=") && log.contains("it takes 100 connections"),
        "{log}"
    );
    let mut first = Wire::open(world.sidecar.port).await;
    let mut idle = Vec::new();
    for _ in 0..450 {
        idle.push(Wire::open(world.sidecar.port).await);
    }
    world
        .sidecar
        .wait_for_metric("headcount_connections_refused_total", |refused| refused >= 350.0)
        .await;
    first.send("GET /about/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    drop(idle);
}
