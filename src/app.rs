//! Composition root: the only place that constructs and wires the parts. Start order: routes, ports, stores, workers,
//! proxy. Drain order: not ready → listeners closed → live connections and requests in flight → recorder → presence and
//! writer.

mod background_checks;
mod listeners;
mod open_files;
mod recording;
mod serving;
mod site;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use chrono::Utc;
use futures_util::FutureExt as _;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::mpsc;

use crate::admin::{self, Admin, Dashboard, Metrics};
use crate::api::{Api, SiteSettings, Sources, UpstreamCheck, widget_paths};
use crate::config::{Access, CommunityKey, Config, Listen};
use crate::counters::CommunityCounters;
use crate::geoip::GeoIp;
use crate::handover::{AwaitedPredecessor, UpgradeSocket};
use crate::key_type::{AppKeys, KeyType, KeyTypes};
use crate::live::{self, Live};
use crate::metrics::LabelValue as _;
use crate::page_view::Policy;
use crate::presence;
use crate::proxy::{Edge, Sidecar, Upstreams};
use crate::reload::{ApiKeyFile, Certificate, KeyFile, KeyFiles, LoadedRoutes, Reloader, SharedRoutes};
use crate::routes::{CountedTypes, RouteNames};
use crate::shutdown::{Closing, InFlight, Shutdown, SignalPolicy, Signals};
use crate::status::Status;
use crate::store;
use crate::tasks::{Task, Tasks};
use crate::widget::Injector;

use crate::writer::spool::Directory;
use listeners::Listeners;
use recording::Recording;
pub use serving::TakeOver;
use serving::{Ports, Serving};

/// Threads of the runtime on which everything but the proxying runs.
const BACKGROUND_THREADS: usize = 2;
/// A page view that waits on disk this much longer than `record.batch_age` counts as stale.
const STALE: Duration = Duration::from_secs(60);
/// Longest time for the counters to be written once more at shutdown.
const COUNTERS_LIMIT: Duration = Duration::from_secs(2);
/// Longest time for the database's connections to close at shutdown.
const DATABASE_CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why the sidecar does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operator must fix the configuration or the route files.
    #[error("{0}")]
    Configuration(String),
    /// The environment's fault, such as a port in use or no more threads.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// A sidecar that is ready to run: everything validated, nothing served yet.
pub struct App {
    config: Config,
    routes: LoadedRoutes,
    key_files: KeyFiles,
    geoip: Option<GeoIp>,
    /// The folder of the spools; `None` where nothing is written.
    spools: Option<Directory>,
    ports: Ports,
    shutdown: Shutdown,
    /// The folder of a process that runs in a terminal.
    of_a_terminal: Option<PathBuf>,
}

impl App {
    /// Loads the route files and takes the ports.
    ///
    /// # Errors
    /// The operator must fix the configuration or the environment.
    pub fn build(config: Config) -> Result<Self, StartError> {
        Self::prepare(config, |listen| Ok(Ports::Claimed(listeners::claim(listen)?)))
    }

    /// Loads the route files, and will take over the ports of the sidecar that runs.
    ///
    /// # Errors
    /// The operator must fix the configuration or the environment. The running sidecar is not touched.
    pub fn build_to_take_over(config: Config, how: TakeOver) -> Result<Self, StartError> {
        Self::prepare(config, |listen| {
            listeners::check_fixed(listen)?;
            let waiting = AwaitedPredecessor::at(UpgradeSocket::new(listen))
                .map_err(|error| StartError::Configuration(error.to_string()))?;
            Ok(Ports::TakenOver(waiting, how))
        })
    }

