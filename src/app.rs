//! Composition root: the only place that constructs and wires the parts. Start order: routes, ports, stores, workers,
//! proxy. Drain order: not ready → listeners closed → live connections and requests in flight → recorder → presence and
//! writer.

mod at_start;
mod background_checks;
mod counting;
mod listeners;
mod live_connections;
mod open_files;
mod operators;
mod proxying;
mod recording;
mod running;
mod serving;
mod shared_parts;
mod site;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::config::{Config, Listen};
use crate::geoip::GeoIp;
use crate::handover::{AwaitedPredecessor, UpgradeSocket};
use crate::reload::{ApiKeyFile, Certificate, KeyFile, KeyFiles, LoadedRoutes};
use crate::routes::RouteNames;
use crate::shutdown::Shutdown;
use crate::writer::spool::Directory;
use listeners::Listeners;
use serving::Ports;
pub use serving::TakeOver;

/// Threads of the runtime on which everything but the proxying runs.
const BACKGROUND_THREADS: usize = 2;

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
        let result = background.block_on(running::run(self, background.handle()));
        background.shutdown_background();
        if result.is_ok() {
            tracing::info!("ended");
        }
        result
    }
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
