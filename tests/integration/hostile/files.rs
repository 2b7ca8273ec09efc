//! Open files: whoever opens connections must not use up those that the site needs.

use super::{Wanted, Wire, World};
use crate::support::service::wait_until;
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
    let mut wanted = Wanted::usual();
    wanted.config = "[limits]\nmax_connections = 101".into();
    let mut world = wanted.start().await;
    world.sidecar.restart_through("ulimit -n 400; exec \"$@\"");
    wait_until("a warning", || {
        let log = world.sidecar.log();
        log.contains("LimitNOFILE=") && log.contains("it takes 100 connections")
    });
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

/// Nobody has asked for a number.
#[tokio::test]
async fn t5_the_default_is_what_files_suffice_for_and_no_warning() {
    let mut world = World::usual().await;
    let before = world.sidecar.log().len();
    world.sidecar.restart_through("ulimit -n 20000; exec \"$@\"");
    // It comes last.
    wait_until("the log", || world.sidecar.log()[before..].contains("ready"));
    let log = world.sidecar.log();
    assert!(
        log[before..].contains("may have 20000 open files: it takes 9872 connections"),
        "{log}"
    );
    assert!(log[before..].contains("raise LimitNOFILE="), "{log}");
    assert!(!log[before..].contains("WARN"), "{log}");
}
