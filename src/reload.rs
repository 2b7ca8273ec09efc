//! Reload: reads route files, certificates, the keys of JWTs and those of servers again, on SIGHUP and when they change.
//! Where a file is faulty, what was read before stays in use; the log says what is wrong and where, and metrics show it.

mod api_keys;
mod certificates;
mod jwt_keys;
mod metrics;
mod route_files;
#[cfg(test)]
mod tests;
mod unsettled;
mod watch;

use std::fmt::Display;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, select_all};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::routes::{RouteError, RouteFile, RouteNames, RouteTable};
use crate::status::{Component, Status};

pub use api_keys::{ApiKeyFile, ApiKeyFileError};
pub use certificates::{Certificate, CertificateError};
pub use jwt_keys::{KeyFile, KeyFileError};
pub use metrics::Metrics;
use metrics::ReloadOutcome;
pub use route_files::{ReloadError, blank_files, load_routes, read_route_files};
use unsettled::UnsettledFiles;
use watch::Watch;

/// The route table in use. Readers never wait for a reload.
pub type SharedRoutes = Arc<ArcSwap<RouteTable>>;

/// Route files as they were read, with the table made of them.
pub struct LoadedRoutes {
    /// The files.
    pub files: Vec<RouteFile>,
    /// The compiled table.
    pub table: RouteTable,
}

impl LoadedRoutes {
    /// Reads and compiles the route files of a folder. `names` are those of the configuration.
    ///
    /// # Errors
    /// As [`load_routes`].
    pub fn from(dir: &std::path::Path, names: &RouteNames) -> Result<Self, ReloadError> {
        let files = read_route_files(dir)?;
        let table = RouteTable::compile_with(&files, names)?;
        warn_of_blank_files(&files, &[]);
        Ok(Self { files, table })
    }
}

/// Certificates and keys that are read again.
#[derive(Debug, Clone, Default)]
pub struct KeyFiles {
    /// Of the listeners.
    pub certificates: Vec<Arc<Certificate>>,
    /// Of JWTs, where they are read.
    pub jwt_keys: Option<Arc<KeyFile>>,
    /// Of servers, where they have some.
    pub api_keys: Option<Arc<ApiKeyFile>>,
}

/// Says why routes that are right in themselves cannot be used; `None` where they can, or that is not known.
pub type DatabaseCheck = Box<dyn Fn(Arc<RouteTable>) -> BoxFuture<'static, Option<String>> + Send>;

/// Reads again, on request and when something has changed.
pub struct Reloader {
    dir: PathBuf,
    routes: SharedRoutes,
    /// What was read last, in use or refused.
    read: RouteFilesResult,
    certificates: Vec<Arc<Certificate>>,
    jwt_keys: Option<Arc<KeyFile>>,
    api_keys: Option<Arc<ApiKeyFile>>,
    requests: mpsc::Receiver<()>,
    /// For the routes first, then for each certificate, then for files of keys; empty where nothing is watched.
    watches: Vec<Watch>,
    is_again: bool,
    /// A reading of the routes that is not used yet.
    unsettled: Option<UnsettledFiles>,
    /// Asked before other routes are used.
    check: Option<DatabaseCheck>,
    status: Status,
    metrics: Arc<Metrics>,
}

impl Reloader {
    /// Starts with what was loaded: `files` are the text of the table in `routes`. Each message in `requests` asks for
    /// a reload. If `watch`, changes of route files, certificates and keys are noticed from now on.
    pub fn new(
        config: &crate::config::Routes,
        files: Vec<RouteFile>,
        routes: SharedRoutes,
        key_files: KeyFiles,
        requests: mpsc::Receiver<()>,
        status: &Status,
        metrics: Arc<Metrics>,
    ) -> Self {
        let dir = config.dir.clone();
        let KeyFiles {
            certificates,
            jwt_keys,
            api_keys,
        } = key_files;
        let mut watches = Vec::new();
        if config.watch {
            let listed = dir.clone();
            watches.push(Watch::new(&dir, move || route_files::list(&listed)));
            watches.extend(certificates.iter().map(|certificate| certificate.watch()));
            watches.extend(jwt_keys.iter().map(|keys| keys.watch()));
            watches.extend(api_keys.iter().filter_map(|keys| keys.watch()));
        }
        let reloader = Self {
            dir,
            read: Ok(files),
            certificates,
            jwt_keys,
            api_keys,
            requests,
            watches,
            is_again: false,
            unsettled: None,
            check: None,
            status: status.clone(),
            metrics,
            routes,
        };
        reloader.succeeded(&reloader.routes.load());
        for certificate in &reloader.certificates {
            certificate.tell(&reloader.metrics);
        }
        reloader
    }

    /// Asks before it uses other routes.
    #[must_use]
    pub fn asking(mut self, check: DatabaseCheck) -> Self {
        self.check = Some(check);
        self
    }

    /// Runs until the last sender of requests is dropped. Called again after an interruption, it reads everything at
    /// once.
    pub async fn run(&mut self) {
        if std::mem::replace(&mut self.is_again, true) {
            self.read_all().await;
        }
        while self.next().await {}
    }

