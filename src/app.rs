//! The only place that constructs and wires. Start order: routes, ports, stores, workers, proxy. Drain
//! order: not ready → listeners closed → live connections and requests in flight → recorder → presence and
//! writer.

mod listeners;
mod recording;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use chrono::Utc;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::api::{Api, Sources, UpstreamCheck};
use crate::config::{Config, Listen};
use crate::geoip::GeoIp;
use crate::live::{self, Live};
use crate::metrics::Metrics;
use crate::page_view::Policy;
use crate::presence;
use crate::proxy::{Front, Sidecar, Upstreams};
use crate::reload::{self, Reloader, SharedRoutes};
use crate::routes::RouteTable;
use crate::shutdown::{self, InFlight, OnHangup, Shutdown};
use crate::store;

use listeners::Claims;
use recording::Recording;

/// Threads of the runtime on which everything but the proxying runs.
const BACKGROUND_THREADS: usize = 2;
/// Longest time that the database's connections may take to close at the end.
const DATABASE_FAREWELL: Duration = Duration::from_secs(1);

/// Silence after which TCP asks whether a client is still there, time between two questions, and how many remain
/// unanswered before it is not.
const KEEPALIVE: (Duration, Duration, usize) = (Duration::from_secs(60), Duration::from_secs(10), 3);
/// Longest time that the kernel takes for data to be acknowledged: a day.
const MAX_USER_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// Read buffer of a TLS connection.
const TLS_READ_BUFFER: usize = 16 * 1024;

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator's to mend: configuration or route files.
    #[error("{0}")]
    Configuration(String),
    /// The machine's: a port taken, no threads to be had.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// A sidecar that is ready to run: everything validated, nothing served yet.
pub struct App {
    config: Config,
    routes: RouteTable,
    geoip: Option<GeoIp>,
    claims: Claims,
    shutdown: Shutdown,
    ends_on_hangup: bool,
}

impl App {
    /// Loads the route files and makes sure that the ports are free.
    ///
    /// # Errors
    /// What the operator must mend, before anything is bound for good.
    pub fn build(config: Config) -> Result<Self, StartError> {
        let routes = reload::load_routes(&config.routes.dir)
            .map_err(|error| StartError::Configuration(error.to_string()))?;
        let geoip = open_geoip(&config)?;
        let claims = listeners::claim(&config.listen)?;
        Ok(Self {
            config,
            routes,
            geoip,
            claims,
            shutdown: Shutdown::new(),
            ends_on_hangup: false,
        })
    }

    /// Lets SIGHUP end the sidecar instead of having it read the route files again: for a process that
    /// belongs to a terminal.
    #[must_use]
    pub fn ending_on_hangup(mut self) -> Self {
        self.ends_on_hangup = true;
        self
    }

    /// Where the sidecar will listen; ports 0 have been replaced.
    pub fn addresses(&self) -> &Listen {
        &self.claims.addresses
    }

