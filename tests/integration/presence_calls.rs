//! How many calls presence costs Redis: counted by Redis itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headcount::config;
use headcount::ids::Finer;
use headcount::page_view::{self, Queue};
use headcount::presence::keys::{Keys, encode};
use headcount::presence::moment::Moment;
use headcount::presence::{
    Metrics, Presence, PresenceError, Scope, Touch, TouchedGroup, Whereabouts, worker,
};
use headcount::status::Status;
use headcount::tasks::Tasks;

use crate::support::fake_redis::FakeRedis;
use crate::support::redis::{self as servers, RedisServer};
use crate::support::redis_presence;

const WINDOW: Duration = Duration::from_secs(300);

/// How often scripts were called.
async fn scripts_called(server: &RedisServer) -> u64 {
    let stats: String = server.does(&["INFO", "commandstats"]).await;
    let calls = |command: &str| -> u64 {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| {
            line.split(',')
                .next()
                .expect("a number")
                .parse()
                .expect("a number")
        })
    };
    calls("evalsha") + calls("eval")
}

/// A page of a community, and of so many things in it.
fn page(community: usize, things: usize) -> Whereabouts {
    let kinds = ["post", "author", "tag"];
    let finer = kinds[..things].iter().map(|kind| Finer::new(kind, "7").unwrap());
    Whereabouts::new(Some(community.to_string().as_str().into()), finer.collect())
}

/// Views of one moment: one call for each partition that has one of the communities, however many things the routes name there,
/// and one for the site.
#[tokio::test]
async fn p25_a_view_costs_one_call_whatever_the_number_of_its_scopes() {
    let server = RedisServer::start(&[]);
    let config = server.config();
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let partitions: BTreeSet<_> = (0..6)
        .map(|community: usize| keys.partition_of(&community.to_string().as_str().into()))
        .collect();
    let redis: Arc<dyn Presence> = Arc::new(redis_presence::open(&config, WINDOW));
    let record = config::Record {
        coalesce: Duration::ZERO,
        ..config::Record::default()
    };
    redis_presence::until_it_answers(&*redis).await;
    // The server knows the script and the sidecar the server's clock from here on.
    redis.touch(&Scope::Site, &[]).await.unwrap();
    for things in 0..=3 {
        let views = (0..60).map(|view| (page(view % 6, things), format!("u{view}")));
        let called = calls_of(&server, &redis, &record, views).await;
        assert_eq!(called, partitions.len() as u64 + 1, "calls with {things} things");
        let posts = redis.all_counts(&[Scope::Site, "0".into()]).await.unwrap().value;
        assert_eq!((posts[0].current, posts[1].current), (60, 10));
    }
}

/// How often scripts are called for these views, all of one moment, by a worker that ends when it has touched them.
async fn calls_of(
    server: &RedisServer,
    redis: &Arc<dyn Presence>,
    record: &config::Record,
    views: impl Iterator<Item = (Whereabouts, String)>,
) -> u64 {
    let queued = page_view::Metrics::default().queued[Queue::Presence].clone();
    let (touches, worker) = worker::new(
        Arc::clone(redis),
        record,
        &Status::default(),
        Arc::<Metrics>::default(),
        queued,
    );
    for (place, user) in views {
        touches.touch(place, user.as_str().into(), Moment::now()).unwrap();
    }
    let before = scripts_called(server).await;
    let tasks = Tasks::on_current_runtime();
    tasks.end();
    let (_stop, is_over) = tokio::sync::watch::channel(true);
    // The one ends when it has touched them, the other has not begun.
    let [done, sweeps] = worker.start(&tasks, is_over);
    sweeps.abort();
    done.await.unwrap();
    scripts_called(server).await - before
}

/// Views of one moment in many communities: they are in one call for each partition, though the things in them are many, too;
/// and each is counted where it was made.
#[tokio::test]
async fn p25_communities_of_one_partition_share_a_call() {
    let server = RedisServer::start(&[]);
    let config = server.config();
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let store = redis_presence::open(&config, WINDOW);
    redis_presence::until_it_answers(&store).await;
    store.touch(&Scope::Site, &[]).await.unwrap();
    let redis: Arc<dyn Presence> = Arc::new(store);
    let record = config::Record::default();
    let scope = |community: usize| Scope::from(community.to_string().as_str());
    let views = (0..200).map(|view| (page(view % 100, view % 2), format!("u{view}")));
    let called = calls_of(&server, &redis, &record, views).await;
    let partitions: BTreeSet<_> = (0..100)
        .map(|community| keys.partition_of(&scope(community)))
        .collect();
    assert_eq!(called, partitions.len() as u64 + 1);
    let communities: Vec<Scope> = (0..100).map(scope).collect();
    let counts = redis.all_counts(&communities).await.unwrap().value;
    assert!(counts.iter().all(|count| count.current == 2), "{counts:?}");
    let post = Scope::Finer("1".into(), Finer::new("post", "7").unwrap());
    let counts = redis.all_counts(&[Scope::Site, post]).await.unwrap().value;
    assert_eq!((counts[0].current, counts[1].current), (200, 2));
}

