//! Presence as a sidecar has it, with a memory in front of Redis (P14): Redis is killed, hangs, is flushed and
//! fails over, and afterwards everybody is there again who was seen within the window, and nobody else, though
//! nobody looks at another page.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use headcount::config;
use headcount::ids::SiteIdentity;
use headcount::page_view::{self, Queue};
use headcount::presence::Scope;
use headcount::presence::keys::Keys;
use headcount::presence::moment::Moment;
use headcount::presence::{self, Metrics, Presence, PresenceError, Touch};
use headcount::status::Status;
use headcount::tasks::Tasks;
use redis::AsyncCommands as _;

use crate::support::presence::{all_show, is_remembered, shown};
use crate::support::proxy::Proxy;
use crate::support::redis::{self as servers, RedisServer, eventually};
use crate::support::redis_presence::{self, seen};

const WINDOW: Duration = Duration::from_secs(300);
/// Of a Redis that hangs.
const IMPATIENT: Duration = Duration::from_millis(200);

const MINUTE: Duration = Duration::from_secs(60);

/// A sidecar that does not wait for a Redis that hangs. User `a` was seen a minute ago.
async fn impatient(server: &RedisServer) -> Arc<dyn Presence> {
    let config = config::Redis {
        connect_timeout: IMPATIENT,
        response_timeout: IMPATIENT,
        ..server.config()
    };
    let sidecar = redis_presence::mirrored(&config, WINDOW);
    eventually(async || sidecar.touch(&"42".into(), &[seen("a", MINUTE)]).await.is_ok()).await;
    all_show(&[&*sidecar], "42", &["a"]).await;
    sidecar
}

#[tokio::test]
async fn p14_a_redis_that_was_killed_and_restarted_empty_fills_up_again() {
    let mut server = RedisServer::start(&[]);
    let sidecar = redis_presence::mirrored(&server.config(), WINDOW);
    let leaves = WINDOW.checked_sub(Duration::from_secs(15)).unwrap();
    let touches = [seen("a", MINUTE), seen("b", 2 * MINUTE), seen("leaves", leaves)];
    sidecar.touch(&"42".into(), &touches).await.unwrap();
    sidecar.touch(&"43".into(), &[Touch::now("a")]).await.unwrap();
    all_show(&[&*sidecar], "42", &["a", "b", "leaves"]).await;
    let before = sidecar.all_counts(&["42".into()]).await.unwrap().value[0];

    server.kill();
    let refused = sidecar.touch(&"42".into(), &[Touch::now("came meanwhile")]).await;
    assert!(
        matches!(refused, Err(PresenceError::Unavailable(_))),
        "{refused:?}"
    );
    is_remembered(&*sidecar, "42", &["came meanwhile", "a", "b"]).await;
    server.restart();
    all_show(&[&*sidecar], "42", &["came meanwhile", "a", "b"]).await;
    all_show(&[&*sidecar], "43", &["a"]).await;
    let after = sidecar.all_counts(&["42".into()]).await.unwrap().value[0];
    assert!(after.seq > before.seq, "numbers rise all the same");
    let page = sidecar.list(&"42".into(), None, 10).await.unwrap().value;
    assert!(
        after.as_of - page[1].last_seen >= chrono::Duration::seconds(60),
        "a is as old as before"
    );
}

#[tokio::test]
async fn p14_after_a_redis_that_hung_those_seen_meanwhile_are_there_and_those_who_left_are_not() {
    let server = RedisServer::start(&[]);
    let sidecar = impatient(&server).await;

    server.hang();
    // On its way to Redis, which will find it when the window has passed.
    let leaves = WINDOW.checked_sub(Duration::from_secs(2)).unwrap();
    let given_up = sidecar.touch(&"42".into(), &[seen("leaves", leaves)]).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let given_up = sidecar
        .touch(&"42".into(), &[seen("came meanwhile", Duration::ZERO)])
        .await;
    assert!(given_up.is_err(), "{given_up:?}");
    is_remembered(&*sidecar, "42", &["came meanwhile", "a"]).await;
    server.resume();
    eventually(async || {
        let (users, stale) = shown(&*sidecar, "42").await;
        assert!(!users.contains(&"leaves".into()), "{users:?}, stale: {stale}");
        !stale && users == ["came meanwhile", "a"]
    })
    .await;
}