    /// Ends the sidecar from inside the process, as SIGTERM does from outside.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Serves until SIGTERM, SIGINT or [`App::shutdown`], then drains and flushes.
    ///
    /// # Errors
    /// Something could not be started.
    pub fn run(self) -> anyhow::Result<()> {
        let Self {
            config,
            routes,
            geoip,
            claims,
            shutdown,
            ends_on_hangup,
        } = self;
        let Claims {
            addresses,
            admin,
            site,
        } = claims;
        let background = background_runtime()?;
        let entered = background.enter();

        let (reload, reload_requests) = mpsc::channel(1);
        // The reloader goes on for as long as `reload` lives: files may change without a signal, too.
        let on_hangup = if ends_on_hangup {
            OnHangup::End
        } else {
            OnHangup::Reload(reload.clone())
        };
        shutdown::listen_to_signals(shutdown.clone(), on_hangup).context("signal handlers")?;

        let metrics = Arc::new(Metrics::new());
        let store = store::open(&config).context("the database")?;
        let presence = presence::open(
            &config.redis,
            &config.record,
            metrics.clone(),
            background.handle(),
        )?;
        let routes: SharedRoutes = Arc::new(ArcSwap::from_pointee(routes));

        let recording = Recording::start(&config, geoip, &store, &presence, &metrics);
        let reloader = Reloader::new(config.routes.dir.clone(), routes.clone(), metrics.clone());
        tokio::spawn(reloader.run(config.routes.watch, reload_requests));
        tokio::spawn(watch::watch_database(store.clone(), metrics.clone()));
        tokio::spawn(watch::check_schema(config.clone()));
        admin.set_nonblocking(true)?;
        let admin = tokio::net::TcpListener::from_std(admin)?;
        let policy = Policy::new(&config.record, &config.privacy);
        let pages = Admin {
            metrics: metrics.clone(),
            routes: routes.clone(),
            policy: policy.clone(),
            api: config.api.clone(),
            serving: Arc::default(),
            shutdown: shutdown.clone(),
        };
        let serving = pages.serving.clone();
        tokio::spawn(pages.serve(admin));

        let in_flight = InFlight::default();
        let live = start_live(&config, &presence, &recording, &metrics);
        let sources = Sources {
            store: store.clone(),
            communities: recording.communities.clone(),
            presence,
            backend_check: Arc::new(UpstreamCheck::new(&config.upstream, config.api.timeout * 4 / 5)),
            live: live.clone(),
        };
        let parts = Parts {
            routes,
            policy,
            sources,
            metrics: metrics.clone(),
            in_flight: in_flight.clone(),
        };
        let sidecar = sidecar(&config, parts, &recording, background.handle())?;
        let server = server(&config, &addresses, sidecar, background.handle(), &metrics)?;
        let stop_listening = Shutdown::new();
        drop(site);
        start(server, stop_listening.clone())?;
        drop(entered);

        let result = background.block_on(async {
            tokio::select! {
                outcome = listeners::served(&addresses) => outcome?,
                () = shutdown.started() => {}
            }
            serving.store(true, Ordering::Relaxed);
            tracing::info!(site = %site_address(&addresses), admin = %addresses.admin, "ready");
            shutdown.started().await;
            tokio::time::sleep(config.limits.shutdown_delay).await;
            stop_listening.start();
            let (left, ()) = tokio::join!(
                in_flight.drained(config.limits.grace_period),
                see_off(live, config.limits.grace_period)
            );
            if left > 0 {
                tracing::warn!(
                    requests = left,
                    "requests still in flight after the grace period are cut off"
                );
            }
            recording.finish(config.record.flush_timeout, &metrics).await;
            // A polite end of connections only: what a hung database still holds ends with the process.
            let _ = tokio::time::timeout(DATABASE_FAREWELL, store.close()).await;
            drop(reload);
            Ok(())
        });
        background.shutdown_background();
        tracing::info!("ended");
        result
    }
}

/// What live connections share, where they are switched on.
fn start_live(
    config: &Config,
    presence: &Arc<dyn presence::Presence>,
    recording: &Recording,
    metrics: &Arc<Metrics>,
) -> Option<Live> {
    let parts = live::Parts {
        presence: presence.clone(),
        touches: recording.touches.clone(),
        authenticator: recording.authenticator.clone(),
        metrics: metrics.clone(),
    };
    let start = || {
        Live::start(
            &config.live,
            &config.record,
            &config.session,
            config.limits.max_connections,
            parts,
        )
    };
    (config.api.enabled && config.api.live).then(start)
}

/// Live connections would stay for ever: they are told to go. Each has a moment to take it in.
async fn see_off(live: Option<Live>, grace_period: Duration) {
    if let Some(live) = live {
        let left = live.drain(grace_period).await;
        if left > 0 {
            tracing::warn!(connections = left, "live connections are cut off");
        }
    }
}

/// Runs the server on a thread that nobody waits for: Pingora sleeps through its whole grace period, even
/// idle.
fn start(server: Server, stop: Shutdown) -> anyhow::Result<()> {
    let run = move || {
        server.run(RunArgs {
            shutdown_signal: Box::new(stop),
        });
    };
    std::thread::Builder::new().name("pingora".into()).spawn(run)?;
    Ok(())
}

/// What the proxy needs besides configuration and recording.
struct Parts {
    routes: SharedRoutes,
    policy: Policy,
    sources: Sources,
    metrics: Arc<Metrics>,
    in_flight: InFlight,
}

