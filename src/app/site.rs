//! Pingora's server: the site's listeners, and the service that probes the app's servers.
//!
//! Pingora takes listening sockets from its table of inherited ones, or binds them. [`Bound`] fills that table with
//! sockets that are bound already: no other process can take a port between binding and serving it.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora_core::services::ServiceReadyNotifier;
use pingora_core::services::background::{BackgroundService, GenBackgroundService};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::{Config, Listen};
use crate::proxy::{Front, Handshakes, NO_AUTHORITIES, Sidecar};
use crate::reload::Certificate;
use crate::shutdown::{Closing, Shutdown};
use crate::tasks::{Task, Tasks};

/// TCP keepalive: idle time before the first probe, time between two probes, and how many unanswered ones end the
/// connection.
const KEEPALIVE: (Duration, Duration, usize) = (Duration::from_secs(60), Duration::from_secs(10), 3);
/// Upper bound of the TCP user timeout (time for sent data to be acknowledged): a day.
const MAX_USER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Read buffer of a TLS connection.
const TLS_READ_BUFFER: usize = 16 * 1024;

/// Longest time from the start until every listener is served.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The site, ready to be started.
pub(super) struct Site {
    server: Server,
    began: oneshot::Receiver<()>,
    stop: Shutdown,
    tasks: Tasks,
}

impl Site {
    /// Sets up the server with `sockets`.
    ///
    /// # Errors
    /// A certificate cannot be used.
    pub(super) fn new(
        config: &Config,
        addresses: &Listen,
        sockets: Vec<(SocketAddr, TcpListener)>,
        certificates: &[Arc<Certificate>],
        sidecar: Sidecar,
        closing: &Closing,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        // Pingora's own timers have a thread that wakes a hundred times per second, also where nothing is done.
        pingora_timeout::fast_timeout::set_fast_timeout_to_tokio_threshold(Some(Duration::ZERO));
        let mut server = Server::new_with_opt_and_conf(None, configuration(config, addresses));
        let balancer = UpstreamChecks {
            balancer: sidecar.upstreams.balancer(),
            tasks: tasks.clone(),
        };
        let mut balancer = GenBackgroundService::new("upstream".into(), Arc::new(balancer));
        balancer.threads = Some(1);
        let balancer = server.add_service(balancer);

        let (metrics, in_flight) = (sidecar.metrics.clone(), sidecar.in_flight.clone());
        let refusals = sidecar.edge.refusals.clone();
        let handshakes = Handshakes::new(in_flight.clone());
        let proxy = http_proxy(&server.configuration, sidecar);
        let front = Front::new(
            proxy,
            &config.limits,
            tasks.runtime().clone(),
            metrics,
            refusals,
            in_flight,
            closing.clone(),
        );
        let mut site = Service::new("site".into(), front);
        add_listeners(&mut site, config, addresses, certificates)?;
        site.endpoints().set_pre_tls_callback(Arc::new(handshakes));
        let (began, told) = oneshot::channel();
        let site = Bound {
            service: site,
            sockets,
            began: Some(began),
            tasks: tasks.clone(),
            stop: closing.accepting.clone(),
        };
        server.add_service(site).add_dependency(&balancer);
        Ok(Self {
            server,
            began: told,
            stop: closing.accepting.clone(),
            tasks: tasks.clone(),
        })
    }

    /// Starts the server on a thread that is not joined: Pingora sleeps through its whole grace period, even idle.
    /// Returns once every listener is served.
    ///
    /// # Errors
    /// Pingora could not start it.
    pub(super) async fn start(self) -> anyhow::Result<()> {
        let Self {
            server,
            began,
            stop,
            tasks,
        } = self;
        let run = move || {
            let _served = Served {
                tasks,
                stop: stop.clone(),
            };
            server.run(RunArgs {
                shutdown_signal: Box::new(stop),
            });
        };
        std::thread::Builder::new().name("pingora".into()).spawn(run)?;
        let served = timeout(START_LIMIT, began).await;
        served
            .context("the site's listeners are not served in time; the log says why")?
            .context("the site's listeners cannot be served; the log says why")
    }
}

/// While this lives, Pingora's server runs. Without it nothing is served.
struct Served {
    tasks: Tasks,
    stop: Shutdown,
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.stop.has_started() {
            self.tasks.lose(Task::Site);
        }
    }
}