#[tokio::test]
async fn p21_a_touch_that_a_hanging_redis_reads_late_counts_from_when_it_was_made() {
    let server = RedisServer::start(&[]);
    let sidecar = impatient(&server).await;

    server.hang();
    // On its way to Redis, which reads it when it goes on.
    let given_up = sidecar.touch(&"42".into(), &[Touch::now("late")]).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let resumed = Utc::now();
    server.resume();
    all_show(&[&*sidecar], "42", &["late", "a"]).await;
    let page = sidecar.list(&"42".into(), None, 10).await.unwrap().value;
    assert!(page[0].last_seen < resumed, "{page:?}, resumed at {resumed}");
}

/// More communities than are touched at a time; every call takes as long as the test.
#[tokio::test]
async fn p20_whoever_is_seen_while_redis_hangs_is_known_before_the_call_returns() {
    const COMMUNITIES: usize = 40;
    let server = RedisServer::start(&[]);
    let record = config::Record {
        window: WINDOW,
        ..config::Record::default()
    };
    let (status, metrics) = (Status::default(), Arc::<Metrics>::default());
    let queued = page_view::Metrics::default().queued[Queue::Presence].clone();
    let tasks = Tasks::on_current_runtime();
    let config = config::Redis {
        response_timeout: 60 * MINUTE,
        ..server.config()
    };
    let sidecar = presence::open(
        &config,
        &record,
        &SiteIdentity::default(),
        IMPATIENT,
        &status,
        Arc::clone(&metrics),
        &tasks,
    )
    .unwrap();
    let (touches, worker) = presence::worker::new(Arc::clone(&sidecar), &record, &status, metrics, queued);
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    worker.start(&tasks, stopped);
    touches.touch("42".into(), "a".into(), Moment::now()).unwrap();
    all_show(&[&*sidecar], "42", &["a"]).await;

    server.hang();
    for community in 0..COMMUNITIES {
        touches
            .touch(format!("c{community}").as_str().into(), "a".into(), Moment::now())
            .unwrap();
    }
    is_remembered(&*sidecar, "c0", &["a"]).await;
    // In a batch of its own.
    touches.touch("42".into(), "b".into(), Moment::now()).unwrap();
    for community in 0..COMMUNITIES {
        is_remembered(&*sidecar, &format!("c{community}"), &["a"]).await;
    }
    is_remembered(&*sidecar, "42", &["b", "a"]).await;
}

#[tokio::test]
async fn p12_p14_a_redis_flushed_on_living_connections_is_noticed_by_every_sidecar() {
    let server = RedisServer::start(&[]);
    let config = server.config();
    let (one, other) = (
        redis_presence::mirrored(&config, WINDOW),
        redis_presence::mirrored(&config, WINDOW),
    );
    let sidecars: [&dyn Presence; 2] = [&*one, &*other];
    one.touch(&"42".into(), &[seen("both", 3 * MINUTE), seen("one", 2 * MINUTE)])
        .await
        .unwrap();
    other
        .touch(&"42".into(), &[seen("both", MINUTE), seen("other", 4 * MINUTE)])
        .await
        .unwrap();
    all_show(&sidecars, "42", &["both", "one", "other"]).await;

    server.flush().await;
    all_show(&sidecars, "42", &["both", "one", "other"]).await;
    // As if one of several nodes had come back empty.
    let mut raw = server.raw().await;
    let partition = Keys::new(&config.key_prefix, config.partitions)
        .unwrap()
        .partition(&"42".into());
    let pattern = format!("{}:{{p{partition:02}}}:*", config.key_prefix);
    let keys: Vec<String> = raw.keys(pattern).await.unwrap();
    let _: () = raw.del(keys).await.unwrap();
    all_show(&sidecars, "42", &["both", "one", "other"]).await;
}

/// The sidecar with the shorter window looks first.
#[tokio::test]
async fn p17_a_flushed_redis_fills_up_by_the_longest_window() {
    let server = RedisServer::start(&[]);
    let config = server.config();
    let (shorter, longer) = (
        redis_presence::mirrored(&config, WINDOW),
        redis_presence::mirrored(&config, 2 * WINDOW),
    );
    let sidecars: [&dyn Presence; 2] = [&*shorter, &*longer];
    longer
        .touch(
            &"42".into(),
            &[seen("early", WINDOW + MINUTE), seen("late", MINUTE)],
        )
        .await
        .unwrap();
    all_show(&sidecars, "42", &["late", "early"]).await;
    shorter
        .touch(&"42".into(), &[seen("seen by the other", WINDOW + 2 * MINUTE)])
        .await
        .unwrap();
    let all = ["late", "early", "seen by the other"];
    all_show(&sidecars, "42", &all).await;
    server.flush().await;
    all_show(&sidecars, "42", &all).await;
}