fn sidecar(
    config: &Config,
    parts: Parts,
    recording: &Recording,
    background: &tokio::runtime::Handle,
) -> anyhow::Result<Sidecar> {
    let Parts {
        routes,
        policy,
        sources,
        metrics,
        in_flight,
    } = parts;
    let api = Api::new(
        config.api.clone(),
        config.record.window,
        sources,
        metrics.clone(),
        Arc::new(Utc::now),
    );
    Ok(Sidecar {
        limits: config.limits.clone(),
        session: config.session.clone(),
        upstream: config.upstream.clone(),
        upstreams: Upstreams::new(&config.upstream).map_err(|error| anyhow::anyhow!("upstream: {error}"))?,
        routes,
        authenticator: recording.authenticator.clone(),
        policy,
        recorder: recording.recorder.clone(),
        is_recording: config.record.is_on(),
        api: Arc::new(api),
        background: background.clone(),
        metrics,
        in_flight,
    })
}

/// Reads the database of places, where one is configured.
pub(crate) fn open_geoip(config: &Config) -> Result<Option<GeoIp>, StartError> {
    let Some(path) = &config.record.geoip_database else {
        return Ok(None);
    };
    GeoIp::open(path).map(Some).map_err(|error| {
        StartError::Configuration(format!(
            "record.geoip_database: {} is no MaxMind database that can be read ({error}); give the path of a \
             .mmdb file, or leave the key out",
            path.display()
        ))
    })
}

fn background_runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("background")
        .enable_all()
        .build()
        .context("the background runtime")
}

/// Pingora's server with the site's listeners.
fn server(
    config: &Config,
    addresses: &Listen,
    sidecar: Sidecar,
    background: &tokio::runtime::Handle,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Server> {
    let drain = config.limits.grace_period + config.record.flush_timeout;
    let mut server = Server::new_with_opt_and_conf(
        None,
        ServerConf {
            threads: addresses.threads,
            work_stealing: addresses.threads > 1,
            max_retries: config.upstream.retries + 1,
            // `App::run` waits for requests in flight and then ends the process; this is only its backstop.
            grace_period_seconds: Some(drain.as_secs() + 60),
            graceful_shutdown_timeout_seconds: Some(0),
            ..ServerConf::default()
        },
    );
    let balancer = sidecar.upstreams.balancer();
    let mut balancer = GenBackgroundService::new("upstream".into(), balancer);
    balancer.threads = Some(1);
    let balancer = server.add_service(balancer);

    let proxy = http_proxy(&server.configuration, sidecar);
    let front = Front::new(proxy, &config.limits, background.clone(), metrics.clone());
    let mut site = Service::new("site".into(), front);
    for address in &addresses.http {
        // Whoever reads brings a buffer; 64 KiB more for each connection would be for nothing.
        let endpoint = endpoint(address, config).l4_buffer(L4BufferSettings {
            read: Some(0),
            ..L4BufferSettings::default()
        });
        site.endpoints().add_listener(endpoint);
    }
    for listener in &addresses.https {
        let (certificate, key) = (
            listener.certificate.to_string_lossy(),
            listener.key.to_string_lossy(),
        );
        let tls = TlsSettings::intermediate(&certificate, &key)
            .map_err(|error| anyhow::anyhow!("the certificate or key of {}: {error}", listener.address))?;
        // TLS reads 4 KiB at a time.
        let endpoint = endpoint(&listener.address, config)
            .tls(tls)
            .l4_buffer(L4BufferSettings {
                read: Some(TLS_READ_BUFFER),
                ..L4BufferSettings::default()
            });
        site.endpoints().add_listener(endpoint);
    }
    server.add_service(site).add_dependency(&balancer);
    Ok(server)
}

/// A listener that notices when a client has vanished without a word: nothing else would tell an event stream
/// that nobody reads it any more.
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

/// The first address of the site, for the log.
fn site_address(addresses: &Listen) -> String {
    let https = addresses.https.iter().map(|listener| listener.address);
    addresses
        .http
        .iter()
        .copied()
        .chain(https)
        .next()
        .map(|address| address.to_string())
        .unwrap_or_default()
}
