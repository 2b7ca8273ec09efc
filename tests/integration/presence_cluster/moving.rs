//! Partitions that move, and clocks that differ.

use std::sync::OnceLock;

use headcount::presence::Scope;
use headcount::presence::keys::Keys;
use headcount::presence::{Presence, Touch};

use super::{WINDOW, one_on_each};
use crate::support::fake_redis::FakeRedis;
use crate::support::redis::{PERMISSIONS, any_config, eventually};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_presence;

/// A slot moves with everybody in it, while visitors come: as the sidecar's user with the least rights.
#[tokio::test]
async fn p14_while_a_slot_moves_and_afterwards_everybody_is_there() {
    let cluster = RedisCluster::start().await;
    let mut permissions = PERMISSIONS.to_vec();
    permissions.extend(["~test-*", "&test-*", "+cluster|slots", "+asking"]);
    for node in &cluster.nodes {
        node.allow("sidecar", &permissions).await;
    }
    let mut config = cluster.config();
    config.username = Some("sidecar".into());
    config.password = Some(headcount::config::Secret::new("s3cret"));
    let [community, elsewhere, _] = one_on_each(&cluster, &config).await;
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    let names = keys.scope(&community);
    let presence = redis_presence::open(&config, WINDOW);
    presence.touch(&community, &[Touch::now("a")]).await.unwrap();
    presence.touch(&elsewhere, &[Touch::now("a")]).await.unwrap();
    presence.sweep().await.unwrap();

    let [from, to] = [&cluster.nodes[0], &cluster.nodes[1]];
    let slot: u16 = from.does(&["CLUSTER", "KEYSLOT", &names.seen]).await;
    let slot = slot.to_string();
    let (from_id, to_id): (String, String) = (
        from.does(&["CLUSTER", "MYID"]).await,
        to.does(&["CLUSTER", "MYID"]).await,
    );
    to.does::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
        .await;
    from.does::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
        .await;
    let touched = presence.touch(&community, &[Touch::now("b")]).await.unwrap();
    assert_eq!(touched.current, 2, "nothing has moved yet");

    let moving: Vec<String> = from.does(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
    assert!(
        moving.contains(&names.seen) && moving.contains(&names.due),
        "{moving:?}"
    );
    let port = to.port().to_string();
    let migrate = async |keys: &[&str]| {
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys);
        from.does::<String>(&migrate).await;
    };
    let (last, first): (Vec<&str>, Vec<&str>) = moving
        .iter()
        .map(String::as_str)
        .partition(|key| *key == names.seen);
    migrate(&first).await;
    // The new node has what is due, but not yet who is there: nobody, it would seem.
    assert!(presence.sweep().await.is_err());
    migrate(&last).await;
    // The old node still keeps the slot, and sends each call on.
    let touched = presence.touch(&community, &[Touch::now("c")]).await.unwrap();
    assert_eq!(touched.current, 3);
    let page = presence.list(&community, None, 10).await.unwrap().value;
    assert_eq!(page.len(), 3);

    for node in [to, from, &cluster.nodes[2]] {
        node.does::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id])
            .await;
    }
    let touched = presence.touch(&community, &[Touch::now("d")]).await.unwrap();
    assert_eq!(touched.current, 4, "the old node names the new one");
    let counts = presence
        .all_counts(&[community.clone(), elsewhere])
        .await
        .unwrap();
    assert_eq!(counts.value[0].current, 4);
    assert_eq!(counts.value[1].current, 1);
    presence.sweep().await.unwrap();
}

/// Ports of the fakes of [`p3_each_partition_goes_by_the_clock_of_its_node`].
static NODES: OnceLock<[u16; 2]> = OnceLock::new();

/// A node of a Cluster of two: the first keeps the lower half of the slots.
fn node(command: &[String], seconds: u64) -> Option<String> {
    let [first, second] = NODES.get()?;
    let range = |from: u16, to: u16, port: &u16| {
        format!("*3\r\n:{from}\r\n:{to}\r\n*3\r\n$9\r\n127.0.0.1\r\n:{port}\r\n$2\r\nid\r\n")
    };
    Some(match command[0].as_str() {
        "PING" => "+PONG\r\n".into(),
        "CLUSTER" => format!("*2\r\n{}{}", range(0, 8_191, first), range(8_192, 16_383, second)),
        "TIME" => format!("*2\r\n$10\r\n{seconds}\r\n$1\r\n0\r\n"),
        "HGET" => "$-1\r\n".into(),
        "ZRANGE" => "*0\r\n".into(),
        "ZCOUNT" => ":5\r\n".into(),
        "EVALSHA" => format!("*3\r\n:{seconds}000\r\n:1\r\n:7\r\n"),
        _ => "+OK\r\n".into(),
    })
}

fn node_of_2001(command: &[String]) -> Option<String> {
    node(command, 1_000_000_000)
}

fn node_of_2002(command: &[String]) -> Option<String> {
    node(command, 1_031_536_000)
}

#[tokio::test]
async fn p3_each_partition_goes_by_the_clock_of_its_node() {
    let nodes = [
        FakeRedis::answering(node_of_2001).await,
        FakeRedis::answering(node_of_2002).await,
    ];
    NODES.set(nodes.each_ref().map(FakeRedis::port)).unwrap();
    let mut config = any_config();
    config.nodes = vec![format!("127.0.0.1:{}", nodes[1].port())];
    let presence = redis_presence::open(&config, WINDOW);
    let keys = Keys::new(&config.key_prefix, config.partitions).unwrap();
    // Of four partitions the third alone is in the lower half, or the fourth: 2956 and 7085.
    let in_partition = |partition| {
        let mut all = (0..).map(|id: u32| Scope::from(&*id.to_string()));
        all.find(|community| keys.partition_of(community) == partition)
            .unwrap()
    };
    let communities = [0, 1, 2, 3].map(in_partition);
    let [late, early] = [1_031_536_000_000, 1_000_000_000_000];
    let counts = presence.all_counts(&communities).await.unwrap().value;
    let times: Vec<_> = counts
        .iter()
        .map(|count| count.as_of.timestamp_millis())
        .collect();
    assert_eq!(times, [late, late, early, early]);
    for (community, time) in communities.iter().zip([late, late, early, early]) {
        let touched = presence.touch(community, &[Touch::now("a")]).await.unwrap();
        assert_eq!(touched.as_of.timestamp_millis(), time);
    }
    for (node, time) in nodes.iter().zip([early, late]) {
        let heard = node.heard();
        let window: i64 = WINDOW.as_millis().try_into().unwrap();
        let counted = heard.iter().filter(|command| command[0] == "ZCOUNT");
        let windows: Vec<_> = counted.map(|command| command[2].clone()).collect();
        assert_eq!(
            windows,
            vec![format!("({}", time - window); 2],
            "by its own clock"
        );
        let touches: Vec<_> = heard.iter().filter(|command| command[0] == "EVALSHA").collect();
        assert_eq!(touches.len(), 2, "taken at once");
        for command in touches {
            let sent: i64 = command[10].parse().unwrap();
            assert!((time..time + 100_000_000).contains(&sent), "{command:?}");
        }
    }
    eventually(async || presence.ping().await.is_ok()).await;
}
