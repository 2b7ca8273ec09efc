//! Nodes that are lost, hang, or forget.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use headcount::config;
use headcount::ids::SiteIdentity;
use headcount::presence::Metrics;
use headcount::presence::keys::Keys;
use headcount::presence::{self, Presence, PresenceError, Touch};
use headcount::status::{ComponentState, Status};
use headcount::tasks::Tasks;
use redis::AsyncCommands as _;

use super::{WINDOW, impatient, one_on_each};
use crate::support::presence::{all_show, is_heard, is_listening, is_remembered, shown};
use crate::support::redis::{RedisServer, eventually};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_presence::{self, seen};
use crate::support::service::in_time;

const MINUTE: Duration = Duration::from_secs(60);

/// Presence as a sidecar has it, with status and metrics to look at.
fn sidecar(config: &config::Redis) -> (Arc<dyn Presence>, Status, Arc<Metrics>) {
    let (status, metrics) = (Status::default(), Arc::<Metrics>::default());
    let record = config::Record {
        window: WINDOW,
        ..config::Record::default()
    };
    let tasks = Tasks::on_current_runtime();
    let presence = presence::open(
        config,
        &record,
        &SiteIdentity::default(),
        MINUTE,
        &status,
        Arc::clone(&metrics),
        &tasks,
    );
    (presence.unwrap(), status, metrics)
}

#[tokio::test]
async fn p14_what_a_promoted_replica_lacks_is_touched_again_by_every_sidecar() {
    let mut cluster = RedisCluster::start_failing_over().await;
    let config = impatient(cluster.config());
    let communities = one_on_each(&cluster, &config).await;
    let sidecars = [
        redis_presence::mirrored(&config, WINDOW),
        redis_presence::mirrored(&config, WINDOW),
    ];
    let [one, other] = sidecars.each_ref().map(|sidecar| &**sidecar);
    for community in &communities {
        eventually(async || one.touch(community, &[seen("early", 3 * MINUTE)]).await.is_ok()).await;
    }
    let lost = &communities[1];
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let key = keys.scope(lost).seen;
    let raw = cluster.replica(1).raw().await;
    redis::cmd("READONLY").exec_async(&mut raw.clone()).await.unwrap();
    let replicated = async || raw.clone().zcard::<_, u64>(&key).await.unwrap();
    eventually(async || replicated().await == 1).await;

    cluster.nodes[1].leaves_its_replicas_behind().await;
    eventually(async || one.touch(lost, &[seen("late", MINUTE)]).await.is_ok()).await;
    let touches = [seen("later", Duration::ZERO), seen("early", 2 * MINUTE)];
    eventually(async || other.touch(lost, &touches).await.is_ok()).await;
    all_show(&[one, other], &lost.to_string(), &["later", "late", "early"]).await;
    assert_eq!(replicated().await, 1, "the replica lacks the last writes");
    cluster.nodes[1].kill();
    all_show(&[one, other], &lost.to_string(), &["later", "late", "early"]).await;
    for community in [&communities[0], &communities[2]] {
        all_show(&[one], &community.to_string(), &["early"]).await;
    }
    assert_eq!(replicated().await, 3, "it is the one that was promoted");
}

/// The mark that the last sweep left is there: only that another node keeps the partition tells.
#[tokio::test]
async fn p14_what_was_touched_after_the_last_mark_is_not_missed_after_a_failover() {
    let mut cluster = RedisCluster::start_failing_over().await;
    let config = impatient(cluster.config());
    let [_, community, _] = one_on_each(&cluster, &config).await;
    let (sidecar, ..) = sidecar(&config);
    eventually(async || sidecar.touch(&community, &[seen("early", MINUTE)]).await.is_ok()).await;
    all_show(&[&*sidecar], &community.to_string(), &["early"]).await;
    cluster.replica(1).is_level_with(&cluster.nodes[1]).await;
    cluster.nodes[1].leaves_its_replicas_behind().await;
    eventually(async || sidecar.touch(&community, &[Touch::now("late")]).await.is_ok()).await;
    cluster.nodes[1].kill();
    is_remembered(&*sidecar, &community.to_string(), &["late", "early"]).await;
    eventually(async || {
        let (users, stale) = shown(&*sidecar, &community.to_string()).await;
        assert!(stale || users == ["late", "early"], "{users:?}");
        !stale
    })
    .await;
}

