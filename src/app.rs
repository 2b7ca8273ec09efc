//! The only place that constructs and wires. Start order: routes, ports, stores, workers, proxy. Drain
//! order: not ready → listeners closed → requests in flight → recorder → presence and writer.

mod listeners;
mod recording;
mod watch;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use chrono::Utc;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::GenBackgroundService;
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::admin::Admin;
use crate::api::{Api, Sources, UpstreamCheck};
use crate::auth::revocation;
use crate::config::{Config, Listen};
use crate::geoip::GeoIp;
use crate::metrics::Metrics;
use crate::page_view::Policy;
use crate::presence;
use crate::proxy::{Front, Sidecar, Upstreams};
use crate::reload::{self, Reloader, SharedRoutes};
use crate::routes::RouteTable;
use crate::shutdown::{self, InFlight, OnHangup, Shutdown};
use crate::store;

use crate::writer::spool::Directory;
use listeners::Claims;
use recording::Recording;

/// Threads of the runtime on which everything but the proxying runs.
const BACKGROUND_THREADS: usize = 2;
/// Longest time that the database's connections may take to close at the end.
const DATABASE_FAREWELL: Duration = Duration::from_secs(1);

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
    /// Where page views wait; none where nothing is written.
    spools: Option<Directory>,
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
        let spools = recording::prepare_spools(&config)?;
        let claims = listeners::claim(&config.listen)?;
        Ok(Self {
            config,
            routes,
            geoip,
            spools,
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
    /// Something could not be started, or the database has no ledger to write with.
    pub fn run(self) -> Result<(), StartError> {
        let Self {
            config,
            routes,
            geoip,
            spools,
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
            // A list is two questions, and the database has to be asked, too.
            config.api.timeout / 4,
            metrics.clone(),
            background.handle(),
        )
        .context("presence")?;
        let routes: SharedRoutes = Arc::new(ArcSwap::from_pointee(routes));

        let spool = background.block_on(recording::open_spool(spools, &store))?;
        let recording = Recording::start(&config, geoip, spool, &store, &presence, &metrics);
        let reloader = Reloader::new(config.routes.dir.clone(), routes.clone(), metrics.clone());
        tokio::spawn(reloader.run(config.routes.watch, reload_requests));
        tokio::spawn(watch::watch_database(store.clone(), metrics.clone()));
        if let Some(listener) = store::session_listener(&config).context("the database")? {
            let authenticator = recording.authenticator.clone();
            tokio::spawn(revocation::listen(listener, authenticator, metrics.clone()));
        }
        tokio::spawn(watch::check_schema(config.clone(), metrics.clone()));
        let admin = listeners::on_this_runtime(admin).context("the admin listener")?;
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
        let sources = Sources {
            store: store.clone(),
            communities: recording.communities.clone(),
            presence,
            backend_check: Arc::new(UpstreamCheck::new(&config.upstream, config.api.timeout * 4 / 5)),
        };
        let parts = Parts {
            routes,
            policy,
            sources,
            metrics: metrics.clone(),
            in_flight: in_flight.clone(),
        };
        let sidecar = sidecar(&config, parts, &recording, background.handle())?;
        let server = server(&config, &addresses, sidecar, &metrics)?;
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
            let left = in_flight.drained(config.limits.grace_period).await;
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
        result.map_err(StartError::Other)
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
    let mut site = Service::new("site".into(), Front::new(proxy, &config.limits, metrics.clone()));
    for address in &addresses.http {
        site.add_tcp(&address.to_string());
    }
    for listener in &addresses.https {
        let (certificate, key) = (
            listener.certificate.to_string_lossy(),
            listener.key.to_string_lossy(),
        );
        site.add_tls(&listener.address.to_string(), &certificate, &key)
            .map_err(|error| anyhow::anyhow!("the certificate or key of {}: {error}", listener.address))?;
    }
    server.add_service(site).add_dependency(&balancer);
    Ok(server)
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
