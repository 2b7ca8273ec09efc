//! Presence while Redis is away, hangs, restarts or is demoted.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::presence::Metrics;
use headcount::presence::Scope;
use headcount::presence::{Presence, PresenceError, Touch};
use headcount::status::{ComponentState, Status};
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;

use crate::support::fake_redis::FakeRedis;
use crate::support::redis::{self as servers, RedisServer, eventually};
use crate::support::redis_presence::{self, until_it_answers};
use crate::support::service::in_time;

const WINDOW: Duration = Duration::from_secs(300);

/// Short, for servers that do not answer.
const IMPATIENT: Duration = Duration::from_millis(200);

fn impatient(url: &str) -> config::Redis {
    config::Redis {
        connect_timeout: IMPATIENT,
        response_timeout: IMPATIENT,
        ..servers::config(url)
    }
}

async fn every_call_is_unavailable(presence: &dyn Presence) {
    let community = Scope::from("42");
    let outcomes = [
        presence.ping().await,
        presence.touch(&community, &[Touch::now("a")]).await.map(|_| ()),
        presence
            .all_counts(std::slice::from_ref(&community))
            .await
            .map(|_| ()),
        presence.list(&community, None, 10).await.map(|_| ()),
        presence.sweep().await.map(|_| ()),
    ];
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(PresenceError::Unavailable(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn p14_numbers_rise_across_a_redis_that_restarted_empty() {
    let mut server = RedisServer::start(&[]);
    let presence = redis_presence::open(&server.config(), WINDOW);
    let before = presence
        .touch(&"42".into(), &[Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    server.restart();
    until_it_answers(&presence).await;
    let after = presence.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
    assert_eq!(after.current, 1);
    assert!(after.seq > before.seq);
}

#[tokio::test]
async fn it_starts_with_redis_down_and_finds_it_later() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let (status, metrics) = (Status::default(), Arc::<Metrics>::default());
    let presence = redis_presence::open_with(&server.config(), WINDOW, &status, Arc::clone(&metrics));
    every_call_is_unavailable(&presence).await;
    assert_eq!(status.redis.condition().state, ComponentState::Down);
    assert!(metrics.redis_errors.get() >= 5, "each failed call is counted");
    server.restart();
    until_it_answers(&presence).await;
    assert_eq!(status.redis.condition().state, ComponentState::Up);
    assert_eq!(
        presence
            .touch(&"42".into(), &[Touch::now("a")])
            .await
            .unwrap()
            .current,
        1
    );
}

#[tokio::test]
async fn p9_a_server_that_never_answers_costs_each_call_its_timeout() {
    let silent = FakeRedis::silent().await;
    let presence = redis_presence::open(&impatient(&silent.url()), WINDOW);
    every_call_is_unavailable(&presence).await;
}

#[tokio::test]
async fn p9_a_server_that_hangs_is_left_and_found_again() {
    let server = RedisServer::start(&[]);
    let presence = redis_presence::open(&impatient(&server.url()), WINDOW);
    until_it_answers(&presence).await;
    server.hang();
    every_call_is_unavailable(&presence).await;
    server.resume();
    until_it_answers(&presence).await;
}

#[tokio::test]
async fn p9_while_redis_is_known_to_be_down_calls_fail_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let very_patient = config::Redis {
        connect_timeout: Duration::from_secs(3_600),
        response_timeout: Duration::from_secs(3_600),
        ..servers::config(&url)
    };
    let presence = redis_presence::open(&very_patient, WINDOW);
    drop(listener.accept().await.unwrap());
    assert!(presence.ping().await.is_err(), "the first attempt failed");
    let second_attempt = listener.accept().await.unwrap();
    let outcome = in_time("an answer during the second attempt", presence.ping()).await;
    assert!(
        matches!(outcome, Err(PresenceError::Unavailable(_))),
        "{outcome:?}"
    );
    drop(second_attempt);
}

/// Greets, and is then silent.
fn only_pongs(command: &[String]) -> Option<String> {
    match command[0].as_str() {
        "EVALSHA" => None,
        "PING" => Some("+PONG\r\n".into()),
        _ => Some("+OK\r\n".into()),
    }
}

#[tokio::test]
async fn p9_a_connection_that_fell_silent_is_replaced() {
    let redis = FakeRedis::answering(only_pongs).await;
    let presence = redis_presence::open(&impatient(&redis.url()), WINDOW);
    eventually(async || presence.ping().await.is_ok()).await;
    let before = redis.connections();
    let silent = presence.touch(&"42".into(), &[Touch::now("a")]).await;
    assert!(matches!(silent, Err(PresenceError::Unavailable(_))), "{silent:?}");
    eventually(async || presence.ping().await.is_ok()).await;
    assert!(
        redis.connections() > before,
        "the silent one would be kept until TCP gives it up"
    );
}

#[test]
fn the_connection_outlives_the_runtimes_that_call() {
    let server = RedisServer::start(&[]);
    let threads = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().unwrap()
    };
    let lasting = threads(1);
    let presence = {
        let _entered = lasting.enter();
        redis_presence::open(&server.config(), WINDOW)
    };
    let mut raw = lasting.block_on(server.raw());
    lasting.block_on(until_it_answers(&presence));
    let before = lasting.block_on(connections(&mut raw));
    for user in ["a", "b", "c"] {
        let passing = threads(1);
        let touched = passing.block_on(async { presence.touch(&"42".into(), &[Touch::now(user)]).await });
        touched.expect("the connection is there");
    }
    assert_eq!(lasting.block_on(connections(&mut raw)), before);
}

/// How many connections Redis ever took.
async fn connections(redis: &mut MultiplexedConnection) -> u64 {
    let info: redis::InfoDict = redis::cmd("INFO").arg("stats").query_async(redis).await.unwrap();
    info.get("total_connections_received").unwrap()
}

#[tokio::test]
async fn a_demoted_primary_is_left() {
    let server = RedisServer::start(&[]);
    let metrics = Arc::<Metrics>::default();
    let presence =
        redis_presence::open_with(&server.config(), WINDOW, &Status::default(), Arc::clone(&metrics));
    until_it_answers(&presence).await;
    let mut raw = server.raw().await;
    let _: () = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .query_async(&mut raw)
        .await
        .unwrap();
    let before = connections(&mut raw).await;
    let refused = presence.touch(&"42".into(), &[Touch::now("a")]).await;
    assert!(
        matches!(refused, Err(PresenceError::Unavailable(_))),
        "{refused:?}"
    );
    let _: () = redis::cmd("REPLICAOF")
        .arg("NO")
        .arg("ONE")
        .query_async(&mut raw)
        .await
        .unwrap();
    until_it_answers(&presence).await;
    let after = connections(&mut raw).await;
    assert!(
        after > before,
        "the same connection may lead to the old primary for ever"
    );
}

#[tokio::test]
async fn a_demoted_primary_is_noticed_without_a_touch() {
    let server = RedisServer::start(&[]);
    let presence = redis_presence::open(&server.config(), WINDOW);
    until_it_answers(&presence).await;
    let mut raw = server.raw().await;
    let mut demotion = redis::cmd("REPLICAOF");
    demotion.arg("127.0.0.1").arg(1);
    demotion.exec_async(&mut raw).await.unwrap();
    let refused = presence.sweep().await;
    assert!(
        matches!(refused, Err(PresenceError::Unavailable(_))),
        "{refused:?}"
    );
}