#[tokio::test]
async fn p14_a_node_that_came_back_empty_fills_up_again_and_the_others_are_not_touched() {
    let cluster = RedisCluster::start().await;
    let config = cluster.config();
    let communities = one_on_each(&cluster, &config).await;
    let (sidecar, _, metrics) = sidecar(&config);
    for community in &communities {
        sidecar
            .touch(community, &[seen("a", MINUTE), seen("b", MINUTE)])
            .await
            .unwrap();
        all_show(&[&*sidecar], &community.to_string(), &["b", "a"]).await;
    }
    let before = metrics.retouches.get();
    cluster.nodes[2].flush().await;
    all_show(&[&*sidecar], &communities[2].to_string(), &["b", "a"]).await;
    assert_eq!(metrics.retouches.get() - before, 2, "those of one community");
}

#[tokio::test]
async fn p14_while_a_part_is_away_only_its_communities_are_stale() {
    let mut cluster = RedisCluster::start().await;
    let config = impatient(cluster.config());
    let communities = one_on_each(&cluster, &config).await;
    let (sidecar, status, _) = sidecar(&config);
    for community in &communities {
        eventually(async || sidecar.touch(community, &[Touch::now("a")]).await.is_ok()).await;
        all_show(&[&*sidecar], &community.to_string(), &["a"]).await;
    }
    eventually(async || {
        (status.redis.condition().state, status.partitions_down()) == (ComponentState::Up, 0)
    })
    .await;
    // With its replica, so that nobody takes its place.
    cluster.nodes[3].kill();
    cluster.nodes[0].kill();
    is_remembered(&*sidecar, &communities[0].to_string(), &["a"]).await;
    eventually(async || status.partitions_down() == 1).await;
    // The others answer.
    eventually(async || status.redis.condition().state == ComponentState::Up).await;
    let refused = sidecar.touch(&communities[0], &[Touch::now("b")]).await;
    assert!(
        matches!(refused, Err(PresenceError::Unavailable(_))),
        "{refused:?}"
    );
    is_remembered(&*sidecar, &communities[0].to_string(), &["b", "a"]).await;
    for community in &communities[1..] {
        eventually(async || sidecar.touch(community, &[Touch::now("b")]).await.is_ok()).await;
        all_show(&[&*sidecar], &community.to_string(), &["b", "a"]).await;
    }
    // Who left there is noticed all the same.
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let names = keys.scope(&communities[2]);
    cluster.nodes[2]
        .does::<()>(&["ZADD", &names.seen, "1", "left"])
        .await;
    let due = ["ZADD", &names.due, "1", &*communities[2].to_string()];
    cluster.nodes[2].does::<()>(&due).await;
    eventually(async || {
        assert!(sidecar.sweep().await.is_err(), "of the part that is away");
        let members: u64 = cluster.nodes[2].does(&["ZCARD", &names.seen]).await;
        members == 2
    })
    .await;
    let together = sidecar.all_counts(&communities).await.unwrap();
    let counts: Vec<_> = together.value.iter().map(|count| count.current).collect();
    assert!(together.stale);
    assert_eq!(counts, [2, 2, 2], "what is known of each, in the order asked");
    // Back, and empty.
    cluster.nodes[0].restart();
    all_show(&[&*sidecar], &communities[0].to_string(), &["b", "a"]).await;
    eventually(async || status.partitions_down() == 0).await;
}

#[tokio::test]
async fn p9_a_node_that_hangs_costs_its_own_calls_their_time_and_no_others() {
    let cluster = RedisCluster::start_failing_over().await;
    let config = cluster.config();
    let communities = one_on_each(&cluster, &config).await;
    let presence = redis_presence::open(&config, WINDOW);
    for community in &communities {
        eventually(async || presence.touch(community, &[Touch::now("a")]).await.is_ok()).await;
    }
    cluster.nodes[0].hang();
    let hung = async {
        // Fails until the replica has been promoted, and is found.
        let mut failures = 0;
        in_time("the replica", async {
            while presence.touch(&communities[0], &[Touch::now("b")]).await.is_err() {
                failures += 1;
                tokio::task::yield_now().await;
            }
        })
        .await;
        failures
    };
    let others = async {
        for round in 0..100 {
            for community in &communities[1..] {
                let touches = [Touch::now(&*round.to_string())];
                let taken = presence.touch(community, &touches).await;
                let counted = presence.all_counts(std::slice::from_ref(community)).await;
                assert!(taken.is_ok() && counted.is_ok(), "{taken:?}, {counted:?}");
            }
        }
    };
    let (failures, ()) = tokio::join!(hung, others);
    assert!(failures > 0, "the node hung");
    cluster.nodes[0].resume();
    eventually(async || presence.touch(&communities[0], &[Touch::now("c")]).await.is_ok()).await;
}

