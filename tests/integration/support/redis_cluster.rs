//! A Redis Cluster of a test's own: three primaries with a third of the slots each, and a replica of each.

use std::sync::Arc;

use headcount::config;
use headcount::presence::Scope;
use headcount::presence::keys::Keys;
use redis::aio::MultiplexedConnection;

use super::redis::{RedisServer, any_config, eventually};
use super::service::free_port;
use super::tls::Authority;

/// Primaries, each with a replica.
const PRIMARIES: usize = 3;
/// After this time of silence a node is replaced by its replica, in milliseconds: never in a test, or soon, but not
/// because the machine is busy.
const NODE_TIMEOUT: (&str, &str) = ("60000", "2000");

/// Six processes.
pub(crate) struct RedisCluster {
    /// The primaries first, as it was at the start.
    pub(crate) nodes: Vec<RedisServer>,
    authority: Option<Arc<Authority>>,
}

impl RedisCluster {
    /// A cluster that is well, and in which no replica takes over.
    pub(crate) async fn start() -> Self {
        Self::start_with(None, NODE_TIMEOUT.0).await
    }

    /// A cluster in which replicas take over soon.
    pub(crate) async fn start_failing_over() -> Self {
        Self::start_with(None, NODE_TIMEOUT.1).await
    }

    /// A cluster with encrypted connections only.
    pub(crate) async fn start_with_tls(authority: &Arc<Authority>) -> Self {
        Self::start_with(Some(authority), NODE_TIMEOUT.0).await
    }

    async fn start_with(authority: Option<&Arc<Authority>>, timeout: &str) -> Self {
        let nodes = (0..2 * PRIMARIES).map(|_| {
            let bus = free_port().to_string();
            let mut all = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", timeout];
            all.extend(["--cluster-port", &bus, "--cluster-replica-validity-factor", "0"]);
            all.extend(["--repl-diskless-sync-delay", "0"]);
            // Or all nodes would refuse everything while one part is away.
            all.extend(["--cluster-require-full-coverage", "no"]);
            if authority.is_some() {
                all.extend(["--tls-cluster", "yes"]);
            }
            (RedisServer::start_with(authority, &all), bus)
        });
        let (nodes, buses): (Vec<_>, Vec<_>) = nodes.unzip();
        let cluster = Self {
            nodes,
            authority: authority.cloned(),
        };
        cluster.form(&buses).await;
        cluster
    }

    async fn form(&self, buses: &[String]) {
        for (index, node) in self.nodes.iter().enumerate() {
            node.does::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])
                .await;
            let (port, bus) = (node.port().to_string(), &buses[index]);
            self.nodes[0]
                .does::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])
                .await;
        }
        for (index, node) in self.nodes[..PRIMARIES].iter().enumerate() {
            let edge = |index: usize| (index * 16_384 / PRIMARIES).to_string();
            let last = (index + 1) * 16_384 / PRIMARIES - 1;
            node.does::<()>(&["CLUSTER", "ADDSLOTSRANGE", &edge(index), &last.to_string()])
                .await;
        }
        self.all_say("cluster_known_nodes:6").await;
        for (primary, replica) in self.nodes[..PRIMARIES].iter().zip(&self.nodes[PRIMARIES..]) {
            let id: String = primary.does(&["CLUSTER", "MYID"]).await;
            replica.does::<()>(&["CLUSTER", "REPLICATE", &id]).await;
        }
        for replica in &self.nodes[PRIMARIES..] {
            replica.is_in_step().await;
        }
        self.all_say("cluster_state:ok").await;
        // Also who replicates whom, without which nobody would be elected.
        for node in &self.nodes {
            eventually(async || {
                let nodes: String = node.does(&["CLUSTER", "NODES"]).await;
                nodes.matches(" slave ").count() + nodes.matches(",slave ").count() == PRIMARIES
            })
            .await;
        }
    }

    async fn all_say(&self, what: &str) {
        for node in &self.nodes {
            eventually(async || {
                let info: String = node.does(&["CLUSTER", "INFO"]).await;
                info.contains(what)
            })
            .await;
        }
    }

    /// Configuration for a test: a key prefix that no other test has. One node is named that is not there, and
    /// one that is a replica.
    pub(crate) fn config(&self) -> config::Redis {
        let config = config::Redis {
            nodes: vec![
                format!("127.0.0.1:{}", free_port()),
                self.nodes[5].address(),
                self.nodes[0].address(),
            ],
            ..any_config()
        };
        match &self.authority {
            Some(authority) => authority.trusted(config),
            None => config,
        }
    }

    /// Keys of `[redis]` that lead a sidecar here.
    pub(crate) fn keys(&self) -> String {
        format!(
            "nodes = {:?}\n",
            self.nodes.iter().map(RedisServer::address).collect::<Vec<_>>()
        )
    }

    /// Which of the primaries of the start keeps a community.
    pub(crate) async fn keeper(&self, keys: &Keys, community: &Scope) -> usize {
        let key = keys.scope(community).seen;
        let slot: usize = self.nodes[0].does(&["CLUSTER", "KEYSLOT", &key]).await;
        slot * PRIMARIES / 16_384
    }

    /// The replica of a primary, both as of the start.
    pub(crate) fn replica(&self, primary: usize) -> &RedisServer {
        &self.nodes[primary + PRIMARIES]
    }

    /// A connection to each primary of the start.
    pub(crate) async fn raw(&self) -> Vec<MultiplexedConnection> {
        let mut connections = Vec::new();
        for node in &self.nodes[..PRIMARIES] {
            connections.push(node.raw().await);
        }
        connections
    }
}
