//! Many connections at once: what each costs, and how long it takes until all hear that somebody came or left.
//!
//! By default a few, so that it is known to work. To measure, with a release build and the limit of open files
//! raised above twice the number:
//!
//! ```sh
//! cargo build --release
//! HEADCOUNT_TEST_BINARY=target/release/headcount HEADCOUNT_LIVE_CONNECTIONS=10000 HEADCOUNT_LIVE_SLOW=1000 \
//!     cargo test --test integration live::load -- --nocapture
//! ```

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use headcount::config;
use headcount::ids::UserId;
use headcount::presence::Presence as _;
use headcount::presence::Scope;
use headcount::presence::Touch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::redis;
use crate::support::redis_presence;
use crate::support::service::{LONGEST_WAIT, in_time};
use crate::support::world::{Wanted, World, any_prefix};

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A receipt: the number of visitors that was told, and when.
type Receipt = (u64, Instant);

struct Load {
    world: World,
    presence: headcount::presence::redis::Redis,
    cookie: String,
    receipts: mpsc::UnboundedReceiver<Receipt>,
    tell: mpsc::UnboundedSender<Receipt>,
    readers: JoinSet<()>,
    visitors: u64,
}

impl Load {
    async fn start(connections: usize, window: Duration) -> Self {
        let prefix = any_prefix();
        let wanted = Wanted {
            key_prefix: Some(prefix.clone()),
            record: format!("window = \"{}s\"", window.as_secs()),
            config: format!(
                "[live]\nmax_connections = {connections}\nmax_per_user = {connections}\n\
                 max_per_address = {connections}\nmin_interval = \"0s\"\nheartbeat = false\n\
                 write_timeout = \"1h\"\npong_timeout = \"1h\"\n\
                 [limits]\nmax_connections = {}\nwrite_timeout = \"1h\"\n",
                connections * 2
            ),
            ..Wanted::usual()
        };
        let world = wanted.start().await;
        let config = config::Redis {
            key_prefix: prefix,
            partitions: NonZeroU16::new(16).expect("not zero"),
            ..redis::shared().config()
        };
        let alice = world.member("alice").await;
        let (tell, receipts) = mpsc::unbounded_channel();
        Self {
            presence: redis_presence::open(&config, window),
            cookie: alice.cookie(),
            world,
            receipts,
            tell,
            readers: JoinSet::new(),
            visitors: 0,
        }
    }

    fn community(&self, slug: &str) -> Scope {
        Scope::from(&*self.world.seeded.community(slug))
    }

    /// A WebSocket on these communities, after its snapshots.
    async fn connect(&self, slugs: &[&str], small: bool) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        if small {
            socket.set_recv_buffer_size(1_024).expect("a small buffer");
        }
        let address = ([127, 0, 0, 1], self.world.sidecar.port).into();
        let mut stream = socket.connect(address).await.expect("a connection");
        let ids: Vec<_> = slugs
            .iter()
            .map(|slug| self.world.seeded.community(slug))
            .collect();
        let head = format!(
            "GET /api/visitors/live?communities={} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Cookie: {}\r\n\r\n",
            ids.join(","),
            self.cookie
        );
        stream
            .write_all(head.as_bytes())
            .await
            .expect("an open connection");
        let mut text = Vec::new();
        let told = |text: &[u8]| String::from_utf8_lossy(text).matches("current_visitors").count();
        while told(&text) < slugs.len() {
            let read = in_time("a snapshot", stream.read_buf(&mut text))
                .await
                .expect("a snapshot");
            assert!(read > 0, "{}", String::from_utf8_lossy(&text));
        }
        stream
    }

    /// So many more, each read by a task of its own.
    async fn open(&mut self, count: usize) {
        let streams: Vec<_> = stream::iter(0..count)
            .map(|_| self.connect(&["rust"], false))
            .buffer_unordered(32)
            .collect()
            .await;
        for stream in streams {
            let tell = self.tell.clone();
            self.readers.spawn(read(stream, tell));
        }
    }

    /// Somebody comes; how long each of so many took to hear of it, in order.
    async fn touch(&mut self, readers: usize) -> Vec<Duration> {
        self.visitors += 1;
        let user = UserId::new(format!("user{}", self.visitors));
        let start = Instant::now();
        let touched = self
            .presence
            .touch(&self.community("rust"), &[Touch::now(user)])
            .await;
        touched.expect("Redis answers");
        self.hear(readers, start).await
    }

    /// Waits until each of so many has heard of the present number; how long after `start` each did, in order.
    async fn hear(&mut self, readers: usize, start: Instant) -> Vec<Duration> {
        let mut times = Vec::with_capacity(readers);
        while times.len() < readers {
            let receipt = tokio::time::timeout(LONGEST_WAIT, self.receipts.recv()).await;
            let Ok(receipt) = receipt else {
                let metrics = self.world.sidecar.metrics().await;
                let live = metrics
                    .iter()
                    .filter(|(name, value)| name.contains("_live_") && **value != 0.0);
                panic!(
                    "{} of {readers} heard; {:?}; {}",
                    times.len(),
                    live.collect::<Vec<_>>(),
                    self.world.sidecar.log()
                );
            };
            let (visitors, at) = receipt.expect("readers");
            if visitors == self.visitors {
                times.push(at.saturating_duration_since(start));
            }
        }
        times.sort();
        times
    }

    /// Many touches; the times of all.
    async fn touches(&mut self, rounds: usize, readers: usize) -> Vec<Duration> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.extend(self.touch(readers).await);
        }
        times.sort();
        times
    }
}

