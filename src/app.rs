//! The only place that constructs and wires. Start order: routes, ports, stores, workers, proxy. Drain
//! order: not ready → listeners closed → requests in flight → recorder → presence and writer.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
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
use tokio::task::JoinHandle;

use crate::admin::Admin;
use crate::api::{Api, Sources, UpstreamCheck};
use crate::auth::Authenticator;
use crate::communities::Communities;
use crate::config::{Config, Listen};
use crate::geoip::GeoIp;
use crate::metrics::{Dropped, Metrics};
use crate::page_view::Policy;
use crate::presence::{self, Presence};
use crate::proxy::{Front, Sidecar, Upstreams};
use crate::recorder::{Destinations, Recorder, Resolver};
use crate::reload::{self, Reloader, SharedRoutes};
use crate::routes::RouteTable;
use crate::shutdown::{self, InFlight, OnHangup, Shutdown};
use crate::store::{self, Store};
use crate::writer::Writer;

/// Threads of the runtime on which everything but the proxying runs.
const BACKGROUND_THREADS: usize = 2;
/// Time between two looks whether the database answers.
const DATABASE_PING: Duration = Duration::from_secs(5);
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
    addresses: Listen,
    admin: TcpListener,
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
        let mut addresses = config.listen.clone();
        for address in &mut addresses.http {
            *address = claim(*address)?;
        }
        for listener in &mut addresses.https {
            listener.address = claim(listener.address)?;
        }
        let admin = bind(addresses.admin)?;
        addresses.admin = admin.local_addr().map_err(anyhow::Error::new)?;
        Ok(Self {
            config,
            routes,
            geoip,
            addresses,
            admin,
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
        &self.addresses
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
            addresses,
            admin,
            shutdown,
            ends_on_hangup,
        } = self;
        let background = background_runtime()?;
        let entered = background.enter();

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
        let (reload, reload_requests) = mpsc::channel(1);
        let reloader = Reloader::new(config.routes.dir.clone(), routes.clone(), metrics.clone());
        tokio::spawn(reloader.run(config.routes.watch, reload_requests));
        // The reloader goes on for as long as `reload` lives: files may change without a signal, too.
        let on_hangup = if ends_on_hangup {
            OnHangup::End
        } else {
            OnHangup::Reload(reload.clone())
        };
        shutdown::listen_to_signals(shutdown.clone(), on_hangup).context("signal handlers")?;
        tokio::spawn(watch_database(store.clone(), metrics.clone()));
        admin.set_nonblocking(true)?;
        let admin = tokio::net::TcpListener::from_std(admin)?;
        let policy = Policy::new(&config.record, &config.privacy);
        let pages = Admin {
            metrics: metrics.clone(),
            routes: routes.clone(),
            policy: policy.clone(),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(pages.serve(admin));

        let in_flight = InFlight::default();
        let sidecar = Sidecar {
            limits: config.limits.clone(),
            session: config.session.clone(),
            upstream: config.upstream.clone(),
            upstreams: Upstreams::new(&config.upstream)
                .map_err(|error| anyhow::anyhow!("upstream: {error}"))?,
            routes,
            authenticator: recording.authenticator.clone(),
            policy,
            recorder: recording.recorder.clone(),
            is_recording: config.record.is_on(),
            api: Arc::new(Api::new(
                config.api.clone(),
                config.record.window,
                Sources {
                    store: store.clone(),
                    communities: recording.communities.clone(),
                    presence,
                    backend_check: Arc::new(UpstreamCheck::new(&config.upstream, config.api.timeout)),
                },
                metrics.clone(),
                Arc::new(Utc::now),
            )),
            background: background.handle().clone(),
            metrics: metrics.clone(),
            in_flight: in_flight.clone(),
        };
        let server = server(&config, &addresses, sidecar, &metrics)?;
        let signal = shutdown.clone();
        // The server's thread is not waited for: Pingora sleeps through its whole grace period, even idle.
        std::thread::Builder::new()
            .name("pingora".into())
            .spawn(move || {
                server.run(RunArgs {
                    shutdown_signal: Box::new(signal),
                });
            })?;
        drop(entered);

        background.block_on(async {
            tokio::spawn(announce(addresses));
            shutdown.started().await;
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
        });
        background.shutdown_background();
        tracing::info!("ended");
        Ok(())
    }
}

