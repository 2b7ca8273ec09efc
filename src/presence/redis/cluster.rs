//! Connections to a Redis Cluster: routes calls to the nodes of their partitions, and follows redirections.
//!
//! Why not the client's own cluster connection: while it refreshes its map of nodes it blocks all calls, also
//! those to healthy nodes, until a hanging one has timed out (P9); it sends what a lost node should have got to
//! any other; and it does not report new connections or changed nodes, without which nothing can tell what to
//! touch again (P14). A few partitions need no more than what is here.

mod nodes;

use std::future::Future;
use std::sync::Arc;

use ::redis::{Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::time::{Instant, timeout_at};

use self::nodes::Nodes;
use super::access::{ServerAccess, ServerAddress};
use super::link::timed_out;
use super::node::Node;
use crate::config;
use crate::presence::failure_domain::FailureDomains;
use crate::status::Status;
use crate::tasks::{AbortOnDrop, Task, Tasks};

/// Most times that a call is sent.
const TRIES: usize = 3;

/// Dropping it ends all connections.
pub(super) struct Cluster {
    nodes: Arc<Nodes>,
    _task: AbortOnDrop,
}

impl Cluster {
    /// Starts looking and connecting, as one of `tasks`, and returns at once.
    pub(super) fn open(
        access: ServerAccess,
        config: &config::Redis,
        slots: Vec<u16>,
        domains: FailureDomains,
        status: Status,
        tasks: &Tasks,
    ) -> Self {
        let nodes = Arc::new(Nodes::new(access, config, slots, domains, status, tasks));
        let looking = Arc::clone(&nodes);
        let task = tasks.keep(Task::RedisNodes, move || Arc::clone(&looking).keep_looking());
        Self {
            nodes,
            _task: task.into(),
        }
    }

    /// Sends a call to the node of a partition, or to the node that it redirects to.
    pub(super) async fn send<T, F>(
        &self,
        partition: u16,
        deadline: Instant,
        send: impl Fn(Node) -> F,
    ) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let nodes = &self.nodes;
        let mut to = timeout_at(deadline, nodes.owner(partition))
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        let mut is_asked = false;
        let mut tries = 1;
        loop {
            let call = |node: Node| send(if is_asked { node.asked() } else { node });
            let outcome = nodes.link(&to)?.send(deadline, call).await;
            let Err(error) = &outcome else { return outcome };
            let kind = error.kind();
            if kind != ErrorKind::Server(ServerErrorKind::Ask) {
                nodes.something_is_amiss();
            }
            let Some(named) = redirection(error, &to).filter(|_| tries < TRIES) else {
                return outcome;
            };
            is_asked = kind == ErrorKind::Server(ServerErrorKind::Ask);
            if !is_asked {
                nodes.moved(partition, &named);
            }
            to = named;
            tries += 1;
        }
    }

    /// Sends a call to any node that is up, preferably not to `not`.
    pub(super) async fn send_any<T, F>(
        &self,
        not: Option<&ServerAddress>,
        deadline: Instant,
        send: impl FnOnce(Node) -> F,
    ) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let nodes = &self.nodes;
        // Waits for the first look at the map, whatever it says of that partition.
        let looked = timeout_at(deadline, nodes.owner(0)).await;
        let _ = looked.map_err(|_| timed_out())?;
        let (_, link) = nodes.any(not)?;
        link.send(deadline, send).await
    }

    /// A node that is up, or may come up.
    pub(super) fn any_node(&self) -> RedisResult<(ServerAddress, Client)> {
        let (address, _) = self.nodes.any(None)?;
        let client = self.nodes.client(&address)?;
        Ok((address, client))
    }
}

/// The node that an answer redirects to, instead of the one that was asked.
fn redirection(error: &RedisError, asked: &ServerAddress) -> Option<ServerAddress> {
    use ServerErrorKind::{Ask, Moved};
    if !matches!(error.kind(), ErrorKind::Server(Ask | Moved)) {
        return None;
    }
    // For a pipeline, its first error.
    let errors = error.clone().into_server_errors();
    let of_pipeline = errors.as_deref().and_then(|errors| errors.first()?.1.details());
    let node = of_pipeline.or(error.detail())?.split_ascii_whitespace().nth(1)?;
    let mut address = ServerAddress::parse(node)?;
    if address.host.is_empty() {
        address.host.clone_from(&asked.host);
    }
    Some(address)
}