#[tokio::test]
async fn p14_a_redis_flushed_before_a_sidecars_first_sweep_fills_up_again() {
    let server = RedisServer::start(&[]);
    let sidecar = redis_presence::mirrored(&server.config(), WINDOW);
    sidecar.touch(&"42".into(), &[Touch::now("a")]).await.unwrap();
    server.flush().await;
    all_show(&[&*sidecar], "42", &["a"]).await;
}

#[tokio::test]
async fn p14_what_a_promoted_replica_lacks_is_touched_again_by_every_sidecar() {
    let mut primary = RedisServer::start(&[]);
    let replication = Proxy::before(primary.port()).await;
    let replica = RedisServer::replica_of(replication.port()).await;
    let way = Proxy::before(primary.port()).await;
    let config = servers::config(&format!("redis://127.0.0.1:{}", way.port()));
    let sidecars = [
        redis_presence::mirrored(&config, WINDOW),
        redis_presence::mirrored(&config, WINDOW),
    ];
    let [one, other] = sidecars.each_ref().map(|sidecar| &**sidecar);
    one.touch(&"42".into(), &[seen("early", 3 * MINUTE)])
        .await
        .unwrap();
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let key = keys.scope(&"42".into()).seen;
    let raw = replica.raw().await;
    let replicated = async || raw.clone().zcard::<_, u64>(&key).await.unwrap();
    eventually(async || replicated().await == 1).await;

    replication.refuse().await;
    one.touch(&"42".into(), &[seen("late", MINUTE)]).await.unwrap();
    other
        .touch(
            &"42".into(),
            &[seen("later", Duration::ZERO), seen("early", 2 * MINUTE)],
        )
        .await
        .unwrap();
    all_show(&[one, other], "42", &["later", "late", "early"]).await;
    primary.kill();
    way.lead_to(replica.port());
    assert_eq!(replicated().await, 1, "the replica lacks the last writes");
    replica.is_promoted().await;
    all_show(&[one, other], "42", &["later", "late", "early"]).await;
}

#[tokio::test]
async fn p14_a_hundred_thousand_are_touched_again() {
    const COMMUNITIES: usize = 100;
    let mut server = RedisServer::start(&[]);
    let sidecar: Arc<dyn Presence> = redis_presence::mirrored(&server.config(), WINDOW);
    for community in 0..COMMUNITIES {
        // One large one, many small ones.
        let users = if community == 0 { 90_000 } else { 90 };
        let touches: Vec<_> = (0..users)
            .map(|user| Touch::now(&*format!("u{user:05}")))
            .collect();
        let community = Scope::from(&*community.to_string());
        sidecar.touch(&community, &touches).await.unwrap();
    }
    let communities: Vec<_> = (0..COMMUNITIES)
        .map(|community| Scope::from(&*community.to_string()))
        .collect();
    server.restart();
    // Not before it has noticed.
    eventually(async || sidecar.touch(&"fresh".into(), &[Touch::now("a")]).await.is_ok()).await;
    eventually(async || {
        let _ = sidecar.sweep().await;
        let counts = sidecar.all_counts(&communities).await.unwrap();
        let small = counts.value[1..].iter().all(|count| count.current == 90);
        !counts.stale && counts.value[0].current == 90_000 && small
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_that_records_no_presence_tells_nothing_while_redis_is_away() {
    let mut server = RedisServer::start(&[]);
    let record = config::Record {
        presence: false,
        ..config::Record::default()
    };
    let metrics = Arc::default();
    let tasks = Tasks::on_current_runtime();
    let status = Status::default();
    let presence = presence::open(
        &server.config(),
        &record,
        &SiteIdentity::default(),
        MINUTE,
        &status,
        metrics,
        &tasks,
    )
    .unwrap();
    let community = Scope::from("42");
    let counts = presence.all_counts(std::slice::from_ref(&community)).await;
    assert!(!counts.unwrap().stale);
    server.kill();
    let counts = presence.all_counts(&[community]).await;
    assert!(
        matches!(counts, Err(PresenceError::Unavailable(_))),
        "it has seen nobody: {counts:?}"
    );
}
