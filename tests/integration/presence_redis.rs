//! Presence in Redis: what has no like in memory. Publishing, clocks, keys, outages.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use headcount::config;
use headcount::ids::CommunityId;
use headcount::metrics::Metrics;
use headcount::presence::keys::{Keys, parse_change};
use headcount::presence::{self, CountChange, OpenError, Presence, PresenceError};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::net::TcpListener;

use crate::support::redis::{self as servers, FakeRedis, RedisServer};

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

/// Tries until it is so; fails the test after a minute.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    let tries = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), tries).await;
    waited.expect("in time");
}

/// Waits until Redis takes a touch.
async fn until_it_answers(presence: &dyn Presence) {
    eventually(async || presence.touch(&"probe".into(), &["probe".into()]).await.is_ok()).await;
}

async fn every_call_is_unavailable(presence: &dyn Presence) {
    let community = CommunityId::from("42");
    let outcomes = [
        presence.ping().await,
        presence.touch(&community, &["a".into()]).await.map(|_| ()),
        presence
            .counts(std::slice::from_ref(&community))
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
async fn every_change_is_published_and_nothing_else() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, WINDOW);
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.subscribe(keys.changes()).await.unwrap();

    let community = CommunityId::from("forty two");
    let touch = async |user: &str| presence.touch(&community, &[user.into()]).await.unwrap();
    let first = touch("a").await;
    touch("a").await;
    presence.counts(std::slice::from_ref(&community)).await.unwrap();
    presence.sweep().await.unwrap();
    let second = touch("b").await;
    let mut raw = server.raw().await;
    let names = keys.community(&community);
    let _: () = raw.zadd(&names.seen, "a", 1).await.unwrap();
    let _: () = raw.zadd(&names.due, community.as_str(), 1).await.unwrap();
    let swept = presence.sweep().await.unwrap().changes;

    let mut messages = subscription.on_message();
    for expected in [first, second, swept[0].count] {
        let message: String = messages.next().await.unwrap().get_payload().unwrap();
        let change = parse_change(&message).unwrap();
        let community = community.clone();
        assert_eq!(
            change,
            CountChange {
                community,
                count: expected
            }
        );
    }
}

/// As a Redis in 2001: whatever this machine's clock says, presence must say what Redis says.
#[expect(
    clippy::unnecessary_wraps,
    reason = "a fake may stay silent; this one does not"
)]
fn redis_of_2001(command: &[String]) -> Option<String> {
    Some(match command[0].as_str() {
        "PING" => "+PONG\r\n".into(),
        "TIME" => "*2\r\n$10\r\n1000000000\r\n$6\r\n123456\r\n".into(),
        "HGET" => "$-1\r\n".into(),
        "ZCOUNT" => ":5\r\n".into(),
        "EVALSHA" => "*3\r\n:1\r\n:7\r\n:1000000000123\r\n".into(),
        _ => "+OK\r\n".into(),
    })
}

#[tokio::test]
async fn p3_time_is_that_of_redis() {
    let redis = FakeRedis::answering(redis_of_2001).await;
    let config = servers::config(&redis.url());
    for presence in [
        servers::presence(&config, WINDOW),
        servers::presence(&config, WINDOW),
    ] {
        let count = presence.counts(&["42".into()]).await.unwrap()[0];
        assert_eq!(count.as_of.timestamp_millis(), 1_000_000_000_123);
        let touched = presence.touch(&"42".into(), &["a".into()]).await.unwrap();
        assert_eq!(touched.as_of.timestamp_millis(), 1_000_000_000_123);
    }
    let heard = redis.heard();
    let of = |name: &str| {
        heard
            .iter()
            .filter(|command| command[0] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("ZCOUNT").len(), 2);
    for command in of("ZCOUNT") {
        assert_eq!(command[2], "(999999700123", "the window before Redis' time");
    }
    assert_eq!(of("EVALSHA").len(), 2);
    assert_eq!(of("EVALSHA")[0], of("EVALSHA")[1], "scripts are told no time");
}

#[tokio::test]
async fn p2_counting_and_listing_write_nothing() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, WINDOW);
    let community = CommunityId::from("42");
    presence
        .touch(&community, &["a".into(), "b".into()])
        .await
        .unwrap();
    let mut raw = server.raw().await;
    let keys = Keys::new(&config.key_prefix, config.partitions)
        .unwrap()
        .community(&community);
    let _: () = raw.zadd(&keys.seen, "a", 1).await.unwrap();
    let page = presence.list(&community, None, 10).await.unwrap();
    presence.list(&community, page.last(), 10).await.unwrap();
    assert_eq!(presence.counts(&[community]).await.unwrap()[0].current, 1);
    let members: u64 = raw.zcard(&keys.seen).await.unwrap();
    assert_eq!(members, 2);
    presence.counts(&["never touched".into()]).await.unwrap();
    let mut found: Vec<String> = raw.keys(format!("{}:*", config.key_prefix)).await.unwrap();
    found.sort();
    assert_eq!(found, [keys.due, keys.seen, keys.state]);
}