/// The keys of one community are not what presence makes them: the others of its partition are touched, and it alone fails.
#[tokio::test]
async fn p25_a_community_that_redis_refuses_takes_no_other_with_it() {
    let server = servers::shared();
    let config = server.config();
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let redis = redis_presence::open(&config, WINDOW);
    redis_presence::until_it_answers(&redis).await;
    // The site's, which is due by another key than they.
    let partition = keys.partition_of(&Scope::Site);
    let communities = (1..).map(|id: usize| Scope::from(id.to_string().as_str()));
    let in_partition = communities.filter(|community| keys.partition_of(community) == partition);
    let communities: Vec<Scope> = in_partition.take(3).collect();
    let _: () = server
        .does(&["SET", &keys.scope(&communities[1]).seen, "text"])
        .await;
    let (no_key, site) = (Scope::from(""), Scope::Site);
    let together = |user: &str| -> Vec<TouchedGroup> {
        let groups = communities.iter().chain([&no_key, &site]);
        let touched = groups.map(|scope| TouchedGroup {
            scope: scope.clone(),
            touches: vec![redis_presence::seen(user, Duration::ZERO)],
        });
        touched.collect()
    };
    let outcomes = redis.touch_together(&together("a")).await;
    let [
        Ok(first),
        Err(PresenceError::Unavailable(_)),
        Ok(last),
        Err(PresenceError::Community),
        Ok(on_site),
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!((first.current, last.current, on_site.current), (1, 1, 1));
    let _: () = server
        .does(&["PEXPIRE", &keys.scope(&communities[1]).seen, "0"])
        .await;
    let outcomes = redis.touch_together(&together("b")).await;
    let counts: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().ok().map(|count| count.current))
        .collect();
    assert_eq!(counts, [Some(2), Some(1), Some(2), None, Some(2)]);
    let due = async |key: String| -> Vec<String> { server.does(&["ZRANGE", &key, "0", "-1"]).await };
    let name = encode(&site).into_owned();
    assert!(!due(keys.due(partition)).await.contains(&name));
    assert_eq!(due(keys.finer(partition)).await, [name]);
}

/// Two sidecars on one Redis, and nobody anywhere: one call of each a round, and a few now and then, instead of one for
/// each partition.
#[tokio::test]
async fn p5_idle_partitions_are_left_alone() {
    const ROUNDS: u64 = 20;
    let server = RedisServer::start(&[]);
    let config = server.config();
    let sidecars = [(), ()].map(|()| redis_presence::open(&config, WINDOW));
    let round = async || {
        for sidecar in &sidecars {
            sidecar.sweep_in_turn().await.unwrap();
        }
    };
    for sidecar in &sidecars {
        redis_presence::until_it_answers(sidecar).await;
    }
    // Twice: what a new sidecar finds it takes for a Redis that has lost something.
    for _ in 0..2 {
        round().await;
    }
    let (before, start) = (scripts_called(&server).await, Instant::now());
    for _ in 0..ROUNDS {
        round().await;
    }
    let called = scripts_called(&server).await - before;
    let seconds = start.elapsed().as_secs();
    // The others, in the first round after three seconds by the one sidecar, after twenty by the other; all of them where
    // that one takes the lease over, as the machine was busy for longer than it lasts.
    let others = u64::from(config.partitions.get()) - 1;
    let now_and_then = 2 * others * (seconds / 3 + 1);
    assert!(
        called <= 2 * ROUNDS + now_and_then,
        "{called} calls in {seconds} s"
    );
}

/// In each partition somebody leaves, seen by the sidecar that does not sweep; then the one that does is gone.
#[tokio::test]
async fn p5_who_leaves_is_noticed_by_the_sidecar_that_sweeps_and_after_its_end_by_another() {
    let server = RedisServer::start(&[]);
    // One: each has a key prefix of its own.
    let config = server.config();
    let [holder, other] = [(), ()].map(|()| redis_presence::open(&config, Duration::from_millis(500)));
    for sidecar in [&holder, &other] {
        redis_presence::until_it_answers(sidecar).await;
        for _ in 0..2 {
            sidecar.sweep_in_turn().await.unwrap();
        }
    }
    let communities: Vec<Scope> = (0..60).map(|id: usize| id.to_string().as_str().into()).collect();
    let visit_all = async || {
        for community in &communities {
            other
                .touch(community, &[redis_presence::seen("a", Duration::ZERO)])
                .await
                .unwrap();
        }
    };
    for sweeps in [&holder, &other] {
        visit_all().await;
        let left = Mutex::new(BTreeSet::new());
        let has_left = async || {
            let changes = sweeps.sweep_in_turn().await.unwrap().changes;
            let mut left = left.lock().unwrap();
            let changes = changes
                .into_iter()
                .filter(|change| communities.contains(&change.scope));
            left.extend(changes.map(|change| (change.count.current, change.scope)));
            left.len() == communities.len()
        };
        servers::eventually_or_else(has_left, || format!("{:?}", left.lock().unwrap())).await;
        assert!(left.lock().unwrap().iter().all(|(current, _)| *current == 0));
    }
}

