//! The process is told to end: requests in flight and recorded views come first, and nothing may keep it.

use reqwest::Method;

use super::{Fragile, Made, NEVER, endlessly_patient, text};
use crate::support::backend::Settings;
use crate::support::proxy::Proxy;
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::world::{Wanted, World};

/// Only a flush writes.
fn written_at_the_end() -> Wanted {
    Wanted {
        batch_age: NEVER,
        ..Wanted::usual()
    }
}

/// A world with a proxy between sidecar and site.
async fn with_a_site_that_can_hang(wanted: Wanted) -> (World, Proxy) {
    let port = free_port();
    let site = Proxy::before(port).await;
    let wanted = Wanted {
        settings: Settings {
            port: Some(port),
            ..wanted.settings
        },
        servers: Some(vec![format!("127.0.0.1:{}", site.port())]),
        ..wanted
    };
    (wanted.start().await, site)
}

async fn is_draining(world: &World) {
    eventually(async || text(&world.sidecar.admin_url("/readyz")).await.0 == 503).await;
}

async fn a_signal_drains_and_flushes(signal: &str) {
    let (mut world, site) = with_a_site_that_can_hang(written_at_the_end()).await;
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community, "/c/rust/", "/about/"])
        .await;

    site.hang();
    let slow = tokio::spawn(async move { alice.visits("/slow?ms=10").await });
    made.note("alice", "/slow");
    site.holds_something().await;
    world.sidecar.signal(signal);
    is_draining(&world).await;
    // Something that the sidecar answers itself, each time on a new connection.
    let local = world.visitors("rust", "");
    eventually(async || {
        world
            .stranger()
            .request(Method::GET, &local)
            .send()
            .await
            .is_err()
    })
    .await;
    assert!(!slow.is_finished());
    site.resume().await;
    assert_eq!(slow.await.expect("an answer"), 200, "{}", world.sidecar.log());
    assert_eq!(world.sidecar.wait_for_end(), Some(0), "{}", world.sidecar.log());
    made.are_exactly(&world.page_views().await);
}

#[tokio::test]
async fn sigterm_lets_requests_in_flight_complete_and_writes_out_what_is_queued() {
    a_signal_drains_and_flushes("TERM").await;
}

#[tokio::test]
async fn sigint_is_sigterm() {
    a_signal_drains_and_flushes("INT").await;
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let wanted = Wanted {
        config: format!("[limits]\ngrace_period = \"{NEVER}\""),
        ..Wanted::usual()
    };
    let (mut world, site) = with_a_site_that_can_hang(wanted).await;
    site.hang();
    let stranger = world.stranger();
    let request = tokio::spawn(async move { stranger.navigation("/about/").send().await.is_ok() });
    site.holds_something().await;
    world.sidecar.signal("TERM");
    is_draining(&world).await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(1));
    assert!(!request.await.unwrap(), "it was cut off");
}

#[tokio::test]
async fn a_request_that_never_ends_keeps_the_process_for_the_grace_period_only() {
    let wanted = Wanted {
        config: "[limits]\ngrace_period = \"1s\"".into(),
        ..written_at_the_end()
    };
    let (mut world, site) = with_a_site_that_can_hang(wanted).await;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    site.hang();
    let request = tokio::spawn(async move { alice.navigation("/about/").send().await.is_ok() });
    site.holds_something().await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    assert!(!request.await.unwrap(), "it was cut off");
    assert!(
        world.sidecar.log().contains("requests=1"),
        "{}",
        world.sidecar.log()
    );
    made.are_exactly(&world.page_views().await);
}

#[tokio::test]
async fn a_database_that_hangs_keeps_the_process_for_the_flush_timeout_only() {
    let mut fragile = Fragile::start(Wanted {
        batch_age: NEVER,
        record: "flush_timeout = \"1s\"".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &mut fragile.world;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&world.community("rust"), "/about/"])
        .await;
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 2.0)
        .await;
    fragile.database.hang();
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    let log = world.sidecar.log();
    assert!(log.contains("views=2"), "what stays behind is told: {log}");
    assert!(world.page_views().await.is_empty());
    fragile.database.resume().await;
    world.sidecar.restart();
    made.are_recorded(world).await;
}

#[tokio::test]
async fn a_redis_that_hangs_does_not_keep_page_views_from_being_written_at_the_end() {
    let mut fragile = Fragile::start(Wanted {
        batch_age: NEVER,
        record: "flush_timeout = \"30s\"".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &mut fragile.world;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    fragile.redis.hang();
    made.sees("alice", &alice, &[&world.community("rust"), "/about/"])
        .await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    made.are_exactly(&world.page_views().await);
}
