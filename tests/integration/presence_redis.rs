//! Presence in Redis: publishing, clocks, keys, scripts.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use headcount::config;
use headcount::ids::Finer;
use headcount::presence::Scope;
use headcount::presence::keys::{Keys, parse_change};
use headcount::presence::{CountChange, Presence, Touch};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

use crate::support::fake_redis::FakeRedis;
use crate::support::redis::{self as servers, RedisServer, eventually};
use crate::support::redis_presence::{self, until_it_answers};

const WINDOW: Duration = Duration::from_secs(300);

#[tokio::test]
async fn every_change_is_published_and_nothing_else() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut subscription = client.get_async_pubsub().await.unwrap();
    subscription.subscribe(keys.changes()).await.unwrap();

    let community = Scope::from("forty two");
    let touch = async |user: &str| presence.touch(&community, &[Touch::now(user)]).await.unwrap();
    let first = touch("a").await;
    touch("a").await;
    presence
        .all_counts(std::slice::from_ref(&community))
        .await
        .unwrap();
    presence.sweep().await.unwrap();
    let second = touch("b").await;
    let mut raw = server.raw().await;
    let names = keys.scope(&community);
    let _: () = raw.zadd(&names.seen, "a", 1).await.unwrap();
    let _: () = raw.zadd(&names.due, community.to_string(), 1).await.unwrap();
    let swept = presence.sweep().await.unwrap().changes;

    let mut messages = subscription.on_message();
    for expected in [first, second, swept[0].count] {
        let message: String = messages.next().await.unwrap().get_payload().unwrap();
        let change = parse_change(&message).unwrap();
        let community = community.clone();
        assert_eq!(
            change,
            CountChange {
                scope: community,
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
        "ZRANGE" => "*0\r\n".into(),
        "ZCOUNT" => ":5\r\n".into(),
        "EVALSHA" => "*3\r\n:1000000000123\r\n:1\r\n:7\r\n".into(),
        _ => "+OK\r\n".into(),
    })
}

#[tokio::test]
async fn p3_time_is_that_of_redis() {
    let redis = FakeRedis::answering(redis_of_2001).await;
    let config = servers::config(&redis.url());
    for presence in [
        redis_presence::open(&config, WINDOW),
        redis_presence::open(&config, WINDOW),
    ] {
        let count = presence.all_counts(&["42".into()]).await.unwrap().value[0];
        assert_eq!(count.as_of.timestamp_millis(), 1_000_000_000_123);
        let touched = presence.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
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
    for command in of("EVALSHA") {
        let (sent, user, age) = (&command[10], &command[16], &command[17]);
        let of_2001 = 1_000_000_000_000..1_000_100_000_000_i64;
        assert!(of_2001.contains(&sent.parse().unwrap()), "{command:?}");
        assert_eq!(user, "a");
        assert!(age.parse::<u64>().unwrap() < 100_000, "{command:?}");
    }
    let told = heard.iter().flatten().filter_map(|word| word.parse().ok());
    let latest: i64 = told.max().unwrap();
    assert!(
        latest < 1_000_100_000_000,
        "nobody told Redis the time of this machine: {latest}"
    );
}

/// As a Redis whose clock is set to 2002 by the first touch: whoever still counts on 2001 is too late.
fn redis_set_to_2002(command: &[String]) -> Option<String> {
    let is_late = |sent: &str| sent.parse::<i64>().unwrap() < 1_031_536_000_000;
    Some(match command[0].as_str() {
        "EVALSHA" if is_late(&command[10]) => "*1\r\n:1031536000000\r\n".into(),
        "EVALSHA" => "*3\r\n:1031536000123\r\n:1\r\n:7\r\n".into(),
        _ => redis_of_2001(command)?,
    })
}

#[tokio::test]
async fn p3_a_clock_that_was_set_costs_one_more_call() {
    let redis = FakeRedis::answering(redis_set_to_2002).await;
    let presence = redis_presence::open(&servers::config(&redis.url()), WINDOW);
    for _ in 0..2 {
        let touched = presence.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
        assert_eq!((touched.current, touched.seq), (1, 7));
        assert_eq!(touched.as_of.timestamp_millis(), 1_031_536_000_123);
    }
    let touches = redis
        .heard()
        .iter()
        .filter(|command| command[0] == "EVALSHA")
        .count();
    assert_eq!(touches, 3, "refused, made again, and from then on taken at once");
}

#[tokio::test]
async fn p2_counting_and_listing_write_nothing() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    let community = Scope::from("42");
    presence
        .touch(&community, &[Touch::now("a"), Touch::now("b")])
        .await
        .unwrap();
    let mut raw = server.raw().await;
    let keys = Keys::new(&config.key_prefix, config.partitions)
        .unwrap()
        .scope(&community);
    let _: () = raw.zadd(&keys.seen, "a", 1).await.unwrap();
    let page = presence.list(&community, None, 10).await.unwrap().value;
    presence.list(&community, page.last(), 10).await.unwrap();
    assert_eq!(
        presence.all_counts(&[community]).await.unwrap().value[0].current,
        1
    );
    let members: u64 = raw.zcard(&keys.seen).await.unwrap();
    assert_eq!(members, 2);
    presence.all_counts(&["never touched".into()]).await.unwrap();
    assert_eq!(presence.communities(10).await.unwrap().value.len(), 1);
    let mut found: Vec<String> = raw.keys(format!("{}:*", config.key_prefix)).await.unwrap();
    found.sort();
    let settings = keys.due.replace("}:due", "}:settings");
    assert_eq!(found, [keys.due, keys.seen, settings, keys.state]);
}

