//! Redis stops, hangs, falls silent and comes back while people listen.

use std::sync::Arc;
use std::time::Duration;

use headcount::config;
use headcount::presence::Metrics;
use headcount::presence::Presence as _;
use headcount::presence::changes::Event;
use headcount::status::Status;

use super::live;
use crate::support::fake_redis::FakeRedis;
use crate::support::live::{Events, Socket};
use crate::support::proxy::Proxy;
use crate::support::redis::{self, RedisServer, eventually};
use crate::support::redis_presence::{self, until_it_answers};
use crate::support::world::{Wanted, World};

const RESYNCED: &str = "headcount_live_resyncs_total{reason=\"listening\"}";
const HEARD: &str = "headcount_live_subscription_up";

/// Nobody is there by listening, so that the count is that of the pages.
async fn on(redis: String, keys: &str) -> World {
    let wanted = Wanted {
        redis: Some(redis),
        redis_keys: keys.into(),
        config: "[live]\nheartbeat = false\nresync_interval = \"1h\"".into(),
        ..Wanted::usual()
    };
    wanted.start().await
}

#[tokio::test]
async fn p6_after_redis_was_killed_and_restarted_everybody_is_told_again() {
    let mut server = RedisServer::start(&[]);
    let world = on(server.url(), "").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    let mut events = Events::open(&world.sidecar, &path, &alice).await;
    bob.sees(&world.community("rust")).await;
    let before = socket.until(1).await;
    events.until(1).await;
    let resyncs = world.sidecar.metric(RESYNCED).await;
    server.kill();
    world.sidecar.wait_for_metric(HEARD, |heard| heard == 0.0).await;
    server.restart();
    world.sidecar.wait_for_metric(RESYNCED, |now| now > resyncs).await;
    world
        .sidecar
        .wait_for_metric("headcount_redis_up", |up| up == 1.0)
        .await;
    // One more than were there before, should the sidecar remember them, and one at least.
    let carol = world.member("carol").await;
    carol.sees(&world.community("rust")).await;
    bob.sees(&world.community("rust")).await;
    let after = socket.until(2).await;
    assert!(after > before, "numbers rise");
    events.until(2).await;
}

#[tokio::test]
async fn p6_after_redis_hung_nothing_is_missing() {
    let redis = Proxy::before(redis::shared().port()).await;
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let world = on(url, "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut socket = Socket::open(&world.sidecar, &live(&world, "rust"), &alice).await;
    bob.sees(&world.community("rust")).await;
    socket.until(1).await;
    redis.hang();
    let carol = world.member("carol").await;
    carol.sees(&world.community("rust")).await;
    world
        .sidecar
        .wait_for_metric("headcount_redis_up", |up| up == 0.0)
        .await;
    // Whoever comes now is told what this sidecar has seen itself, and what it is worth.
    let mut other = Socket::open(&world.sidecar, &live(&world, "django"), &alice).await;
    let told = other.next().await;
    assert_eq!(
        (&told["current_visitors"], &told["stale"]),
        (&0.into(), &true.into())
    );
    redis.resume().await;
    let told = other.next().await;
    assert_eq!(
        (&told["current_visitors"], &told["stale"]),
        (&0.into(), &false.into())
    );
    eventually(async || {
        carol.sees(&world.community("rust")).await;
        bob.sees(&world.community("rust")).await;
        let list = alice.get(&world.visitors("rust", "/count")).await;
        list.status() == 200 && list.json::<serde_json::Value>().await.unwrap()["current_visitors"] == 2
    })
    .await;
    socket.until(2).await;
}

#[tokio::test]
async fn a_sidecar_that_starts_without_redis_pushes_as_soon_as_it_is_there() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let world = on(server.url(), "").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let headers = [("cookie", &*alice.cookie())];
    assert_eq!(
        Socket::try_open(&world.sidecar, &path, &headers).await.err(),
        Some(503)
    );
    server.restart();
    world.sidecar.wait_for_metric(HEARD, |heard| heard == 1.0).await;
    world
        .sidecar
        .wait_for_metric("headcount_redis_up", |up| up == 1.0)
        .await;
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    bob.sees(&world.community("rust")).await;
    socket.until(1).await;
}