/// Everything between a page view and its rows.
struct Recording {
    authenticator: Arc<Authenticator>,
    communities: Arc<Communities>,
    recorder: Recorder,
    /// Ends the presence worker; not before the last touch, unlike the process' own shutdown.
    stop: Shutdown,
    workers: Vec<JoinHandle<()>>,
}

impl Recording {
    fn start(
        config: &Config,
        geoip: Option<GeoIp>,
        store: &Arc<dyn Store>,
        presence: &Arc<dyn Presence>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let record = &config.record;
        let stop = Shutdown::new();
        let mut workers = Vec::new();
        let presence = record.presence.then(|| {
            let (handle, worker) = presence::worker::new(presence.clone(), record, metrics.clone());
            workers.push(tokio::spawn(worker.run(stop.subscribe())));
            handle
        });
        let writer = record.writes().then(|| {
            let (handle, worker) = Writer::new(record, store.clone(), geoip, metrics.clone());
            workers.push(tokio::spawn(worker));
            handle
        });
        let authenticator = Arc::new(Authenticator::new(
            &config.session,
            store.clone(),
            metrics.clone(),
        ));
        let communities = Arc::new(Communities::new(store.clone()));
        let resolver = Resolver {
            authenticator: authenticator.clone(),
            communities: communities.clone(),
        };
        let destinations = Destinations {
            presence,
            writer,
            metrics: metrics.clone(),
        };
        let (recorder, worker) =
            Recorder::new(destinations, resolver, record.queue_views.get(), metrics.clone());
        workers.push(tokio::spawn(worker));
        Self {
            authenticator,
            communities,
            recorder,
            stop,
            workers,
        }
    }

    /// Writes out what is queued, at most for `limit`; the rest is given up and counted.
    async fn finish(self, limit: Duration, metrics: &Metrics) {
        if tokio::time::timeout(limit, self.recorder.flush()).await.is_err() {
            let left = self.recorder.waiting();
            metrics
                .recorder_dropped
                .with_label_values(&[Dropped::Shutdown.label()])
                .inc_by(left as u64);
            tracing::warn!(
                views = left,
                "page views could not be written before the end and are given up"
            );
        }
        self.stop.start();
        for worker in self.workers {
            worker.abort();
        }
    }
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

/// Makes sure that an address is free, and chooses the port where it is 0. Pingora binds it again later: it
/// would panic on its own thread where this gives a message.
fn claim(address: SocketAddr) -> Result<SocketAddr, StartError> {
    Ok(bind(address)?.local_addr().map_err(anyhow::Error::new)?)
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| {
        StartError::Other(anyhow::anyhow!(
            "{address} cannot be listened on ({error}); stop what uses it, or choose another address under \
             [listen]"
        ))
    })
}

/// Says that the site is served, once it is.
async fn announce(addresses: Listen) {
    let site = addresses
        .http
        .first()
        .copied()
        .or(addresses.https.first().map(|listener| listener.address));
    if let Some(site) = site {
        while tokio::net::TcpStream::connect(site).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tracing::info!(site = %site, admin = %addresses.admin, "ready");
    }
}

/// Shows whether the database answers, even while nothing is recorded. No answer until the next look is due is
/// none, however patient the statements are.
async fn watch_database(store: Arc<dyn Store>, metrics: Arc<Metrics>) {
    let mut answered = true;
    loop {
        let error = match tokio::time::timeout(DATABASE_PING, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer to a ping within {DATABASE_PING:?}")),
        };
        metrics.database_up.set(i64::from(error.is_none()));
        match &error {
            Some(error) if answered => tracing::warn!(error, "the database does not answer"),
            None if !answered => tracing::info!("the database answers again"),
            _ => {}
        }
        answered = error.is_none();
        tokio::time::sleep(DATABASE_PING).await;
    }
}