/// As a sidecar of before left it that knew nothing of clocks which are set back, or with what tells of it gone.
#[tokio::test]
async fn p18_whoever_was_seen_in_the_future_is_taken_for_seen_now() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    let community = Scope::from("42");
    presence.touch(&community, &[Touch::now("a")]).await.unwrap();
    let keys = Keys::new(&config.key_prefix, config.partitions)
        .unwrap()
        .scope(&community);
    let mut raw = server.raw().await;
    let future = 4_000_000_000_000_i64;
    let _: () = raw.zadd(&keys.seen, "a", future).await.unwrap();
    let touched = presence.touch(&community, &[Touch::now("b")]).await.unwrap();
    let page = presence.list(&community, None, 10).await.unwrap().value;
    assert_eq!(page.len(), 2);
    assert!(
        page.iter().all(|seen| seen.last_seen <= touched.as_of),
        "{page:?}"
    );

    let _: () = raw.del(&keys.seen).await.unwrap();
    let _: () = raw.zadd(&keys.seen, "a", future).await.unwrap();
    let _: () = raw.zadd(&keys.due, community.to_string(), future).await.unwrap();
    presence.sweep().await.unwrap();
    let page = presence.list(&community, None, 10).await.unwrap().value;
    assert!(page[0].last_seen.timestamp_millis() < future, "{page:?}");
}

#[tokio::test]
async fn an_abandoned_deployment_leaves_no_keys() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    presence.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
    let mut raw = server.raw().await;
    let keys: Vec<String> = raw.keys(format!("{}:*", config.key_prefix)).await.unwrap();
    assert_eq!(keys.len(), 4);
    for key in keys {
        let seconds: i64 = raw.ttl(&key).await.unwrap();
        assert!(
            seconds > 86_400,
            "{key} lives as long as a deployment that sweeps may need it"
        );
        assert!(seconds <= 86_700, "{key} goes in the end");
    }
}

/// There are as many scopes within communities as the app has pages.
#[tokio::test]
async fn keys_of_what_is_finer_outlive_its_window_by_minutes_and_those_of_a_community_by_a_day() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let post = Scope::Finer("42".into(), Finer::new("post", "7").unwrap());
    presence.touch(&post, &[Touch::now("a")]).await.unwrap();
    let expiry = async |key: &str| -> i64 { server.does(&["PTTL", key]).await };
    let (names, of_community) = (keys.scope(&post), keys.scope(&post.group()));
    for key in [&names.seen, &names.state] {
        let expires = expiry(key).await;
        assert!((1..=10 * 60_000).contains(&expires), "{key}: {expires}");
    }
    // The set of what is due is also that of the whole site.
    for key in [
        &names.due,
        &of_community.seen,
        &of_community.state,
        &of_community.due,
    ] {
        let expires = expiry(key).await;
        assert!(expires > 24 * 60 * 60_000, "{key}: {expires}");
    }
}

#[tokio::test]
async fn scripts_are_loaded_again_after_redis_forgot_them() {
    let server = RedisServer::start(&[]);
    let presence = redis_presence::open(&server.config(), WINDOW);
    presence.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
    let mut raw = server.raw().await;
    let _: () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(
        presence
            .touch(&"42".into(), &[Touch::now("b")])
            .await
            .unwrap()
            .current,
        2
    );
}

/// How many scripts were called.
async fn scripts_called(redis: &mut MultiplexedConnection) -> u64 {
    let mut info = redis::cmd("INFO");
    let stats: String = info.arg("commandstats").query_async(redis).await.unwrap();
    let evalsha = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    evalsha.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn p14_a_touch_that_a_hung_redis_finds_when_nobody_waits_for_it_is_not_taken() {
    let server = RedisServer::start(&[]);
    let timeout = Duration::from_secs(2);
    let config = config::Redis {
        response_timeout: timeout,
        ..server.config()
    };
    let presence = redis_presence::open(&config, WINDOW);
    until_it_answers(&presence).await;
    let mut raw = server.raw().await;
    let before = scripts_called(&mut raw).await;

    server.hang();
    let community = Scope::from("42");
    let given_up = presence.touch(&community, &[Touch::now("a")]).await;
    assert!(given_up.is_err(), "{given_up:?}");
    // The time that is given is twice that of an answer.
    let since = Instant::now();
    eventually(async || since.elapsed() > 3 * timeout).await;
    server.resume();

    eventually(async || scripts_called(&mut raw.clone()).await > before).await;
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let found: u64 = raw.zcard(keys.scope(&community).seen).await.unwrap();
    assert_eq!(
        found, 0,
        "the touch was made long ago, but carries the age of then"
    );
}

#[tokio::test]
async fn each_sweep_leaves_a_mark_that_goes_when_the_sidecar_does() {
    let server = servers::shared();
    let config = server.config();
    let presence = redis_presence::open(&config, WINDOW);
    presence.sweep().await.unwrap();
    presence.sweep().await.unwrap();
    let mut raw = server.raw().await;
    let keys: Vec<String> = raw.keys(format!("{}:*", config.key_prefix)).await.unwrap();
    let (marks, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.contains("}:mark:"));
    assert_eq!(marks.len(), usize::from(config.partitions.get()), "{marks:?}");
    // Which sidecar sweeps, in the first partition.
    let (leases, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|key| key.ends_with("}:sweeper"));
    assert_eq!(leases.len(), 1, "{leases:?}");
    assert!(others.iter().all(|key| key.ends_with("}:settings")), "{others:?}");
    for (keys, longest) in [(marks, 60_000), (leases, 3_000)] {
        for key in keys {
            let left: i64 = raw.pttl(&key).await.unwrap();
            // -2: it has expired meanwhile; -1 would be a key that stays.
            assert!(left != -1 && left <= longest, "{key} lives for {left} ms");
        }
    }
}
