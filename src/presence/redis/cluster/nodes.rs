//! The map of a Redis Cluster: which node keeps which partition, and a [`Link`] to each that keeps one.
//!
//! A task asks all connected nodes and takes the majority's map: at once and repeatedly while something is wrong,
//! and periodically otherwise. While none can be asked, it asks the nodes of the configuration.
//!
//! All of them are primaries. A partition that moves to another node may have lost touches, which is noted before
//! the first call goes there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ::redis::{Client, ErrorKind, RedisResult, Value};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::super::access::{ServerAccess, ServerAddress};
use super::super::link::{self, Link, Observer, Way, timed_out};
use super::super::slots::{Owners, majority, owners};
use crate::config;
use crate::presence::failure_domain::FailureDomains;
use crate::retry::jittered;
use crate::status::{Component, RedisServers, Status};
use crate::tasks::Tasks;

/// Between two looks at the map: while all is well, and while it is not; jittered by up to a quarter.
const LOOK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(200));

/// State of the map.
pub(super) struct Nodes {
    access: ServerAccess,
    config: config::Redis,
    /// By partition.
    slots: Vec<u16>,
    /// `None` until the first look is over; an error while none has succeeded.
    map: watch::Sender<Option<RedisResult<Owners>>>,
    links: Mutex<HashMap<ServerAddress, Arc<Link>>>,
    /// Something is wrong.
    amiss: Notify,
    domains: FailureDomains,
    status: Status,
    tasks: Tasks,
}

impl Nodes {
    /// An empty map: see [`Nodes::keep_looking`]. Connections will be of `tasks`.
    pub(super) fn new(
        access: ServerAccess,
        config: &config::Redis,
        slots: Vec<u16>,
        domains: FailureDomains,
        status: Status,
        tasks: &Tasks,
    ) -> Self {
        Self {
            access,
            config: config.clone(),
            slots,
            map: watch::Sender::new(None),
            links: Mutex::default(),
            amiss: Notify::new(),
            domains,
            status,
            tasks: tasks.clone(),
        }
    }

    /// Makes the next look happen soon.
    pub(super) fn something_is_amiss(&self) {
        self.amiss.notify_one();
    }

    /// A client of a node.
    pub(super) fn client(&self, address: &ServerAddress) -> RedisResult<Client> {
        self.access.address(address)
    }

    /// Refreshes the map periodically. Never ends by itself.
    pub(super) async fn keep_looking(self: Arc<Self>) {
        let source = Component::default();
        loop {
            match self.look().await {
                Ok(owners) => {
                    source.up(|_| {
                        tracing::info!("a node of the Redis Cluster tells again where the partitions are");
                    });
                    self.adopt(&owners);
                }
                Err(error) => {
                    source.down(error.to_string(), |error| {
                        tracing::warn!(%error, "no node of the Redis Cluster tells where the partitions are; trying again until one does");
                    });
                    self.map.send_if_modified(|map| {
                        let is_unknown = !matches!(map, Some(Ok(_)));
                        if is_unknown {
                            *map = Some(Err(error));
                        }
                        is_unknown
                    });
                }
            }
            let next = if self.report() { LOOK.0 } else { LOOK.1 };
            let amiss = async {
                self.amiss.notified().await;
                sleep(jittered(LOOK.1)).await;
            };
            tokio::select! {
                () = sleep(jittered(next)) => {}
                () = amiss => {}
            }
        }
    }

    /// The map that most nodes report.
    async fn look(&self) -> RedisResult<Owners> {
        let (connect_timeout, response_timeout) = (self.config.connect_timeout, self.config.response_timeout);
        let deadline = Instant::now() + response_timeout;
        let up = self.up();
        let answers = up.iter().map(async |(address, link)| {
            let answer = link.send(deadline, |mut node| async move {
                cluster_slots().query_async(&mut node).await
            });
            self.read(address, &answer.await?)
        });
        if let Ok(owners) = believed(answers.collect(), up.len()).await {
            return Ok(owners);
        }
        let seeds = self
            .config
            .nodes
            .iter()
            .filter_map(|text| ServerAddress::parse(text));
        let answers = seeds.map(async |address| {
            let client = self.client(&address)?;
            let mut connection = link::connection(&client, connect_timeout, response_timeout).await?;
            self.read(&address, &cluster_slots().query_async(&mut connection).await?)
        });
        believed(answers.collect(), 1).await
    }

    fn read(&self, asked: &ServerAddress, answer: &Value) -> RedisResult<Owners> {
        let owners = owners(answer, &self.slots, asked);
        owners
            .filter(|owners| owners.iter().any(Option::is_some))
            .ok_or_else(|| (ErrorKind::Client, "the node knows of no partition").into())
    }

    /// Replaces the map.
    fn adopt(self: &Arc<Self>, owners: &[Option<ServerAddress>]) {
        let mut moved = 0;
        // Losses are noted while the map is locked: re-touches caused by them go where the partition is now.
        self.map.send_modify(|map| {
            let known = match map {
                Some(Ok(known)) => known.as_slice(),
                _ => &[],
            };
            for (partition, owner) in (0..).zip(owners) {
                if known.get(usize::from(partition)) != Some(owner) {
                    moved += 1;
                    self.domains.of_partition(partition).note_loss();
                }
            }
            *map = Some(Ok(owners.to_vec()));
        });
        if moved > 0 {
            tracing::info!(partitions = moved, "the Redis Cluster tells where partitions are");
        }
        self.lock()
            .retain(|address, _| owners.iter().flatten().any(|owner| owner == address));
        for address in owners.iter().flatten() {
            // Connects; an address of which no client can be made fails again at the first call.
            let _ = self.link(address);
        }
    }