#[tokio::test]
async fn last_seen_never_goes_back() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, WINDOW);
    let community = CommunityId::from("42");
    presence.touch(&community, &["a".into()]).await.unwrap();
    let keys = Keys::new(&config.key_prefix, config.partitions)
        .unwrap()
        .community(&community);
    let mut raw = server.raw().await;
    let _: () = raw.zadd(&keys.seen, "a", 4_000_000_000_000_i64).await.unwrap();
    presence.touch(&community, &["a".into()]).await.unwrap();
    let page = presence.list(&community, None, 10).await.unwrap();
    assert_eq!(page[0].last_seen.timestamp_millis(), 4_000_000_000_000);
}

#[tokio::test]
async fn an_abandoned_deployment_leaves_no_keys() {
    let server = servers::shared();
    let config = server.config();
    let presence = servers::presence(&config, WINDOW);
    presence.touch(&"42".into(), &["a".into()]).await.unwrap();
    let mut raw = server.raw().await;
    let keys: Vec<String> = raw.keys(format!("{}:*", config.key_prefix)).await.unwrap();
    assert_eq!(keys.len(), 3);
    for key in keys {
        let seconds: i64 = raw.ttl(&key).await.unwrap();
        assert!(
            seconds > 86_400,
            "{key} lives as long as a deployment that sweeps may need it"
        );
        assert!(seconds <= 86_700, "{key} goes in the end");
    }
}

#[tokio::test]
async fn scripts_are_loaded_again_after_redis_forgot_them() {
    let server = RedisServer::start(&[]);
    let presence = servers::presence(&server.config(), WINDOW);
    presence.touch(&"42".into(), &["a".into()]).await.unwrap();
    let mut raw = server.raw().await;
    let _: () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(
        presence.touch(&"42".into(), &["b".into()]).await.unwrap().current,
        2
    );
}

#[tokio::test]
async fn p14_numbers_rise_across_a_redis_that_restarted_empty() {
    let mut server = RedisServer::start(&[]);
    let presence = servers::presence(&server.config(), WINDOW);
    let before = presence
        .touch(&"42".into(), &["a".into(), "b".into()])
        .await
        .unwrap();
    server.restart();
    until_it_answers(&presence).await;
    let after = presence.touch(&"42".into(), &["a".into()]).await.unwrap();
    assert_eq!(after.current, 1);
    assert!(after.seq > before.seq);
}

#[tokio::test]
async fn it_starts_with_redis_down_and_finds_it_later() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let metrics = Arc::new(Metrics::new());
    let presence = servers::presence_with(&server.config(), WINDOW, Arc::clone(&metrics));
    every_call_is_unavailable(&presence).await;
    assert_eq!(metrics.redis_up.get(), 0);
    assert!(metrics.redis_errors.get() >= 5, "each failed call is counted");
    server.restart();
    until_it_answers(&presence).await;
    assert_eq!(metrics.redis_up.get(), 1);
    assert_eq!(
        presence.touch(&"42".into(), &["a".into()]).await.unwrap().current,
        1
    );
}

#[tokio::test]
async fn p9_a_server_that_never_answers_costs_each_call_its_timeout() {
    let silent = FakeRedis::silent().await;
    let presence = servers::presence(&impatient(&silent.url()), WINDOW);
    every_call_is_unavailable(&presence).await;
}

#[tokio::test]
async fn p9_a_server_that_hangs_is_left_and_found_again() {
    let server = RedisServer::start(&[]);
    let presence = servers::presence(&impatient(&server.url()), WINDOW);
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
    let presence = servers::presence(&very_patient, WINDOW);
    drop(listener.accept().await.unwrap());
    assert!(presence.ping().await.is_err(), "the first attempt failed");
    let second_attempt = listener.accept().await.unwrap();
    let while_it_lasts = tokio::time::timeout(Duration::from_secs(60), presence.ping());
    let outcome = while_it_lasts
        .await
        .expect("does not wait for the second attempt");
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
    let presence = servers::presence(&impatient(&redis.url()), WINDOW);
    presence.ping().await.unwrap();
    let silent = presence.touch(&"42".into(), &["a".into()]).await;
    assert!(matches!(silent, Err(PresenceError::Unavailable(_))), "{silent:?}");
    eventually(async || presence.ping().await.is_ok()).await;
    assert!(
        redis.connections() > 1,
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
        servers::presence(&server.config(), WINDOW)
    };
    let mut raw = lasting.block_on(server.raw());
    lasting.block_on(until_it_answers(&presence));
    let before = lasting.block_on(connections(&mut raw));
    for user in ["a", "b", "c"] {
        let passing = threads(1);
        let touched = passing.block_on(async { presence.touch(&"42".into(), &[user.into()]).await });
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
    let metrics = Arc::new(Metrics::new());
    let presence = servers::presence_with(&server.config(), WINDOW, Arc::clone(&metrics));
    until_it_answers(&presence).await;
    let mut raw = server.raw().await;
    let _: () = redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(1)
        .query_async(&mut raw)
        .await
        .unwrap();
    let before = connections(&mut raw).await;
    let refused = presence.touch(&"42".into(), &["a".into()]).await;
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

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Listens until the guard is dropped. Tests run on one thread each, their connection's task too.
    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }
}

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn p10_a_redis_that_may_evict_is_warned_of_once() {
    let mut server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let log = Log::default();
    let _listening = log.listen();
    let presence = servers::presence(&server.config(), WINDOW);
    until_it_answers(&presence).await;
    server.restart();
    until_it_answers(&presence).await;
    let text = log.text();
    assert_eq!(text.matches("allkeys-lru").count(), 1, "{text}");
    assert_eq!(text.matches("connected to Redis").count(), 2, "{text}");
}

