//! What is pushed, to whom, and when.

use ::redis::AsyncCommands as _;
use serde_json::{Value, json};

use super::{live, short_lived};
use crate::support::backend::Variant;
use crate::support::live::{Events, Socket};
use crate::support::member::Member;
use crate::support::redis::{self, eventually};
use crate::support::world::{Parts, Wanted, World, any_prefix};

async fn a_visitor_is_pushed_to_both_kinds(parts: Parts, variant: Variant) {
    let world = Wanted::new(parts, variant).start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    let mut events = Events::open(&world.sidecar, &path, &alice).await;
    // The open connections count for alice, as soon as they are noticed.
    socket.until(1).await;
    events.until(1).await;
    bob.sees(&world.community("rust")).await;
    let pushed = (socket.until(2).await, events.until(2).await);
    assert_eq!(pushed.0, pushed.1, "the same change");
    assert_eq!(
        alice.json(&world.visitors("rust", "/count")).await["current_visitors"],
        2
    );
}

#[tokio::test]
async fn a_visitor_is_pushed_with_postgres_and_redis() {
    a_visitor_is_pushed_to_both_kinds(Parts::Production, Variant::Default).await;
}

#[tokio::test]
async fn a_visitor_is_pushed_with_uuid_keys() {
    a_visitor_is_pushed_to_both_kinds(Parts::Production, Variant::Uuid).await;
}

#[tokio::test]
async fn a_visitor_is_pushed_on_the_embedded_parts() {
    a_visitor_is_pushed_to_both_kinds(Parts::Embedded, Variant::Default).await;
}

#[tokio::test]
async fn an_event_stream_says_what_it_is() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let mut events = Events::open(&world.sidecar, &live(&world, "rust"), &alice).await;
    let head = events.head.clone();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert!(head.header("date").is_some());
    let hint = events.line().await.expect("a line");
    assert!(hint.starts_with("retry: "), "{hint}");
    let mut fields = Vec::new();
    while fields.len() < 3 {
        fields.push(events.line().await.expect("a line"));
    }
    let data: Value = serde_json::from_str(fields[2].strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!(fields[0], "");
    assert_eq!(fields[1], format!("id: {}", data["seq"]));
    assert_eq!(data["type"], "count");
    assert_eq!(data["community_id"].to_string(), world.seeded.community("rust"));
    let label = "headcount_requests_total{route=\"visitors_api\",status=\"2xx\"}";
    world
        .sidecar
        .wait_for_metric(label, |requests| requests >= 1.0)
        .await;
}

#[tokio::test]
async fn an_http_1_0_client_gets_its_events_without_chunks() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let mut wire = crate::support::wire::Wire::open(world.sidecar.port).await;
    wire.send(format!(
        "GET {} HTTP/1.0\r\nAccept: text/event-stream\r\nCookie: {}\r\n\r\n",
        live(&world, "rust"),
        alice.cookie()
    ))
    .await;
    let head = wire.head().await;
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(wire.take(7).await, b"retry: ");
}

/// Nobody asks for anything: the sweep notices, in Redis that sends no notifications about keys.
#[tokio::test]
async fn p5_a_leave_reaches_subscribers_without_a_request_or_a_notification() {
    let mut raw = redis::shared().raw().await;
    let notifications: Vec<String> = ::redis::cmd("CONFIG")
        .arg(&["GET", "notify-keyspace-events"])
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(notifications[1], "");
    let world = short_lived("10s", "[live]\nheartbeat = false\n").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut socket = Socket::open(&world.sidecar, &live(&world, "rust"), &alice).await;
    assert_eq!(socket.count().await.1, 0);
    bob.sees(&world.community("rust")).await;
    let came = socket.until(1).await;
    let left = socket.until(0).await;
    assert!(left > came);
}

#[tokio::test]
async fn p11_a_reader_of_one_page_is_still_there_while_the_connection_is_open() {
    // Alice's end reads nothing, and answers no ping.
    let world = short_lived("10s", "[live]\nping_interval = \"1h\"\n").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    // Bob's page is another's: he listens, and is not there by it.
    let mut bobs = Events::open(&world.sidecar, &format!("{path}?heartbeat=false"), &bob).await;
    let alices = Socket::open(&world.sidecar, &path, &alice).await;
    bobs.until(1).await;
    for _ in 0..2 {
        bob.sees(&world.community("rust")).await;
        bobs.until(2).await;
        // His window passes, hers does not, though she came before him.
        bobs.until(1).await;
        let list = bob.json(&world.visitors("rust", "")).await;
        assert_eq!(list["visitors"][0]["username"], "alice", "{list}");
    }
    drop(alices);
    bobs.until(0).await;
}

/// Nor is its page view one.
#[tokio::test]
async fn p11_a_robot_that_listens_is_not_there() {
    let world = World::usual().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let headless =
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0";
    let headers = [("cookie", &*alice.cookie()), ("user-agent", headless)];
    let mut robot = Socket::try_open(&world.sidecar, &path, &headers)
        .await
        .expect("it may listen");
    assert_eq!(robot.count().await.1, 0);
    let _bobs = Socket::open(&world.sidecar, &path, &bob).await;
    assert_eq!(robot.count().await.1, 1, "bob, and not the robot");
    let list = bob.json(&world.visitors("rust", "")).await;
    assert_eq!(list["visitors"][0]["username"], "bob", "{list}");
}