/// An update of the sidecar that sweeps: the next one need not wait until its lease has passed.
#[tokio::test]
async fn p5_a_sidecar_that_ends_leaves_the_sweeps_to_others_at_once() {
    let server = servers::shared();
    let config = server.config();
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let holder = async || -> Option<String> { server.does(&["GET", &keys.sweeper(0)]).await };
    let [one, other] = [(), ()].map(|()| redis_presence::open(&config, WINDOW));
    for sidecar in [&one, &other] {
        redis_presence::until_it_answers(sidecar).await;
    }
    // Again and again, as a lease passes on a machine that is busy for seconds.
    servers::eventually(async || {
        one.sweep_in_turn().await.unwrap();
        let its = holder().await;
        one.leave_sweeps().await;
        let nobodys = holder().await;
        other.sweep_in_turn().await.unwrap();
        let others = holder().await;
        // It is not its any more.
        one.leave_sweeps().await;
        let still = holder().await;
        other.leave_sweeps().await;
        its.is_some() && nobodys.is_none() && others.is_some() && its != others && still == others
    })
    .await;
}

/// As a Redis that has no memory left for the first touch of many, and has some again for the next.
fn refuses_the_first_user(command: &[String]) -> String {
    match command[0].as_str() {
        "EVALSHA" if command.iter().any(|word| word == "u0") => {
            "-OOM command not allowed when used memory > 'maxmemory'.\r\n".into()
        }
        _ => touches_one(command),
    }
}

/// As a Redis that hangs at the first touch of many.
fn hangs_at_the_first_user(command: &[String]) -> Option<String> {
    let is_first = command.iter().any(|word| word == "u0");
    (!is_first).then(|| touches_one(command))
}

fn touches_one(command: &[String]) -> String {
    match command[0].as_str() {
        "PING" => "+PONG\r\n".into(),
        "TIME" => "*2\r\n$10\r\n1000000000\r\n$6\r\n123456\r\n".into(),
        "HGET" => "$-1\r\n".into(),
        "ZRANGE" => "*0\r\n".into(),
        "EVALSHA" => "*3\r\n:1000000000123\r\n:1\r\n:7\r\n".into(),
        _ => "+OK\r\n".into(),
    }
}

/// Touches of so many users that they take two calls.
fn of_two_calls() -> Vec<Touch> {
    let users = (0..1_500).map(|user| redis_presence::seen(&format!("u{user}"), Duration::ZERO));
    users.collect()
}

/// Beside those that find out whether it answers.
fn touches_sent(redis: &FakeRedis) -> usize {
    let heard = redis.heard();
    let is_touch = |command: &&Vec<String>| command[0] == "EVALSHA" && !command.contains(&"probe".to_owned());
    heard.iter().filter(is_touch).count()
}

/// Whoever was not touched must be touched again.
#[tokio::test]
async fn p25_many_of_whom_redis_refuses_some_are_not_reported_as_touched() {
    let redis = FakeRedis::answering(|command| Some(refuses_the_first_user(command))).await;
    let presence = redis_presence::open(&servers::config(&redis.url()), WINDOW);
    redis_presence::until_it_answers(&presence).await;
    let touched = presence.touch(&"42".into(), &of_two_calls()).await;
    assert!(touched.is_err(), "{touched:?}");
    assert_eq!(touches_sent(&redis), 1, "the others would not make it a success");
}

#[tokio::test]
async fn p25_what_is_left_of_a_question_that_redis_leaves_unanswered_is_not_reported_as_touched() {
    let redis = FakeRedis::answering(hangs_at_the_first_user).await;
    let mut config = servers::config(&redis.url());
    config.response_timeout = Duration::from_secs(2);
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let presence = redis_presence::open(&config, WINDOW);
    redis_presence::until_it_answers(&presence).await;
    let first = Scope::from("42");
    let partition = keys.partition_of(&first);
    let mut others = (43..).map(|id: usize| Scope::from(id.to_string().as_str()));
    let other = others
        .find(|other| keys.partition_of(other) == partition)
        .unwrap();
    let of = |scope: &Scope, touches: Vec<Touch>| TouchedGroup {
        scope: scope.clone(),
        touches,
    };
    let another = vec![redis_presence::seen("another", Duration::ZERO)];
    let outcomes = presence
        .touch_together(&[of(&first, of_two_calls()), of(&other, another)])
        .await;
    for outcome in &outcomes {
        assert!(
            matches!(outcome, Err(PresenceError::Unavailable(_))),
            "{outcomes:?}"
        );
    }
    assert_eq!(
        touches_sent(&redis),
        1,
        "the others would wait as long, and in vain"
    );
}
