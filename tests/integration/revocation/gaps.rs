//! What changes while nothing is heard is noticed as soon as something can be heard again.

use std::process::Command;

use headcount::config::{Config, Revocation, Secret};
use headcount::store::{Notification, session_listener};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Told, migrate};
use crate::support::backend::Variant;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::world::World;

const RECONNECTS: &str = "headcount_session_listener_reconnects_total";

async fn readyz(world: &World) -> String {
    let response = reqwest::get(world.sidecar.admin_url("/readyz")).await;
    response.expect("an answer").text().await.expect("text")
}

async fn says_that_it_hears_nothing(world: &World) {
    let degraded = "degraded: no notifications of session changes arrive; sign-outs are noticed within \
                    session.cache_ttl: ";
    let text = readyz(world).await;
    assert!(text.contains(degraded), "{text}");
}

#[tokio::test]
async fn i4_what_changed_while_the_connection_was_lost_is_noticed_after_it() {
    let told = Told::start(Variant::Default).await;
    let world = &told.world;
    let (alice, bob) = (told.signs_in("alice").await, told.signs_in("bob").await);
    told.is_somebody(&alice).await;
    told.is_somebody(&bob).await;
    assert_eq!(told.evicted("gap").await, 1.0, "at the start");

    told.database.refuse().await;
    told.hears_nothing().await;
    says_that_it_hears_nothing(world).await;
    alice.member.sign_out().await;
    told.database.resume().await;
    told.listens().await;
    assert_eq!(told.evicted("gap").await, 2.0);
    assert_eq!(told.evicted("changed").await, 0.0, "nobody told of it");
    assert_eq!(world.sidecar.metric(RECONNECTS).await, 1.0);
    told.is_nobody(&alice).await;
    told.is_somebody(&bob).await;
    eventually(async || readyz(world).await == "ok\n").await;

    bob.member.sign_out().await;
    told.has_evicted("changed", 1.0).await;
    told.is_nobody(&bob).await;
}

#[tokio::test]
async fn i4_what_changed_while_the_connection_hung_is_noticed_after_it() {
    let told = Told::start(Variant::Uuid).await;
    let world = &told.world;
    let alice = told.signs_in("alice").await;
    told.is_somebody(&alice).await;

    // The connection stays open; nothing tells that it is of no use but that nothing comes back.
    told.database.hang();
    alice.member.sign_out().await;
    told.hears_nothing().await;
    says_that_it_hears_nothing(world).await;
    told.database.resume().await;
    told.listens().await;
    told.is_nobody(&alice).await;
    assert_eq!(world.sidecar.metric(RECONNECTS).await, 1.0);

    let bob = told.signs_in("bob").await;
    told.is_somebody(&bob).await;
    let before = told.evicted("changed").await;
    bob.member.sign_out().await;
    told.has_evicted("changed", before + 1.0).await;
    told.is_nobody(&bob).await;
}

/// One process of the server hangs, the others answer. The driver would wait for it without end before it closed
/// the connection: one kept for each time.
#[tokio::test]
async fn i4_a_connection_that_hangs_alone_is_left_and_closed() {
    let server = Postgres::start();
    let database = server.database().await;
    let mut config = Config::default();
    config.database.url = Some(Secret::new(server.url(&database)));
    config.session.revocation = Revocation::Trigger;
    let mut listener = session_listener(&config).unwrap().expect("a listener");
    assert!(!listener.connect().await.unwrap(), "there is no trigger");
    assert_eq!(open_connections(server.port()), 1);

    let mut other = PgConnection::connect(&server.url(&database)).await.unwrap();
    let process: i32 =
        sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = 'headcount listener'")
            .fetch_one(&mut other)
            .await
            .unwrap();
    let stopped = Stopped::new(process);
    while listener.next().await.is_ok() {}
    assert_eq!(open_connections(server.port()), 2);
    listener.connect().await.unwrap();
    eventually(async || open_connections(server.port()) == 2).await;
    other
        .execute("NOTIFY headcount_session, '42'")
        .await
        .expect("it notifies");
    other.close().await.unwrap();
    assert_eq!(listener.next().await.unwrap(), Notification::Changed("42".into()));
    eventually(async || open_connections(server.port()) == 1).await;
    drop(stopped);
}

/// A process that does nothing until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(process: i32) -> Self {
        assert!(signal(process, "STOP"));
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(process: i32, name: &str) -> bool {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    status.is_ok_and(|status| status.success())
}

/// Connections to a port of this machine that their clients have not closed.
fn open_connections(port: u16) -> usize {
    let port = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let is_open = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next().is_some_and(|peer| peer.ends_with(&port)) && columns.next() == Some("01")
    };
    table.lines().filter(is_open).count()
}

#[tokio::test]
async fn i4_the_server_ends_the_connection_and_it_is_made_again() {
    let told = Told::start(Variant::Default).await;
    let alice = told.signs_in("alice").await;
    told.is_somebody(&alice).await;
    // In one transaction, so that nothing is heard in between.
    told.execute(
        "UPDATE {session} SET is_ended = true
         WHERE (SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND usename LIKE 'sidecar_%')",
    )
    .await;
    let sidecar = &told.world.sidecar;
    sidecar.wait_for_metric(RECONNECTS, |times| times == 1.0).await;
    told.is_nobody(&alice).await;
}

#[tokio::test]
async fn i4_a_missing_trigger_is_told_and_found_when_it_is_there() {
    let told = Told::with(Variant::Default, false).await;
    let world = &told.world;
    let said = "the session table has no trigger that notifies of ended sessions";
    eventually(async || world.sidecar.log().contains(said)).await;
    says_that_it_hears_nothing(world).await;
    let (alice, bob) = (told.signs_in("alice").await, told.signs_in("bob").await);
    told.is_somebody(&alice).await;
    told.is_somebody(&bob).await;
    // Not through the sidecar, to which the site's answer would tell it.
    let ended = json!({"username": "alice", "reason": "revoked by an administrator"});
    world.site.tell("end-session", &ended).await;
    // As with revocation off: an hour has not passed.
    told.is_somebody(&alice).await;

    migrate(&told.config).await;
    told.listens().await;
    told.is_nobody(&alice).await;
    bob.member.sign_out().await;
    told.has_evicted("changed", 1.0).await;
    told.is_nobody(&bob).await;
    assert_eq!(world.sidecar.metric(RECONNECTS).await, 0.0);

    // As a migration of the site may do that makes the table anew.
    told.execute("DROP TRIGGER headcount_session_truncated ON {session}")
        .await;
    told.hears_nothing().await;
    eventually(async || world.sidecar.log().matches(said).count() >= 2).await;
    assert_eq!(world.sidecar.log().matches(said).count(), 2);
}