#[tokio::test]
async fn many_communities_on_one_connection_are_no_heartbeat() {
    let world = World::usual().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let ids = ["rust", "django"].map(|slug| world.seeded.community(slug));
    let path = format!("/api/visitors/live?communities={},{},999999", ids[0], ids[1]);
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    let mut events = Events::open(&world.sidecar, &path, &alice).await;
    for id in &ids {
        assert_eq!(socket.count().await.0, *id);
        assert_eq!(events.count().await.0, *id);
    }
    let unknown = json!({"type": "unknown", "community_id": 999_999});
    assert_eq!(socket.next().await, unknown);
    assert_eq!(events.next().await, Some(unknown));
    bob.sees(&world.community("django")).await;
    let (community, visitors, _) = socket.count().await;
    assert_eq!((&community, visitors), (&ids[1], 1), "bob, and not alice");
    assert_eq!(events.count().await.1, 1);
}

#[tokio::test]
async fn a_web_socket_asks_for_more_and_for_less() {
    let world = World::usual().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let (rust, django) = (world.seeded.community("rust"), world.seeded.community("django"));
    let path = format!("/api/visitors/live?communities={rust}");
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    assert_eq!(socket.count().await.0, rust);
    let subscribe = json!({"type": "subscribe", "communities": [django, "nowhere"]}).to_string();
    socket.say(subscribe).await;
    let answers = [socket.next().await, socket.next().await];
    assert!(
        answers
            .iter()
            .any(|answer| answer["type"] == "unknown" && answer["community_id"] == "nowhere")
    );
    assert!(answers.iter().any(|answer| answer["type"] == "count"));
    socket
        .say(json!({"type": "unsubscribe", "communities": [rust]}).to_string())
        .await;
    socket
        .say(json!({"type": "subscribe", "communities": ["nowhere"]}).to_string())
        .await;
    assert_eq!(socket.next().await["type"], "unknown");
    bob.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    bob.sees(&world.community("django")).await;
    assert_eq!(socket.count().await.0, django);
}

/// Whichever sidecar a visitor comes through, both tell the same numbers in the same order.
#[tokio::test]
async fn p6_two_sidecars_on_one_redis_push_the_same_changes() {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        config: "[live]\nheartbeat = false\nmin_interval = \"0s\"".into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let other = world.another_sidecar(&wanted);
    let alice = world.member("alice").await;
    let path = live(&world, "rust");
    let mut here = Socket::open(&world.sidecar, &path, &alice).await;
    let mut there = Events::open(&other, &path, &alice).await;
    assert_eq!((here.count().await.1, there.count().await.1), (0, 0));
    let page = world.community("rust");
    for (name, port) in [
        ("alice", world.sidecar.port),
        ("bob", other.port),
        ("carol", world.sidecar.port),
    ] {
        let visitor = Member::new(format!("http://127.0.0.1:{port}"));
        visitor.sign_in(name).await;
        visitor.sees(&page).await;
        assert_eq!(here.count().await, there.count().await);
    }
}

/// A client that came while others were told something else is told what they are.
#[tokio::test]
async fn p7_whoever_comes_later_starts_from_what_is_known() {
    let world = World::usual().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = format!("{}?heartbeat=false", live(&world, "rust"));
    let mut first = Socket::open(&world.sidecar, &path, &alice).await;
    first.until(0).await;
    bob.sees(&world.community("rust")).await;
    let seq = first.until(1).await;
    let mut second = Events::open(&world.sidecar, &path, &alice).await;
    let (_, visitors, number) = second.count().await;
    assert_eq!((visitors, number), (1, seq));
    alice.sees(&world.community("rust")).await;
    assert_eq!(first.until(2).await, second.until(2).await);
}

/// What nobody published is found by the next reading.
#[tokio::test]
async fn p6_a_count_that_changed_in_silence_is_found() {
    let prefix = any_prefix();
    let wanted = Wanted {
        key_prefix: Some(prefix.clone()),
        config: "[live]\nheartbeat = false\nresync_interval = \"1s\"".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    let mut socket = Socket::open(&world.sidecar, &live(&world, "rust"), &alice).await;
    assert_eq!(socket.count().await.1, 0);
    let mut raw = redis::shared().raw().await;
    let partitions = std::num::NonZeroU16::new(16).unwrap();
    let keys = headcount::presence::keys::Keys::new(&prefix, partitions).unwrap();
    let community = headcount::presence::Scope::from(&*world.seeded.community("rust"));
    let (seconds, _): (i64, i64) = ::redis::cmd("TIME").query_async(&mut raw).await.unwrap();
    let _: () = raw
        .zadd(keys.scope(&community).seen, "somebody", seconds * 1_000)
        .await
        .unwrap();
    socket.until(1).await;
    let resyncs = world
        .sidecar
        .metric("headcount_live_resyncs_total{reason=\"periodic\"}")
        .await;
    assert!(resyncs >= 1.0);
    eventually(async || {
        world
            .sidecar
            .metric("headcount_live_messages_total{kind=\"websocket\"}")
            .await
            >= 2.0
    })
    .await;
}