    /// Notes that a node named another as the keeper of a partition.
    pub(super) fn moved(&self, partition: u16, to: &ServerAddress) {
        self.map.send_if_modified(|map| {
            let Some(Ok(owners)) = map else { return false };
            let Some(owner) = owners.get_mut(usize::from(partition)) else {
                return false;
            };
            if owner.as_ref() == Some(to) {
                return false;
            }
            self.domains.of_partition(partition).note_loss();
            *owner = Some(to.clone());
            true
        });
    }

    /// The node that keeps a partition; waits for the end of the first look.
    pub(super) async fn owner(&self, partition: u16) -> RedisResult<ServerAddress> {
        let mut map = self.map.subscribe();
        let known = map.wait_for(Option::is_some).await;
        match known.as_deref() {
            Ok(Some(Ok(owners))) => owners
                .get(usize::from(partition))
                .cloned()
                .flatten()
                .ok_or_else(|| {
                    (
                        ErrorKind::ClusterConnectionNotFound,
                        "no node keeps the partition",
                    )
                        .into()
                }),
            Ok(Some(Err(error))) => Err(error.clone()),
            Ok(None) | Err(_) => Err(timed_out()),
        }
    }

    /// The connection to a node; opened if there is none yet.
    pub(super) fn link(self: &Arc<Self>, address: &ServerAddress) -> RedisResult<Arc<Link>> {
        match self.lock().entry(address.clone()) {
            Entry::Occupied(link) => Ok(Arc::clone(link.get())),
            Entry::Vacant(place) => {
                let way = Arc::new(Way::Server(Box::new(self.client(address)?)));
                let observer = Arc::new(One {
                    nodes: Arc::downgrade(self),
                    address: address.clone(),
                });
                let link = Arc::new(Link::open(way, &self.config, observer, &self.tasks));
                Ok(Arc::clone(place.insert(link)))
            }
        }
    }

    /// Nodes with a working connection.
    fn up(&self) -> Vec<(ServerAddress, Arc<Link>)> {
        let links = self.lock();
        let up = links.iter().filter(|(_, link)| link.is_up());
        up.map(|(address, link)| (address.clone(), Arc::clone(link)))
            .collect()
    }

    /// A node that is up, preferably not `not`; otherwise one that may come up.
    pub(super) fn any(&self, not: Option<&ServerAddress>) -> RedisResult<(ServerAddress, Arc<Link>)> {
        let mut nodes = self.up();
        if nodes.is_empty() {
            let links = self.lock();
            let all = links.iter();
            nodes.extend(all.map(|(address, link)| (address.clone(), Arc::clone(link))));
        }
        if nodes.len() > 1 {
            nodes.retain(|(address, _)| Some(address) != not);
        }
        if nodes.is_empty() {
            return Err((ErrorKind::ClusterConnectionNotFound, "no node is known").into());
        }
        Ok(nodes.swap_remove(rand::random_range(0..nodes.len())))
    }

    /// Notes how many partitions cannot be reached. True if all can.
    fn report(&self) -> bool {
        let owners = match &*self.map.borrow() {
            Some(Ok(owners)) => owners.clone(),
            _ => vec![None; self.slots.len()],
        };
        let links = self.lock();
        let link = |owner: &ServerAddress| links.get(owner);
        let is_down =
            |owner: &&Option<ServerAddress>| !owner.as_ref().and_then(link).is_some_and(|link| link.is_up());
        let all = owners.len();
        let down: Vec<_> = owners.iter().filter(is_down).collect();
        let mut nodes: Vec<String> = down.iter().copied().flatten().map(ToString::to_string).collect();
        nodes.sort();
        nodes.dedup();
        let servers = self.status.redis_servers();
        if servers.down != nodes {
            let configured = servers.configured.clone();
            self.status.set_redis_servers(RedisServers {
                configured,
                down: nodes,
            });
        }
        self.status.set_partitions_down(down.len(), all);
        down.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerAddress, Arc<Link>>> {
        // Nothing panics while it holds the lock.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Observes the connection to one node.
struct One {
    nodes: Weak<Nodes>,
    address: ServerAddress,
}

impl Observer for One {
    fn connected(&self) {
        let Some(nodes) = self.nodes.upgrade() else { return };
        if let Some(Ok(owners)) = &*nodes.map.borrow() {
            for (partition, owner) in (0..).zip(owners) {
                if owner.as_ref() == Some(&self.address) {
                    nodes.domains.of_partition(partition).note_loss();
                }
            }
        }
    }

    fn changed(&self, up: bool) {
        let Some(nodes) = self.nodes.upgrade() else { return };
        nodes.report();
        if !up {
            nodes.something_is_amiss();
        }
    }
}

fn cluster_slots() -> ::redis::Cmd {
    let mut command = ::redis::cmd("CLUSTER");
    command.arg("SLOTS");
    command
}

/// The map that most of the `asked` nodes report, as soon as that is certain or no more answers come.
async fn believed<F>(mut answers: FuturesUnordered<F>, asked: usize) -> RedisResult<Owners>
where
    F: Future<Output = RedisResult<Owners>>,
{
    let mut failure = (ErrorKind::ClusterConnectionNotFound, "no node is there").into();
    let mut heard = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(owners) => heard.push(owners),
            Err(error) => failure = error,
        }
        if let Some((owners, true)) = majority(&heard, asked) {
            return Ok(owners.clone());
        }
    }
    majority(&heard, asked)
        .map(|(owners, _)| owners.clone())
        .ok_or(failure)
}