    fn prepare(
        config: Config,
        ports: impl FnOnce(&Listen) -> Result<Ports, StartError>,
    ) -> Result<Self, StartError> {
        let routes = LoadedRoutes::from(&config.routes.dir, &RouteNames::of(&config))
            .map_err(|error| StartError::Configuration(error.to_string()))?;
        let certificates = config.listen.https.iter().map(Certificate::read);
        let certificates = certificates
            .map(|read| read.map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(|error| StartError::Configuration(error.to_string()))?;
        let jwt_keys = KeyFile::read(&config.session.jwt)
            .map_err(|error| StartError::Configuration(error.to_string()))?;
        let api_keys =
            ApiKeyFile::read(&config.api).map_err(|error| StartError::Configuration(error.to_string()))?;
        let key_files = KeyFiles {
            certificates,
            jwt_keys,
            api_keys,
        };
        let geoip = open_geoip(&config)?;
        let spools = recording::prepare_spools(&config)?;
        let ports = ports(&config.listen)?;
        Ok(Self {
            config,
            routes,
            key_files,
            geoip,
            spools,
            ports,
            shutdown: Shutdown::new(),
            of_a_terminal: None,
        })
    }

    /// Makes SIGHUP and SIGQUIT end the sidecar instead of reloading files and handing over: for a process that runs in
    /// a terminal. `folder` is removed where a second signal ends it at once.
    #[must_use]
    pub fn of_a_terminal(mut self, folder: PathBuf) -> Self {
        self.of_a_terminal = Some(folder);
        self
    }

    /// Where the sidecar will listen; ports 0 have been replaced.
    pub fn addresses(&self) -> &Listen {
        match &self.ports {
            Ports::Claimed(Listeners { addresses, .. }) => addresses,
            Ports::TakenOver(..) => &self.config.listen,
        }
    }

    /// Ends the sidecar from inside the process, as SIGTERM does from outside.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Serves until SIGTERM, SIGINT, [`App::shutdown`] or a hand-over, then drains and flushes.
    ///
    /// # Errors
    /// A part could not be started or taken over, or the database has no ledger to write with.
    pub fn run(self) -> Result<(), StartError> {
        let background = background_runtime()?;
        let result = background.block_on(self.live(background.handle()));
        background.shutdown_background();
        if result.is_ok() {
            tracing::info!("ended");
        }
        result
    }

    async fn live(self, background: &Handle) -> Result<(), StartError> {
        let Self {
            mut config,
            routes: LoadedRoutes { files, table },
            key_files,
            geoip,
            spools,
            ports,
            shutdown,
            of_a_terminal,
        } = self;
        // The reloader runs until `reload` is dropped: files may change without a signal, too.
        let (reload, reload_requests) = mpsc::channel(1);
        let (hand_over, quits) = mpsc::channel(1);
        let signals = signals(&shutdown, of_a_terminal, &reload, hand_over)?;

        background_checks::tables_before_a_take_over(&config, ports.are_taken_over()).await?;
        let status = Status::default();
        let metrics = Metrics::new(&status);
        let tasks = Tasks::new(metrics.tasks.clone(), background, shutdown.clone());
        tasks.keep_worker(Task::Signals, signals, |signals| signals.handle().boxed());
        let routes: SharedRoutes = Arc::new(ArcSwap::from_pointee(table));
        let counted = CountedTypes::new(&config.record, Arc::clone(&routes));
        let store = store::open_counting(&config, counted.clone()).context("the database")?;
        let presence = open_presence(&config, &status, &metrics, &tasks)?;

        background_checks::event_types_at_start(&store, &routes.load()).await?;
        let prepared = recording::first_look(spools, geoip, key_files.clone(), &store).await?;
        config.limits.max_connections = Some(open_files::connections(&config.limits));
        let recording = Recording::start(&config, prepared, &store, &presence, &status, &metrics, &tasks);
        let reloader = Reloader::new(
            &config.routes,
            files,
            routes.clone(),
            key_files.clone(),
            reload_requests,
            &status,
            metrics.reload.clone(),
        );
        let counters = start_counters(&config, counted, &presence, &metrics, &tasks).await?;
        let watched = background_checks::Watched {
            config: &config,
            store: &store,
            authenticator: &recording.authenticator,
            status: &status,
            metrics: &metrics,
        };
        watched.start(reloader, &tasks)?;

        let (in_flight, closing) = (InFlight::default(), Closing::default());
        let live = start_live(&config, &presence, &recording, &metrics, &tasks);
        let policy = Policy::new(&config.record, &config.privacy);
        let admin = Admin {
            dashboard: start_dashboard(&config, &presence, &recording, &metrics, &tasks),
            settings: admin_settings(&config),
            metrics: metrics.clone(),
            status,
            tasks: tasks.clone(),
            routes: routes.clone(),
            policy: policy.clone(),
            serving: Arc::default(),
            shutdown: shutdown.clone(),
            handed_over: Shutdown::new(),
            in_flight: in_flight.clone(),
        };
        let parts = ProxyParts {
            sources: Sources {
                intake: recording.intake(&config, routes, policy, &presence, &metrics),
                store: store.clone(),
                authenticator: recording.authenticator.clone(),
                api_keys: recording.api_keys.clone(),
                communities: recording.communities.clone(),
                presence,
                backend_check: Arc::new(UpstreamCheck::new(&config.upstream, config.api.timeout * 4 / 5)),
                live: live.clone(),
            },
            status: admin.status.clone(),
            metrics: metrics.clone(),
            in_flight: in_flight.clone(),
            leaving: closing.accepting.clone(),
        };
        let sidecar = sidecar(&config, parts, &recording, background)?;
        let serving = Serving {
            config: &config,
            certificates: key_files.certificates,
            tasks: &tasks,
            admin,
            shutdown,
            quits,
            closing,
            in_flight,
            live,
        };
        let result = serving.run(ports, sidecar).await;
        recording.finish(config.record.flush_timeout).await;
        finish(counters, &store).await;
        drop(reload);
        result?;
        check_tasks(&tasks)
    }
}

fn open_presence(
    config: &Config,
    status: &Status,
    metrics: &Metrics,
    tasks: &Tasks,
) -> anyhow::Result<Arc<dyn presence::Presence>> {
    // A list queries presence twice, and needs time for the database, too.
    let patience = config.api.timeout / 4;
    let metrics = metrics.presence.clone();
    presence::open(&config.redis, &config.record, patience, status, metrics, tasks).context("presence")
}

/// Writes the counters of what was recorded last, and closes the database's connections.
async fn finish(counters: Option<CommunityCounters>, store: &Arc<dyn store::Store>) {
    if let Some(counters) = counters {
        counters.finish(COUNTERS_LIMIT).await;
    }
    // Best effort: connections that a hung database still holds end with the process.
    let _ = tokio::time::timeout(DATABASE_CLOSE_LIMIT, store.close()).await;
}

/// # Errors
/// A task that serving depends on is lost.
fn check_tasks(tasks: &Tasks) -> Result<(), StartError> {
    match tasks.lost() {
        None => Ok(()),
        Some(task) => Err(anyhow::anyhow!("the task {} failed; the log says why", task.label()).into()),
    }
}

fn signals(
    shutdown: &Shutdown,
    of_a_terminal: Option<PathBuf>,
    reload: &mpsc::Sender<()>,
    hand_over: mpsc::Sender<()>,
) -> anyhow::Result<Signals> {
    let signal_policy = match of_a_terminal {
        Some(folder) => SignalPolicy::Terminal { folder },
        None => SignalPolicy::Service {
            reload: reload.clone(),
            hand_over,
        },
    };
    Signals::listen(shutdown.clone(), signal_policy).context("signal handlers")
}

fn admin_settings(config: &Config) -> admin::AdminSettings {
    admin::AdminSettings {
        hosts: config.listen.admin_hosts.clone(),
        patience: config.record.batch_age + STALE,
        waits_for_the_app: config.upstream.readiness,
        api: config.api.clone(),
    }
}

fn start_dashboard(
    config: &Config,
    presence: &Arc<dyn presence::Presence>,
    recording: &Recording,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Dashboard {
    Dashboard::start(
        metrics.clone(),
        config.record.presence.then(|| presence.clone()),
        (recording.recent.clone(), recording.communities.clone()),
        config.record.window,
        tasks,
    )
}

/// Keeps the counters, where they are switched on.
///
/// # Errors
/// The database says that they cannot be kept as configured.
async fn start_counters(
    config: &Config,
    counted: CountedTypes,
    presence: &Arc<dyn presence::Presence>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Option<CommunityCounters>, StartError> {
    if !config.counters.enabled {
        return Ok(None);
    }
    background_checks::counters_at_start(config).await?;
    let store = store::open_counters(config, counted).context("the database")?;
    let metrics = metrics.counters.clone();
    Ok(Some(CommunityCounters::start(
        config, store, presence, metrics, tasks,
    )))
}

/// What live connections share, where they are switched on.
fn start_live(
    config: &Config,
    presence: &Arc<dyn presence::Presence>,
    recording: &Recording,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Option<Live> {
    let parts = live::Parts {
        presence: presence.clone(),
        touches: recording.touches.clone(),
        authenticator: recording.authenticator.clone(),
        api_keys: recording.api_keys.clone(),
        clock: Arc::new(Utc::now),
        keys: match config.api.community_key {
            // Slugs are text, also such that are digits.
            CommunityKey::Slug => AppKeys::of(KeyTypes {
                community: KeyType::Text(None),
                user: KeyType::Text(None),
            }),
            CommunityKey::Id | CommunityKey::Either => recording.communities.keys(),
        },
        metrics: metrics.live.clone(),
        tasks: tasks.clone(),
    };
    let start = || {
        Live::start(
            &config.live,
            &config.record,
            &config.session,
            config.limits.connections(),
            parts,
        )
    };
    (config.api.enabled && config.api.live).then(start)
}

/// What the proxy needs besides configuration and recording.
struct ProxyParts {
    sources: Sources,
    status: Status,
    metrics: Metrics,
    in_flight: InFlight,
    leaving: Shutdown,
}

fn sidecar(
    config: &Config,
    parts: ProxyParts,
    recording: &Recording,
    background: &Handle,
) -> anyhow::Result<Sidecar> {
    let ProxyParts {
        sources,
        status,
        metrics,
        in_flight,
        leaving,
    } = parts;
    let intake = sources.intake.clone();
    let api = Api::new(
        config.api.clone(),
        SiteSettings {
            window: config.record.window,
            session_cookie: config.session.cookie.clone(),
            jwt: config.session.jwt.clone(),
            session_facts: config.schema.session_facts(config.session.kind),
            allowed_origins: config.live.allowed_origins.clone(),
        },
        sources,
        metrics.api,
        Arc::new(Utc::now),
    );
    Ok(Sidecar {
        limits: config.limits.clone(),
        upstream: config.upstream.clone(),
        upstreams: Upstreams::new(&config.upstream, &status, &metrics.proxy)
            .map_err(|error| anyhow::anyhow!("upstream: {error}"))?,
        intake,
        communities: recording.communities.clone(),
        community_key: config.api.community_key,
        injector: config.widget.inject.then(|| injector(config)),
        api: Arc::new(api),
        background: background.clone(),
        edge: Edge::new(metrics.proxy.clone()),
        metrics: metrics.proxy,
        in_flight,
        leaving,
    })
}

/// What puts the widget into pages.
fn injector(config: &Config) -> Injector {
    let (script, live) = widget_paths(&config.api);
    Injector::new(&config.widget, script, live, config.api.access != Access::Public)
}

/// Opens the `GeoIP` database, where one is configured.
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
