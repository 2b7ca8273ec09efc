//! Probes of the app's servers: a TCP connect each `upstream.health_interval`, or `GET` of the health path where there is
//! one. A server that owes answers gets a `HEAD /` instead of a connect: the kernel takes connections for an app that
//! hangs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::Connector as HttpConnector;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck;

use super::peer;
use super::servers::{Address, Finding, Servers, Trouble};
use crate::config;

/// Where Pingora reads the certificates of authorities from, for connections to the app, which have no TLS. Reading those of the
/// system takes a good part of the time to the first answer, and each reader keeps them in memory.
pub const NO_AUTHORITIES: &str = "/dev/null";

/// Probes an address, and reports to [`Servers`]: to Pingora every probe succeeds, whose own state and log lines are not
/// used.
pub(super) struct HealthProbe {
    servers: Arc<Servers>,
    connect: TransportConnector,
    /// A request whose answer must be 200, where one is configured.
    health: Option<RequestHeader>,
    /// A request for any answer.
    any: RequestHeader,
    /// Of a connection, and of an answer.
    timeout: Duration,
    connector: HttpConnector,
}

impl HealthProbe {
    pub(super) fn new(upstream: &config::Upstream, servers: Arc<Servers>) -> Result<Self> {
        let request = |method: &str, path: &str| {
            let mut request = RequestHeader::build(method, path.as_bytes(), None)?;
            request.insert_header("Host", upstream.health_host.as_str())?;
            request.insert_header("User-Agent", "headcount-health-check")?;
            Ok::<_, Box<Error>>(request)
        };
        let health = upstream.health_path.as_deref();
        let options = ConnectorOptions {
            ca_file: Some(NO_AUTHORITIES.into()),
            // Each probe has a connection of its own.
            ..ConnectorOptions::new(1)
        };
        Ok(Self {
            servers,
            connect: TransportConnector::new(Some(options.clone())),
            health: health.map(|path| request("GET", path)).transpose()?,
            any: request("HEAD", "/")?,
            timeout: upstream.connect_timeout,
            connector: HttpConnector::new(Some(options)),
        })
    }

    fn peer(&self, target: &Backend) -> Result<HttpPeer> {
        let mut peer = peer(&target.addr)?;
        peer.options.connection_timeout = Some(self.timeout);
        peer.options.total_connection_timeout = Some(self.timeout);
        Ok(peer)
    }

    async fn connects(&self, target: &Backend) -> Result<()> {
        self.connect.new_stream(&self.peer(target)?).await.map(drop)
    }

    /// Sends a request, of whose answer only the status is read. No finding where there is no connection for a reason of our
    /// own.
    async fn status(
        &self,
        target: &Backend,
        address: &Address,
        request: &RequestHeader,
    ) -> Result<u16, Option<Finding>> {
        let no_connection = |error: Box<Error>| self.servers.without_connection(address, &error);
        let peer = self.peer(target).map_err(no_connection)?;
        let connected = self.connector.get_http_session(&peer).await;
        let (mut session, _) = connected.map_err(no_connection)?;
        let silent = |how: String| Some(Finding::Trouble(Trouble::Silent(how)));
        let exchange = async {
            session.write_request_header(Box::new(request.clone())).await?;
            session.finish_request_body().await?;
            session.read_response_header().await?;
            let status = session.response_header().map(|header| header.status.as_u16());
            status.ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(error)) => Err(silent(format!(
                "it takes connections and answers nothing that is HTTP ({})",
                error.etype().as_str()
            ))),
            Err(_) => Err(silent(format!(
                "it takes connections and answers nothing within {:?}",
                self.timeout
            ))),
        }
    }

    /// What is found out; nothing where the sidecar itself lacks what it needs for that.
    async fn find(&self, target: &Backend, address: &Address) -> Option<Finding> {
        let is_doubtful = self.servers.is_doubtful(address, self.timeout);
        let found = match &self.health {
            Some(request) => self
                .status(target, address, request)
                .await
                .map(|status| match status {
                    200 => Finding::Healthy,
                    other => Finding::Trouble(Trouble::Unhealthy(format!("its health path answers {other}"))),
                }),
            None if is_doubtful => {
                let answered = self.status(target, address, &self.any).await;
                answered.map(|_| Finding::Answers)
            }
            None => match self.connects(target).await {
                Ok(()) => Ok(Finding::Connects),
                Err(error) => Err(self.servers.without_connection(address, &error)),
            },
        };
        found.map_or_else(|finding| finding, Some)
    }
}

#[async_trait]
impl HealthCheck for HealthProbe {
    async fn check(&self, target: &Backend) -> Result<()> {
        if let Some(address) = self.servers.of(&target.addr)
            && let Some(finding) = self.find(target, &address).await
        {
            self.servers.found(&address, finding);
        }
        Ok(())
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}