/// Takes subscriptions, and never delivers anything; all else works.
#[expect(
    clippy::unnecessary_wraps,
    reason = "a fake may stay silent; this one always answers"
)]
fn deaf(command: &[String]) -> Option<String> {
    Some(match command[0].as_str() {
        "PING" => "+PONG\r\n".into(),
        "PUBLISH" => ":1\r\n".into(),
        "SUBSCRIBE" => {
            let channel = &command[1];
            format!(
                "*3\r\n$9\r\nsubscribe\r\n${}\r\n{channel}\r\n:1\r\n",
                channel.len()
            )
        }
        _ => "+OK\r\n".into(),
    })
}

#[tokio::test]
async fn p8_a_subscription_that_is_open_and_silent_is_replaced() {
    let redis = FakeRedis::answering(deaf).await;
    let config = config::Redis {
        response_timeout: Duration::from_millis(200),
        ..redis::config(&redis.url())
    };
    let metrics = Arc::<Metrics>::default();
    let presence = redis_presence::open_with(
        &config,
        Duration::from_secs(300),
        &Status::default(),
        Arc::clone(&metrics),
    );
    eventually(async || presence.ping().await.is_ok()).await;
    let mut changes = presence.subscribe();
    // Each is a subscription of its own, the second because the first kept silent.
    for _ in 0..2 {
        assert_eq!(changes.recv().await.unwrap(), Event::Listening);
    }
    let heard = redis.heard();
    let of = |name: &str| heard.iter().filter(|command| command[0] == name).count();
    assert!(of("SUBSCRIBE") >= 2 && of("PUBLISH") >= 1);
}

#[tokio::test]
async fn p8_a_subscription_that_delivers_stays() {
    let server = redis::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, Duration::from_secs(300));
    until_it_answers(&presence).await;
    let mut raw = server.raw().await.clone();
    let mut watching = ::redis::Client::open(server.url())
        .unwrap()
        .get_async_pubsub()
        .await
        .unwrap();
    watching
        .subscribe(format!("{}:changes", config.key_prefix))
        .await
        .unwrap();
    let mut changes = presence.subscribe();
    assert_eq!(changes.recv().await.unwrap(), Event::Listening);
    // Two probes, and between them nothing but changes.
    let mut messages = watching.on_message();
    for _ in 0..2 {
        loop {
            use futures_util::StreamExt as _;
            let message = messages.next().await.unwrap();
            if message.get_payload::<String>().unwrap().starts_with("probe ") {
                break;
            }
        }
        presence
            .touch(
                &"42".into(),
                &[headcount::presence::Touch::now(
                    uuid::Uuid::new_v4().to_string().as_str(),
                )],
            )
            .await
            .unwrap();
        let event = changes.recv().await.unwrap();
        assert!(
            matches!(&event, Event::Change(change) if change.scope.to_string() == "42"),
            "{event:?}"
        );
    }
    let listeners: Vec<(String, u64)> = ::redis::cmd("PUBSUB")
        .arg("NUMSUB")
        .arg(format!("{}:changes", config.key_prefix))
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(listeners[0].1, 2, "this test's, and the one");
}

/// However many listen, Redis sees one subscription.
#[tokio::test]
async fn one_subscription_serves_everybody() {
    let server = RedisServer::start(&[]);
    let world = on(server.url(), "").await;
    let alice = world.member("alice").await;
    let mut sockets = Vec::new();
    for slug in ["rust", "django", "rust"] {
        sockets.push(Socket::open(&world.sidecar, &live(&world, slug), &alice).await);
    }
    let mut raw = server.raw().await;
    let channels: Vec<String> = ::redis::cmd("PUBSUB")
        .arg("CHANNELS")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(channels.len(), 1, "{channels:?}");
    let listeners: Vec<(String, u64)> = ::redis::cmd("PUBSUB")
        .arg("NUMSUB")
        .arg(&channels)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(listeners[0].1, 1);
}