/// Reads, tells, and answers pings, for ever.
async fn read(mut stream: TcpStream, tell: mpsc::UnboundedSender<Receipt>) {
    const FIELD: &str = "\"current_visitors\":";
    let mut buffer = vec![0; 1_024];
    while let Ok(read) = stream.read(&mut buffer).await
        && read > 0
    {
        let at = Instant::now();
        // An empty ping; these two bytes occur in nothing else.
        for _ in buffer[..read].windows(2).filter(|pair| *pair == [0x89, 0]) {
            let _ = stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await;
        }
        let text = String::from_utf8_lossy(&buffer[..read]);
        for piece in text.split(FIELD).skip(1) {
            let digits: String = piece.chars().take_while(char::is_ascii_digit).collect();
            if let Ok(visitors) = digits.parse() {
                let _ = tell.send((visitors, at));
            }
        }
    }
}

fn told(what: &str, times: &[Duration]) {
    let at = |part: usize| times[(times.len() - 1) * part / 1_000];
    println!(
        "{what}: {} receipts, p50 {:?}, p99 {:?}, last {:?}",
        times.len(),
        at(500),
        at(990),
        at(1_000)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_many_connections_hear_of_a_touch_with_and_without_slow_ones() {
    let connections = setting("HEADCOUNT_LIVE_CONNECTIONS", 100);
    let slow = setting("HEADCOUNT_LIVE_SLOW", 10);
    let rounds = setting("HEADCOUNT_LIVE_ROUNDS", 5);
    let mut load = Load::start(2 * (connections + slow), Duration::from_secs(3_600)).await;
    // What is made once for all is not a connection's.
    load.open(16).await;
    load.touch(16).await;
    let before = load.world.sidecar.resident_bytes();
    load.open(connections).await;
    let readers = connections + 16;
    load.touch(readers).await;
    let after = load.world.sidecar.resident_bytes();
    println!(
        "{connections} connections: {} KiB resident, {} bytes each",
        after / 1_024,
        after.saturating_sub(before) / connections
    );
    let times = load.touches(rounds, readers).await;
    told("without slow ones", &times);

    let stuck: Vec<_> = stream::iter(0..slow)
        .map(|_| load.connect(&["rust", "django"], true))
        .buffer_unordered(32)
        .collect()
        .await;
    // Changes of another community, until no slow one takes any more: what the system holds for them is full.
    let django = load.community("django");
    let messages = "headcount_live_messages_total{kind=\"websocket\"}";
    let mut visitors = 0;
    loop {
        let before = load.world.sidecar.count(messages).await;
        for _ in 0..200 {
            visitors += 1;
            let user = UserId::new(format!("user{visitors}"));
            load.presence
                .touch(&django, &[Touch::now(user)])
                .await
                .expect("Redis answers");
        }
        load.touch(readers).await;
        if load.world.sidecar.count(messages).await - before == readers {
            break;
        }
    }
    println!("{slow} slow ones are stuck after {visitors} changes");
    let times = load.touches(rounds, readers).await;
    told("with slow ones", &times);
    assert_eq!(times.len(), rounds * readers, "everybody else heard every change");
    let kind = "headcount_live_connections{kind=\"websocket\"}";
    assert_eq!(load.world.sidecar.count(kind).await, readers + slow);
    drop(stuck);
    load.world
        .sidecar
        .wait_for_metric(kind, |open| open <= f64::from(u32::try_from(readers).unwrap()))
        .await;
}

/// From the end of the window of somebody who does nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_many_connections_hear_that_somebody_left() {
    const WINDOW: Duration = Duration::from_secs(2);
    let connections = setting("HEADCOUNT_LIVE_CONNECTIONS", 100);
    let rounds = setting("HEADCOUNT_LIVE_ROUNDS", 2);
    let mut load = Load::start(2 * connections, WINDOW).await;
    load.open(connections).await;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let end = Instant::now() + WINDOW;
        let community = load.community("rust");
        let touched = load.presence.touch(&community, &[Touch::now("bob")]).await;
        touched.expect("Redis answers");
        // Some may hear of the end before others have heard of the beginning.
        times.extend(load.hear(connections, end).await);
    }
    times.sort();
    told("after the window's end", &times);
    assert_eq!(
        times.len(),
        rounds * connections,
        "everybody heard of every leave"
    );
}