/// What the module's documentation says that it needs; `info` is left out.
const PERMISSIONS: &[&str] = &[
    "on",
    ">s3cret",
    "~headcount:*",
    "&headcount:*",
    "+evalsha",
    "+script|load",
    "+time",
    "+ping",
    "+zadd",
    "+zcard",
    "+zcount",
    "+zrange",
    "+zrangebyscore",
    "+zrevrange",
    "+zrem",
    "+zremrangebyscore",
    "+hset",
    "+hget",
    "+hmget",
    "+pexpire",
    "+publish",
];

#[tokio::test]
async fn p10_a_narrow_acl_suffices_and_is_not_complained_of() {
    let server = RedisServer::start(&[]);
    let mut raw = server.raw().await;
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("sidecar").arg(PERMISSIONS);
    acl.exec_async(&mut raw).await.unwrap();
    let config = config::Redis {
        url: Some(config::Secret::new(
            server.url().replace("//", "//sidecar:s3cret@"),
        )),
        key_prefix: "headcount".into(),
        ..server.config()
    };
    let log = Log::default();
    let _listening = log.listen();
    let presence = servers::presence(&config, WINDOW);
    let community = CommunityId::from("42");
    assert_eq!(
        presence.touch(&community, &["a".into()]).await.unwrap().current,
        1
    );
    assert_eq!(
        presence.counts(std::slice::from_ref(&community)).await.unwrap()[0].current,
        1
    );
    let page = presence.list(&community, None, 1).await.unwrap();
    assert!(
        presence
            .list(&community, page.last(), 1)
            .await
            .unwrap()
            .is_empty()
    );
    let names = Keys::new("headcount", config.partitions)
        .unwrap()
        .community(&community);
    let _: () = raw.zadd(&names.seen, "a", 1).await.unwrap();
    let _: () = raw.zadd(&names.due, "42", 1).await.unwrap();
    assert_eq!(presence.sweep().await.unwrap().changes.len(), 1);
    let text = log.text();
    assert!(!text.contains("WARN") && !text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn a_wrong_password_is_unavailable_and_not_told() {
    let server = RedisServer::start(&["--requirepass", "right"]);
    let log = Log::default();
    let _listening = log.listen();
    let url = server.url().replace("//", "//:wr0ng-s3cret@");
    let presence = servers::presence(&servers::config(&url), WINDOW);
    every_call_is_unavailable(&presence).await;
    let text = log.text();
    assert!(
        text.contains("cannot connect to Redis") && !text.contains("wr0ng-s3cret"),
        "{text}"
    );
}

fn open(redis: &config::Redis, metrics: &Arc<Metrics>) -> Result<Arc<dyn Presence>, OpenError> {
    let runtime = tokio::runtime::Handle::current();
    presence::open(redis, &config::Record::default(), Arc::clone(metrics), &runtime)
}

#[tokio::test]
async fn without_a_url_presence_is_in_memory() {
    let metrics = Arc::new(Metrics::new());
    let presence = open(&config::Redis::default(), &metrics).unwrap();
    assert_eq!(metrics.redis_up.get(), -1);
    assert_eq!(
        presence.touch(&"42".into(), &["a".into()]).await.unwrap().current,
        1
    );
}

#[tokio::test]
async fn a_bad_url_is_refused_without_telling_its_password() {
    let metrics = Arc::new(Metrics::new());
    for url in [
        "",
        "s3cret",
        "http://user:s3cret@localhost/",
        "redis://user:s3cret@/",
        "redis://user:s3cret@localhost:99999/",
        "redis://user:s3cret@localhost/s3cret",
        "redis://user:s3cret@localhost/?protocol=s3cret",
        "rediss://user:s3cret@localhost/",
    ] {
        let error = open(&servers::config(url), &metrics).err();
        let error = error.unwrap_or_else(|| panic!("{url} is taken"));
        assert!(matches!(error, OpenError::Url(_)), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let braces = config::Redis {
        key_prefix: "site{1}".into(),
        ..servers::config("redis://localhost")
    };
    assert_eq!(open(&braces, &metrics).err(), Some(OpenError::KeyPrefix));
}
