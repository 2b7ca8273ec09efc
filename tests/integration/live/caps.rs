//! How many there may be, and who is let go.

use std::num::NonZeroU16;
use std::time::Duration;

use headcount::config;
use headcount::ids::UserId;
use headcount::presence::Scope;
use headcount::presence::{Presence as _, Touch};
use tokio::net::{TcpSocket, TcpStream};

use super::{closed, live, refused};
use crate::support::live::{Events, Socket};
use crate::support::member::{FIREFOX, Member};
use crate::support::redis;
use crate::support::redis_presence;
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World, any_prefix};

async fn world(live: &str) -> World {
    let wanted = Wanted {
        config: format!("[live]\n{live}\n"),
        ..Wanted::usual()
    };
    wanted.start().await
}

async fn refusal(world: &World, member: &Member) -> Option<u16> {
    let headers = [("cookie", &*member.cookie())];
    let path = live(world, "rust");
    Socket::try_open(&world.sidecar, &path, &headers).await.err()
}

#[tokio::test]
async fn l3_each_user_has_so_many_connections() {
    let world = world("max_per_user = 2").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let first = Socket::open(&world.sidecar, &path, &alice).await;
    let _second = Events::open(&world.sidecar, &path, &alice).await;
    assert_eq!(refusal(&world, &alice).await, Some(429));
    assert_eq!(refusal(&world, &bob).await, None);
    assert_eq!(world.sidecar.metric(&refused("user")).await, 1.0);
    drop(first);
    world
        .sidecar
        .wait_for_metric(&closed("client"), |gone| gone == 2.0)
        .await;
    assert_eq!(refusal(&world, &alice).await, None);
}

#[tokio::test]
async fn l3_each_address_has_so_many_connections_and_all_together() {
    let crowded = world("max_per_address = 1").await;
    let (alice, bob) = (crowded.member("alice").await, crowded.member("bob").await);
    let _alices = Socket::open(&crowded.sidecar, &live(&crowded, "rust"), &alice).await;
    assert_eq!(refusal(&crowded, &bob).await, Some(429));
    assert_eq!(crowded.sidecar.metric(&refused("address")).await, 1.0);
    let full = world("max_connections = 1").await;
    let (alice, bob) = (full.member("alice").await, full.member("bob").await);
    let _alices = Socket::open(&full.sidecar, &live(&full, "rust"), &alice).await;
    assert_eq!(refusal(&full, &bob).await, Some(503));
    assert_eq!(full.sidecar.metric(&refused("full")).await, 1.0);
    // What has no place for an event stream says when to come back, and ends.
    let mut events = Events::open(&full.sidecar, &live(&full, "rust"), &bob).await;
    let last = events.ends().await;
    assert_eq!((&last["type"], &last["code"]), (&"close".into(), &1013.into()));
    events.closes().await;
    // The site does not mind.
    bob.sees(&full.community("rust")).await;
}

/// The head of a handshake, for sockets that a test speaks byte by byte.
pub(super) fn handshake(world: &World, member: &Member) -> String {
    format!(
        "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: {FIREFOX}\r\n\
         Cookie: {}\r\n\r\n",
        live(world, "rust"),
        world.sidecar.port,
        member.cookie()
    )
}

#[tokio::test]
async fn l3_a_peer_that_does_not_answer_pings_is_dropped() {
    let world = world("ping_interval = \"1s\"\npong_timeout = \"30s\"").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut silent = Wire::open(world.sidecar.port).await;
    silent.send(handshake(&world, &alice)).await;
    assert_eq!(silent.head().await.status, 101);
    let mut answering = Socket::open(&world.sidecar, &live(&world, "rust"), &bob).await;
    let dropped = closed("dead");
    let answers = async {
        loop {
            answering.next().await;
        }
    };
    tokio::select! {
        _ = world.sidecar.wait_for_metric(&dropped, |dead| dead == 1.0) => {}
        () = answers => {}
    }
    // The connection is gone, and not only forgotten.
    silent.rest().await;
    assert_eq!(
        world
            .sidecar
            .metric("headcount_live_connections{kind=\"websocket\"}")
            .await,
        1.0
    );
}

/// A community in which the number changes as fast as can be, and somebody who reads every value.
struct Busy {
    world: World,
    presence: headcount::presence::redis::Redis,
    community: Scope,
    path: String,
    alice: Member,
    fast: Socket,
    visitors: u64,
}

