//! Upstream servers: which of the app's servers gets the next request, and with which timeouts.
//!
//! Servers are used round-robin; one that is known to be down ([`servers`]) is left out. When all are, all are tried.

mod probe;
mod servers;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions};
use pingora_core::{Error, ErrorType, Result};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};

use super::metrics::Metrics;
use crate::config;
use crate::status::Status;

use probe::HealthProbe;
pub use probe::NO_AUTHORITIES;
use servers::AppComponents;
pub(super) use servers::{Address, Servers};

/// Servers tried before giving up on finding one that is not down.
const SELECT_ITERATIONS: usize = 32;

/// The app's servers.
pub struct Upstreams {
    balancer: Arc<LoadBalancer<RoundRobin>>,
    options: PeerOptions,
    /// How long the app may be silent on a tunnel or an event stream.
    pub(super) longest_silence: Duration,
    /// What is known of their health.
    pub(super) servers: Arc<Servers>,
}

impl Upstreams {
    /// Sets up balancing and probes. Nothing is resolved or connected before the balancer runs.
    pub fn new(upstream: &config::Upstream, status: &Status, metrics: &Metrics) -> Result<Self> {
        let servers = Arc::new(Servers::new(
            &upstream.servers,
            AppComponents {
                app: status.app.clone(),
                some: status.app_servers.clone(),
                own: status.app_connections.clone(),
            },
            metrics.upstream_up.clone(),
        ));
        let mut backends = Backends::new(Box::new(Names {
            configured: upstream.servers.clone(),
            timeout: upstream.connect_timeout,
            servers: Arc::clone(&servers),
        }));
        backends.set_health_check(Box::new(HealthProbe::new(upstream, Arc::clone(&servers))?));
        let mut balancer = LoadBalancer::from_backends(backends);
        balancer.health_check_frequency = Some(upstream.health_interval);
        balancer.update_frequency = Some(upstream.health_interval);
        balancer.parallel_health_check = true;

        let mut options = PeerOptions::new();
        options.connection_timeout = Some(upstream.connect_timeout);
        options.total_connection_timeout = Some(upstream.connect_timeout);
        options.write_timeout = Some(upstream.write_timeout);
        options.idle_timeout = Some(upstream.idle_timeout);
        Ok(Self {
            balancer: Arc::new(balancer),
            options,
            longest_silence: upstream.tunnel_timeout.max(upstream.read_timeout),
            servers,
        })
    }

    /// Resolves names and probes servers while it is run.
    pub fn balancer(&self) -> Arc<LoadBalancer<RoundRobin>> {
        self.balancer.clone()
    }

    /// The server for the next attempt, and what is known of its health.
    ///
    /// The framework takes one read timeout per exchange, when it begins, and sets a timer for each answer. It is needed
    /// where the client's socket, which limits the app's silence otherwise, need not be read from until the end: in what
    /// may become a tunnel, and in a request with a body, which the app may no longer read.
    ///
    /// # Errors
    /// No server is known: its name could not be resolved yet.
    pub(super) fn select(&self, needs_timeout: bool) -> Result<(Box<HttpPeer>, Option<Arc<Address>>)> {
        if let Some((address, known)) = self.servers.only() {
            return Ok((self.peer(&address, needs_timeout)?, Some(known)));
        }
        // One pass: each moves the round-robin on, and with two per attempt the same server would always be next.
        let first = RefCell::new(None);
        let is_taken = |backend: &Backend, _| {
            let is_down = self
                .servers
                .of(&backend.addr)
                .is_some_and(|known| known.is_down());
            if is_down {
                first.borrow_mut().get_or_insert_with(|| backend.clone());
            }
            !is_down
        };
        let taken = self.balancer.select_with(b"", SELECT_ITERATIONS, is_taken);
        let backend = taken
            .or(first.into_inner())
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no upstream server is known"))?
            .addr;
        Ok((self.peer(&backend, needs_timeout)?, self.servers.of(&backend)))
    }

    fn peer(&self, address: &SocketAddr, needs_timeout: bool) -> Result<Box<HttpPeer>> {
        let mut peer = Box::new(peer(address)?);
        peer.options = self.options.clone();
        peer.options.read_timeout = needs_timeout.then_some(self.longest_silence);
        Ok(peer)
    }
}

fn peer(address: &SocketAddr) -> Result<HttpPeer> {
    match address {
        SocketAddr::Inet(address) => Ok(HttpPeer::new(*address, false, String::new())),
        SocketAddr::Unix(path) => {
            let path = path
                .as_pathname()
                .and_then(|path| path.to_str())
                .unwrap_or_default();
            HttpPeer::new_uds(path, false, String::new())
        }
    }
}

/// The configured servers; names are resolved each time.
struct Names {
    configured: Vec<String>,
    /// Limit of each resolution.
    timeout: Duration,
    /// Is told what is found.
    servers: Arc<Servers>,
}

impl Names {
    /// The addresses of a server.
    async fn addresses(&self, server: &str) -> Result<Vec<SocketAddr>, String> {
        if let Some(path) = server.strip_prefix("unix:") {
            let peer = HttpPeer::new_uds(path, false, String::new());
            return match peer {
                Ok(peer) => Ok(vec![peer._address]),
                Err(_) => Err("the path cannot be a socket's: it is too long".into()),
            };
        }
        let resolved = tokio::time::timeout(self.timeout, tokio::net::lookup_host(server)).await;
        match resolved.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(addresses) => Ok(addresses.map(SocketAddr::Inet).collect()),
            Err(error) => Err(format!("the name cannot be resolved ({error})")),
        }
    }
}

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let found = self.configured.iter().map(|server| self.addresses(server));
        let found = futures_util::future::join_all(found).await;
        let backends: BTreeSet<_> = self.servers.resolved(&found).into_iter().map(backend).collect();
        if backends.is_empty() {
            return Error::e_explain(ErrorType::ConnectNoRoute, "no upstream server could be resolved");
        }
        Ok((backends, HashMap::new()))
    }
}

fn backend(addr: SocketAddr) -> Backend {
    Backend {
        addr,
        weight: 1,
        ext: Extensions::new(),
    }
}