    /// Waits for something to read, and reads it. False when the last sender of requests is dropped.
    async fn next(&mut self) -> bool {
        let until = self.unsettled.as_ref().map(UnsettledFiles::until);
        let changed = async {
            if self.watches.is_empty() {
                return pending().await;
            }
            let changes = self.watches.iter_mut().map(|watch| Box::pin(watch.changed()));
            let ((), index, _) = select_all(changes).await;
            index
        };
        let rest = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            request = self.requests.recv() => {
                if request.is_some() {
                    self.read_all().await;
                }
                return request.is_some();
            }
            index = changed => match index {
                0 => self.routes_changed().await,
                index if index <= self.certificates.len() => self.read_certificates(false),
                _ => self.read_keys(false),
            },
            () = rest => self.routes_changed().await,
        }
        true
    }

    /// Uses the current files, unless they look half-written: then they must stay the same for a while first.
    async fn routes_changed(&mut self) {
        let read = read_route_files(&self.dir);
        // A touched file is not logged, nor is the same fault again.
        if is_same(&read, &self.read) {
            self.unsettled = None;
        } else if self.looks_half_written(&read) && !UnsettledFiles::is_over(&mut self.unsettled, &read) {
            tracing::debug!("route files look as if they were being written");
        } else {
            self.load(read).await;
        }
    }

    /// Whether a file is faulty, as when it is half-written, or missing, as while it is replaced.
    fn looks_half_written(&self, read: &RouteFilesResult) -> bool {
        let Ok(files) = read else { return true };
        let is_there = |before: &RouteFile| files.iter().any(|file| file.path == before.path);
        let is_one_gone = self
            .read
            .as_ref()
            .is_ok_and(|before| !before.iter().all(is_there));
        is_one_gone || self.compile(files).is_err()
    }

    /// With the names of the table in use: the configuration does not change.
    fn compile(&self, files: &[RouteFile]) -> Result<RouteTable, RouteError> {
        RouteTable::compile_with(files, self.routes.load().names())
    }

    async fn read_all(&mut self) {
        let read = read_route_files(&self.dir);
        self.load(read).await;
        self.read_certificates(true);
        self.read_keys(true);
    }

    /// Uses a reading; on error the table in use stays.
    async fn load(&mut self, read: RouteFilesResult) {
        let table = match &read {
            Ok(files) => self.compile(files).map_err(ReloadError::from),
            Err(error) => Err(error.clone()),
        };
        let mut table = table.map(Arc::new);
        let asked = table.as_ref().ok().and_then(|table| self.ask(table));
        if let Some(asked) = asked
            && let Some(refused) = asked.await
        {
            table = Err(ReloadError::NotTaken(refused));
        }
        if let (Ok(files), true) = (&read, table.is_ok()) {
            let before = self.read.as_ref().map_or(&[][..], Vec::as_slice);
            warn_of_blank_files(files, before);
        }
        self.read = read;
        self.unsettled = None;
        match table {
            Ok(table) => {
                tracing::info!(routes = table.len(), "route files loaded");
                self.succeeded(&table);
                self.routes.store(table);
                self.metrics.reloads[ReloadOutcome::Success].inc();
            }
            Err(error) => {
                self.status.routes.down(error.to_string(), |_| {});
                tracing::error!(error = %error, "route files refused; the last good ones stay in use");
                self.metrics.reloads[ReloadOutcome::Failure].inc();
            }
        }
    }

    /// Asks whether the table can be used, where there is somebody to ask.
    fn ask(&self, table: &Arc<RouteTable>) -> Option<BoxFuture<'static, Option<String>>> {
        self.check.as_ref().map(|check| check(Arc::clone(table)))
    }

    fn succeeded(&self, table: &RouteTable) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_reload_success.set(now.as_secs_f64());
        self.metrics
            .routes
            .set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.status.routes.up(|_| {});
    }

    /// Reads all certificates again; faulty ones do not replace those in use, which is logged once unless `is_asked`.
    fn read_certificates(&mut self, is_asked: bool) {
        for certificate in &self.certificates {
            let (path, files) = (certificate.path().display(), &certificate.files);
            match certificate.read_again() {
                Ok(is_new) => {
                    if is_new || files.is_down() {
                        certificate.tell(&self.metrics);
                    }
                    files.up(|_| {});
                }
                Err(error) => {
                    if is_asked {
                        files.unknown();
                    }
                    files.down_for(error.to_string(), |error| {
                        tracing::error!(%path, %error, "certificate refused; the last good one stays in use");
                    });
                }
            }
        }
        let faults = self.certificates.iter();
        let faults = faults.flat_map(|certificate| certificate.files.condition().reasons);
        let faults: Vec<_> = faults.collect();
        self.status.certificates.show(faults);
    }

    /// Reads the keys of JWTs and those of servers again, as the certificates.
    fn read_keys(&self, is_asked: bool) {
        if let Some(keys) = &self.jwt_keys {
            tell(
                keys.read_again(),
                "keys of JWTs",
                keys.path(),
                &keys.file,
                is_asked,
            );
            self.status.jwt_keys.show(keys.file.condition().reasons);
        }
        if let Some(keys) = &self.api_keys
            && let Some(path) = keys.path()
        {
            tell(keys.read_again(), "API keys", path, &keys.file, is_asked);
            self.status.api_keys.show(keys.file.condition().reasons);
        }
    }
}

/// Logs what became of reading a file of keys again, the same fault once unless `is_asked`.
fn tell(read: Result<bool, impl Display>, what: &str, path: &Path, file: &Component, is_asked: bool) {
    let path = path.display();
    match read {
        Ok(is_new) => {
            if is_new || file.is_down() {
                tracing::info!(%path, "{what} loaded");
            }
            file.up(|_| {});
        }
        Err(error) => {
            if is_asked {
                file.unknown();
            }
            file.down_for(error.to_string(), |error| {
                tracing::error!(%path, %error, "{what} refused; the last good ones stay in use");
            });
        }
    }
}

fn warn_of_blank_files(files: &[RouteFile], before: &[RouteFile]) {
    for path in blank_files(files, before) {
        tracing::warn!(path = %path.display(), "a route file is empty: it has no routes");
    }
}

/// The result of reading the route files.
type RouteFilesResult = Result<Vec<RouteFile>, ReloadError>;

/// Whether two readings are the same.
fn is_same(one: &RouteFilesResult, other: &RouteFilesResult) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}
