//! The Redis servers that keep presence: one, or one that Sentinels name, or the nodes of a Cluster.
//!
//! Callers name a partition; the call is routed to the server that owns it. A call costs `response_timeout` at
//! most, however many servers it takes (P9).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Client, ErrorKind, RedisResult};
use tokio::time::Instant;

use super::access::{ServerAccess, ServerAddress};
use super::cluster::Cluster;
use super::link::{Link, Observer, Way};
use super::node::Node;
use super::sentinels::Sentinels;
use crate::config;
use crate::presence::Metrics;
use crate::presence::failure_domain::FailureDomains;
use crate::presence::{PresenceConfigError, PresenceError};
use crate::status::{RedisServers, Status};
use crate::tasks::Tasks;

/// Routes calls to servers.
pub(super) struct ServerRouter {
    kind: Topology,
    response_timeout: Duration,
    metrics: Arc<Metrics>,
}

enum Topology {
    One { link: Link, way: Arc<Way> },
    Cluster(Cluster),
}

/// A server to subscribe to.
pub(super) struct Publisher {
    /// A client for the server.
    pub(super) client: Client,
    /// The node, if there are several.
    node: Option<ServerAddress>,
}

impl ServerRouter {
    /// Starts connecting, as one of `tasks`, and returns at once. `slots` are those of the partitions.
    pub(super) fn open(
        config: &config::Redis,
        slots: Vec<u16>,
        domains: FailureDomains,
        status: &Status,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, PresenceConfigError> {
        let access =
            ServerAccess::new(config).map_err(|error| PresenceConfigError::Server(error.to_string()))?;
        // Only the fixed part of the message: the detail may quote the URL.
        let refused = |error: ::redis::RedisError| {
            PresenceConfigError::Server(error.to_string().split(" - ").next().unwrap_or_default().into())
        };
        let named = |configured| {
            status.set_redis_servers(RedisServers {
                configured,
                down: Vec::new(),
            });
        };
        let partitions = usize::from(config.partitions.get());
        status.set_partitions_down(partitions, partitions);
        let kind = if config.nodes.is_empty() {
            let way = if config.sentinels.is_empty() {
                let url = config.url.as_ref().map_or("", config::Secret::expose);
                Way::Server(Box::new(access.url(url).map_err(refused)?))
            } else {
                Way::Sentinels(Sentinels::new(&access, config).map_err(refused)?)
            };
            let way = Arc::new(way);
            named(way.name());
            let observer = Arc::new(Whole {
                domains,
                partitions,
                status: status.clone(),
            });
            let link = Link::open(Arc::clone(&way), config, observer, tasks);
            Topology::One { link, way }
        } else {
            named(format!("Cluster of {}", config.nodes.join(", ")));
            Topology::Cluster(Cluster::open(
                access,
                config,
                slots,
                domains,
                status.clone(),
                tasks,
            ))
        };
        Ok(Self {
            kind,
            response_timeout: config.response_timeout,
            metrics,
        })
    }

    /// Sends a call to the server of a partition. In a Cluster it may be sent again, to the node that the answer
    /// names. Errors are counted here.
    pub(super) async fn call<T, F>(
        &self,
        partition: u16,
        send: impl Fn(Node) -> F,
    ) -> Result<T, PresenceError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let deadline = Instant::now() + self.response_timeout;
        self.counted(match &self.kind {
            Topology::One { link, .. } => link.send(deadline, send).await,
            Topology::Cluster(cluster) => cluster.send(partition, deadline, send).await,
        })
    }

    /// Sends a call to any server, in a Cluster preferably not to `publisher`. Errors are counted here.
    pub(super) async fn call_any<T, F>(
        &self,
        publisher: Option<&Publisher>,
        send: impl FnOnce(Node) -> F,
    ) -> Result<T, PresenceError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let deadline = Instant::now() + self.response_timeout;
        self.counted(match &self.kind {
            Topology::One { link, .. } => link.send(deadline, send).await,
            Topology::Cluster(cluster) => {
                let not = publisher.and_then(|publisher| publisher.node.as_ref());
                cluster.send_any(not, deadline, send).await
            }
        })
    }

    /// A server to subscribe to; each publishes all changes.
    pub(super) async fn publisher(&self) -> RedisResult<Publisher> {
        match &self.kind {
            Topology::One { way, .. } => {
                let client = way.client().await?;
                Ok(Publisher { client, node: None })
            }
            Topology::Cluster(cluster) => {
                let (address, client) = cluster.any_node()?;
                let node = Some(address);
                Ok(Publisher { client, node })
            }
        }
    }

    fn counted<T>(&self, outcome: RedisResult<T>) -> Result<T, PresenceError> {
        outcome.map_err(|error| {
            self.metrics.redis_errors.inc();
            match error.kind() {
                ErrorKind::UnexpectedReturnType => PresenceError::Unexpected(error.to_string()),
                _ => PresenceError::Unavailable(error),
            }
        })
    }
}

/// Observes the one connection to the server that keeps all partitions.
struct Whole {
    domains: FailureDomains,
    partitions: usize,
    status: Status,
}

impl Observer for Whole {
    fn connected(&self) {
        self.domains.all().for_each(|domain| domain.note_loss());
    }

    fn changed(&self, up: bool) {
        self.status
            .set_partitions_down(if up { 0 } else { self.partitions }, self.partitions);
    }
}