/// Also where it keeps more partitions than are called at a time on one server: what the others lose is to be noticed.
#[tokio::test]
async fn p9_a_node_that_hangs_holds_up_no_sweep_of_the_others() {
    let cluster = RedisCluster::start().await;
    let config = config::Redis {
        partitions: 48.try_into().unwrap(),
        // Nothing of the hung node ends within the test.
        response_timeout: MINUTE * 60,
        ..cluster.config()
    };
    let presence = redis_presence::open(&config, WINDOW);
    for community in one_on_each(&cluster, &config).await {
        eventually(async || presence.touch(&community, &[Touch::now("a")]).await.is_ok()).await;
    }
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let mut of_others = 0;
    for partition in keys.partitions() {
        let mark = keys.mark(partition, "any");
        let slot: usize = cluster.nodes[1].does(&["CLUSTER", "KEYSLOT", &mark]).await;
        of_others += usize::from(slot * 3 / 16_384 > 0);
    }
    cluster.nodes[0].hang();
    let marks = format!("{}:*:mark:*", config.key_prefix);
    let are_swept = eventually(async || {
        let mut written = 0;
        for node in &cluster.nodes[1..3] {
            let found: Vec<String> = node.does(&["KEYS", &marks]).await;
            written += found.len();
        }
        written == of_others
    });
    tokio::select! {
        swept = presence.sweep() => panic!("the node hangs: {swept:?}"),
        () = are_swept => {}
    }
    cluster.nodes[0].resume();
}

#[tokio::test]
async fn p9_while_no_node_is_there_calls_fail_and_each_is_found_again() {
    let mut cluster = RedisCluster::start().await;
    let config = impatient(cluster.config());
    let communities = one_on_each(&cluster, &config).await;
    let (sidecar, status, _) = sidecar(&config);
    eventually(async || sidecar.ping().await.is_ok()).await;
    for node in &mut cluster.nodes {
        node.kill();
    }
    let calls = communities.iter().map(|community| sidecar.touch(community, &[]));
    let outcomes = join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    eventually(async || status.redis.is_down()).await;
    for node in &mut cluster.nodes {
        node.restart();
    }
    for community in &communities {
        eventually(async || sidecar.touch(community, &[Touch::now("a")]).await.is_ok()).await;
        all_show(&[&*sidecar], &community.to_string(), &["a"]).await;
    }
}

/// Whom the cluster's nodes publish to: the primary that presence listens to.
async fn listened_to(cluster: &RedisCluster) -> usize {
    for (index, node) in cluster.nodes[..3].iter().enumerate() {
        let clients: String = node.does(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        if !clients.trim().is_empty() {
            return index;
        }
    }
    panic!("nobody listens");
}

async fn a_subscription_moves(take: impl AsyncFn(&mut RedisServer)) {
    let mut cluster = RedisCluster::start_failing_over().await;
    let config = impatient(cluster.config());
    let communities = one_on_each(&cluster, &config).await;
    let presence = redis_presence::open(&config, WINDOW);
    eventually(async || presence.ping().await.is_ok()).await;
    let mut changes = presence.subscribe();
    is_listening(&mut changes).await;
    for community in &communities {
        is_heard(&presence, &mut changes, community).await;
    }
    let node = listened_to(&cluster).await;
    take(&mut cluster.nodes[node]).await;
    let mut fresh = presence.subscribe();
    is_listening(&mut fresh).await;
    for community in &communities {
        is_heard(&presence, &mut fresh, community).await;
    }
}

#[tokio::test]
async fn p8_when_the_node_that_is_listened_to_is_lost_another_is() {
    a_subscription_moves(async |node| node.kill()).await;
}

#[tokio::test]
async fn p8_when_the_node_that_is_listened_to_falls_silent_another_is() {
    a_subscription_moves(async |node| node.hang()).await;
}

#[tokio::test]
async fn scripts_are_loaded_again_on_each_node() {
    let cluster = RedisCluster::start().await;
    let config = cluster.config();
    let communities = one_on_each(&cluster, &config).await;
    let presence = redis_presence::open(&config, WINDOW);
    for (users, user) in (1..).zip(["a", "b"]) {
        for community in &communities {
            let touched = presence.touch(community, &[Touch::now(user)]).await.unwrap();
            assert_eq!(touched.current, users);
        }
        for node in &cluster.nodes {
            node.does::<()>(&["SCRIPT", "FLUSH"]).await;
        }
    }
}
