//! What the Redis user may do and what connections are like: as little, and as secret, as can be.

use std::sync::Arc;

use headcount::config;
use headcount::presence::Presence;

use super::{WINDOW, one_on_each};
use crate::support::log::Log;
use crate::support::presence::everything;
use crate::support::redis::PERMISSIONS;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_presence;
use crate::support::tls::Authority;

#[tokio::test]
async fn p10_a_narrow_acl_suffices_and_is_not_complained_of() {
    let cluster = RedisCluster::start().await;
    let mut permissions = PERMISSIONS.to_vec();
    permissions.push("+cluster|slots");
    for node in &cluster.nodes {
        node.allow("sidecar", &permissions).await;
    }
    let config = config::Redis {
        username: Some("sidecar".into()),
        password: Some(config::Secret::new("s3cret")),
        key_prefix: "headcount".into(),
        ..cluster.config()
    };
    let communities = one_on_each(&cluster, &config).await;
    let log = Log::default();
    let _listening = log.listen();
    everything(&redis_presence::open(&config, WINDOW), &communities).await;
    let text = log.text();
    assert!(text.contains("tells where partitions are"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    // One node that is named is not there.
    assert!(!text.contains("WARN"), "{text}");
}

#[tokio::test]
async fn a_cluster_is_reached_over_tls_with_client_certificates() {
    let authority = Arc::new(Authority::new());
    let cluster = RedisCluster::start_with_tls(&authority).await;
    let config = cluster.config();
    let communities = one_on_each(&cluster, &config).await;
    everything(&redis_presence::open(&config, WINDOW), &communities).await;
}

#[tokio::test]
async fn nodes_that_refuse_the_user_are_told_of_once() {
    let cluster = RedisCluster::start().await;
    let config = config::Redis {
        password: Some(config::Secret::new("wr0ng-s3cret")),
        username: Some("nobody".into()),
        ..cluster.config()
    };
    let log = Log::default();
    let _listening = log.listen();
    let presence = redis_presence::open(&config, WINDOW);
    for _ in 0..2 {
        let refused = presence.ping().await.unwrap_err();
        assert!(!format!("{refused:?}").contains("wr0ng-s3cret"), "{refused:?}");
    }
    let text = log.text();
    assert_eq!(
        text.matches("no node of the Redis Cluster tells").count(),
        1,
        "{text}"
    );
    assert!(!text.contains("wr0ng-s3cret"), "{text}");
}