impl Busy {
    async fn start() -> Self {
        let prefix = any_prefix();
        let wanted = Wanted {
            config: "[live]\nmin_interval = \"0s\"\nwrite_timeout = \"1h\"\nping_interval = \"1h\"\n\
                     heartbeat = false\n[limits]\nwrite_timeout = \"1h\""
                .into(),
            key_prefix: Some(prefix.clone()),
            ..Wanted::usual()
        };
        let world = wanted.start().await;
        let alice = world.member("alice").await;
        let path = live(&world, "rust");
        let mut fast = Socket::open(&world.sidecar, &path, &alice).await;
        assert_eq!(fast.count().await.1, 0);
        let config = config::Redis {
            key_prefix: prefix,
            partitions: NonZeroU16::new(16).unwrap(),
            ..redis::shared().config()
        };
        Self {
            presence: redis_presence::open(&config, Duration::from_secs(300)),
            community: Scope::from(&*world.seeded.community("rust")),
            world,
            path,
            alice,
            fast,
            visitors: 0,
        }
    }

    /// A connection that holds as little as can be.
    async fn small(&self) -> TcpStream {
        let small = TcpSocket::new_v4().unwrap();
        small.set_recv_buffer_size(1_024).unwrap();
        let address = ([127, 0, 0, 1], self.world.sidecar.port);
        small.connect(address.into()).await.unwrap()
    }

    /// Visitors come, straight into Redis, until so many values were skipped for those who do not read.
    async fn until_skipped(&mut self, values: f64) {
        let skipped = "headcount_live_values_skipped_total";
        while self.world.sidecar.metric(skipped).await < values {
            for _ in 0..100 {
                self.visitors += 1;
                let user = UserId::new(format!("user{}", self.visitors));
                self.presence
                    .touch(&self.community, &[Touch::now(user)])
                    .await
                    .unwrap();
                assert_eq!(self.fast.count().await.1, self.visitors, "each, and at once");
            }
        }
    }
}

#[tokio::test]
async fn l1_a_slow_consumer_never_slows_the_others() {
    let mut busy = Busy::start().await;
    let headers = [("cookie", &*busy.alice.cookie())];
    let small = busy.small().await;
    let slow = Socket::over(small, busy.world.sidecar.port, &busy.path, &headers).await;
    let mut slow = slow.expect("a place");
    busy.until_skipped(500.0).await;
    let mut received = 1;
    while slow.count().await.1 < busy.visitors {
        received += 1;
    }
    assert!(
        received + 500 < busy.visitors,
        "{received} of {}: a queue would hold all",
        busy.visitors
    );
}

/// Nobody answers for an event stream; the system holds few values for it all the same.
#[tokio::test]
async fn l1_an_event_stream_that_is_not_read_holds_a_short_queue() {
    let mut busy = Busy::start().await;
    let small = busy.small().await;
    let mut slow = Events::over(small, &busy.path, &busy.alice).await;
    busy.until_skipped(500.0).await;
    let mut received = 1_u32;
    while slow.count().await.1 < busy.visitors {
        received += 1;
    }
    assert!(received < 200, "{received}");
}

#[tokio::test]
async fn l3_sigterm_sends_everybody_away_and_keeps_nobody() {
    let wanted = Wanted {
        // Who waits for live connections would wait for ever.
        config: "[limits]\ngrace_period = \"1h\"".into(),
        ..Wanted::usual()
    };
    let mut world = wanted.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    let mut events = Events::open(&world.sidecar, &path, &alice).await;
    let mut deaf = Wire::open(world.sidecar.port).await;
    deaf.send(handshake(&world, &bob)).await;
    assert_eq!(deaf.head().await.status, 101);
    socket.until(2).await;
    events.until(2).await;
    world.sidecar.signal("TERM");
    let retry = loop {
        let message = socket.next().await;
        if message["type"] != "count" {
            break message;
        }
    };
    assert!(retry["type"] == "retry" && retry["after_ms"].is_u64(), "{retry}");
    assert_eq!(socket.close_code().await, 1001);
    let last = events.ends().await;
    assert_eq!((&last["type"], &last["code"]), (&"close".into(), &1001.into()));
    assert_eq!(world.sidecar.wait_for_end(), Some(0), "{}", world.sidecar.log());
    let log = world.sidecar.log();
    assert!(!log.contains("cut off") && !log.contains("panicked"), "{log}");
}
