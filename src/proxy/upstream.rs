//! Upstream servers: which of the app's servers gets the next request, and with which timeouts.
//!
//! Servers are used round-robin; one that fails its health probe is left out. When all fail, all are tried, as without
//! probes. A single address is not probed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::Connector as HttpConnector;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::{HttpPeer, PeerOptions};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::{HealthCheck, TcpHealthCheck};
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};

use crate::config;

/// Servers tried before giving up on finding a healthy one.
const SELECT_ITERATIONS: usize = 32;

/// The app's servers.
pub struct Upstreams {
    balancer: Arc<LoadBalancer<RoundRobin>>,
    options: PeerOptions,
}

impl Upstreams {
    /// Sets up balancing and probes. Nothing is resolved or connected before the balancer runs.
    pub fn new(upstream: &config::Upstream) -> Result<Self> {
        let mut backends = Backends::new(Box::new(Servers {
            names: upstream.servers.clone(),
            timeout: upstream.connect_timeout,
        }));
        // A name may resolve to several servers.
        let is_one =
            |server: &String| server.starts_with("unix:") || server.parse::<std::net::SocketAddr>().is_ok();
        if upstream.servers.len() > 1 || !upstream.servers.iter().all(is_one) {
            backends.set_health_check(probe(upstream)?);
        }
        let mut balancer = LoadBalancer::from_backends(backends);
        balancer.health_check_frequency = Some(upstream.health_interval);
        balancer.update_frequency = Some(upstream.health_interval);
        balancer.parallel_health_check = true;

        let mut options = PeerOptions::new();
        options.connection_timeout = Some(upstream.connect_timeout);
        options.total_connection_timeout = Some(upstream.connect_timeout);
        // Pingora takes one read timeout per exchange, when it begins. Until an answer turns out to be a tunnel,
        // `read_timeout` applies, which is enforced where the client's socket is read.
        options.read_timeout = Some(upstream.tunnel_timeout.max(upstream.read_timeout));
        options.write_timeout = Some(upstream.write_timeout);
        options.idle_timeout = Some(upstream.idle_timeout);
        Ok(Self {
            balancer: Arc::new(balancer),
            options,
        })
    }

    /// Resolves names and probes servers while it is run.
    pub fn balancer(&self) -> Arc<LoadBalancer<RoundRobin>> {
        self.balancer.clone()
    }

    /// The server for the next attempt.
    ///
    /// # Errors
    /// No server is known: its name could not be resolved yet.
    pub fn select(&self) -> Result<Box<HttpPeer>> {
        let backend = self
            .balancer
            .select(b"", SELECT_ITERATIONS)
            .or_else(|| self.balancer.select_with(b"", SELECT_ITERATIONS, |_, _| true))
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no upstream server is known"))?
            .addr;
        let mut peer = peer(&backend)?;
        peer.options = self.options.clone();
        Ok(Box::new(peer))
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
struct Servers {
    names: Vec<String>,
    /// Limit of each resolution.
    timeout: Duration,
}

#[async_trait]
impl ServiceDiscovery for Servers {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for server in &self.names {
            if let Some(path) = server.strip_prefix("unix:") {
                let address = HttpPeer::new_uds(path, false, String::new())?._address;
                backends.insert(backend(address));
                continue;
            }
            let resolved = tokio::time::timeout(self.timeout, tokio::net::lookup_host(server)).await;
            match resolved.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(addresses) => backends.extend(addresses.map(|address| backend(SocketAddr::Inet(address)))),
                Err(error) => tracing::warn!(server, error = %error, "an upstream name cannot be resolved"),
            }
        }
        if backends.is_empty() {
            // The servers known before stay in use.
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

fn probe(upstream: &config::Upstream) -> Result<Box<dyn HealthCheck + Send + Sync>> {
    let Some(path) = &upstream.health_path else {
        let mut probe = TcpHealthCheck::new();
        probe.peer_template.options.connection_timeout = Some(upstream.connect_timeout);
        return Ok(probe);
    };
    let mut request = RequestHeader::build("GET", path.as_bytes(), None)?;
    request.insert_header("Host", upstream.health_host.as_str())?;
    request.insert_header("User-Agent", "headcount-health-check")?;
    Ok(Box::new(HttpProbe {
        request,
        timeout: upstream.connect_timeout,
        connector: HttpConnector::new(None),
    }))
}

/// `GET` of a path that must answer 200, over TCP or a Unix socket.
struct HttpProbe {
    request: RequestHeader,
    timeout: Duration,
    connector: HttpConnector,
}

#[async_trait]
impl HealthCheck for HttpProbe {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = peer(&target.addr)?;
        peer.options.connection_timeout = Some(self.timeout);
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session
            .write_request_header(Box::new(self.request.clone()))
            .await?;
        session.finish_request_body().await?;
        session.set_read_timeout(Some(self.timeout));
        session.read_response_header().await?;
        match session.response_header().map(|header| header.status.as_u16()) {
            Some(200) => Ok(()),
            status => Error::e_explain(
                ErrorType::CustomCode("health probe", status.unwrap_or_default()),
                "the health path did not answer 200",
            ),
        }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