/// Resolves and probes the app's servers, and starts again after a failure: Pingora would stop at the first.
struct UpstreamChecks<B> {
    balancer: Arc<B>,
    tasks: Tasks,
}

#[async_trait]
impl<B: BackgroundService + Send + Sync + 'static> BackgroundService for UpstreamChecks<B> {
    async fn start_with_ready_notifier(&self, shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        let balancer = self.balancer.clone();
        let mut ready = Some(ready);
        let work = move || {
            let (balancer, shutdown, ready) = (balancer.clone(), shutdown.clone(), ready.take());
            async move {
                match ready {
                    Some(ready) => balancer.start_with_ready_notifier(shutdown, ready).await,
                    None => balancer.start(shutdown).await,
                }
                // Either nothing has to be repeated, or the process ends, and this runtime with it.
                std::future::pending::<()>().await;
            }
        };
        self.tasks.clone().keeping(Task::Upstream, work).await;
    }
}

fn configuration(config: &Config, addresses: &Listen) -> ServerConf {
    let drain = config.limits.grace_period + config.record.flush_timeout;
    ServerConf {
        threads: addresses.threads,
        work_stealing: addresses.threads > 1,
        max_retries: config.upstream.retries + 1,
        // `app` waits for requests in flight and then ends the process; this is only its backstop.
        grace_period_seconds: Some(drain.as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(0),
        ca_file: Some(NO_AUTHORITIES.into()),
        ..ServerConf::default()
    }
}

fn add_listeners<A>(
    site: &mut Service<A>,
    config: &Config,
    addresses: &Listen,
    certificates: &[Arc<Certificate>],
) -> anyhow::Result<()> {
    for address in &addresses.http {
        // The reader brings a buffer; another one would cost 64 KiB for each connection.
        let endpoint = endpoint(address, config).l4_buffer(L4BufferSettings {
            read: Some(0),
            ..L4BufferSettings::default()
        });
        site.endpoints().add_listener(endpoint);
    }
    for (listener, certificate) in addresses.https.iter().zip(certificates) {
        // The paths are not read: the resolver replaces them.
        let mut tls = TlsSettings::intermediate("", "")
            .map_err(|error| anyhow::anyhow!("TLS at {}: {error}", listener.address))?;
        tls.set_cert_resolver(certificate.clone());
        // TLS reads 4 KiB at a time.
        let endpoint = endpoint(&listener.address, config)
            .tls(tls)
            .l4_buffer(L4BufferSettings {
                read: Some(TLS_READ_BUFFER),
                ..L4BufferSettings::default()
            });
        site.endpoints().add_listener(endpoint);
    }
    Ok(())
}

/// A listener with TCP keepalive, which notices clients that vanished without closing: nothing else would end an idle
/// event stream.
fn endpoint(address: &SocketAddr, config: &Config) -> ListenerConfig {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: KEEPALIVE.0,
        interval: KEEPALIVE.1,
        count: KEEPALIVE.2,
        user_timeout: config.limits.write_timeout.min(MAX_USER_TIMEOUT),
    });
    ListenerConfig::tcp(address.to_string()).tcp_socket_options(options)
}

/// A listening service with sockets that are bound already.
struct Bound<A> {
    service: Service<A>,
    /// By the address under which the service looks them up.
    sockets: Vec<(SocketAddr, TcpListener)>,
    began: Option<oneshot::Sender<()>>,
    tasks: Tasks,
    stop: Shutdown,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> pingora_core::services::Service for Bound<A> {
    async fn start_service(
        &mut self,
        inherited: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_socket: usize,
    ) {
        if let Some(inherited) = &inherited {
            let mut table = inherited.lock();
            for (address, socket) in self.sockets.drain(..) {
                // Pingora's from here on: it closes the socket when it stops listening.
                table.add(address.to_string(), socket.into_raw_fd());
            }
        }
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        let service = self
            .service
            .start_service(inherited, shutdown, listeners_per_socket);
        let mut service = pin!(tasks.until_lost(Task::Site, stop, service));
        // With all sockets in the table, the first poll goes as far as accepting connections. If it panics, `began` is
        // dropped, which reports the failure.
        tokio::select! {
            biased;
            () = &mut service => return,
            () = std::future::ready(()) => {}
        }
        if let Some(began) = self.began.take() {
            let _ = began.send(());
        }
        service.await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}
