//! What is read again while the process runs: route files and the certificates of listeners, on SIGHUP and when they
//! change. Whatever is faulty keeps what was read before; the log says what is wrong and where, and metrics show it.

mod certificates;
mod route_files;
mod watch;

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use futures_util::future::select_all;
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::routes::{RouteFile, RouteTable};

pub use certificates::{Certificate, CertificateError};
pub use route_files::{ReloadError, load_routes, read_route_files};
use watch::Watch;

/// The route table in use. Readers never wait for a reload.
pub type SharedRoutes = Arc<ArcSwap<RouteTable>>;

/// Route files as they were read, with the table made of them.
pub struct LoadedRoutes {
    /// What was read.
    pub files: Vec<RouteFile>,
    /// What it says.
    pub table: RouteTable,
}

impl LoadedRoutes {
    /// Reads and compiles the route files of a folder.
    ///
    /// # Errors
    /// As [`load_routes`].
    pub fn from(dir: &std::path::Path) -> Result<Self, ReloadError> {
        let files = read_route_files(dir)?;
        let table = RouteTable::compile(&files)?;
        Ok(Self { files, table })
    }
}

/// Reads again, when asked to and when something has changed.
pub struct Reloader {
    dir: PathBuf,
    routes: SharedRoutes,
    /// What was read last, in use or refused.
    read: Result<Vec<RouteFile>, ReloadError>,
    certificates: Vec<Arc<Certificate>>,
    /// Of the certificate with the same index.
    certificate_errors: Vec<Option<CertificateError>>,
    requests: mpsc::Receiver<()>,
    /// Of the routes first, then of each certificate; empty where nothing is watched.
    watches: Vec<Watch>,
    is_again: bool,
    metrics: Arc<Metrics>,
}

impl Reloader {
    /// Starts with what was loaded: `files` are the text of the table in `routes`. Reads again when something comes
    /// through `requests`. Changes of files are noticed from now on, of route files only if `watch`.
    pub fn new(
        config: &crate::config::Routes,
        files: Vec<RouteFile>,
        routes: SharedRoutes,
        certificates: Vec<Arc<Certificate>>,
        requests: mpsc::Receiver<()>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let dir = config.dir.clone();
        let mut watches = Vec::new();
        if config.watch {
            let listed = dir.clone();
            watches.push(Watch::new(&dir, move || route_files::list(&listed)));
            watches.extend(certificates.iter().map(|certificate| certificate.watch()));
        }
        let reloader = Self {
            dir,
            read: Ok(files),
            certificate_errors: vec![None; certificates.len()],
            certificates,
            requests,
            watches,
            is_again: false,
            metrics,
            routes,
        };
        reloader.succeeded(&reloader.routes.load());
        reloader
    }

    /// Works until the last sender of requests is gone. Called again after it was interrupted, it reads everything at
    /// once.
    pub async fn run(&mut self) {
        if std::mem::replace(&mut self.is_again, true) {
            self.read_all();
        }
        loop {
            let changed = async {
                if self.watches.is_empty() {
                    return pending().await;
                }
                let changes = self.watches.iter_mut().map(|watch| Box::pin(watch.changed()));
                let ((), index, _) = select_all(changes).await;
                index
            };
            tokio::select! {
                request = self.requests.recv() => {
                    if request.is_none() {
                        return;
                    }
                    self.read_all();
                }
                index = changed => {
                    if index == 0 {
                        let read = read_route_files(&self.dir);
                        // A touched file is not worth a line in the log, nor is the same mistake.
                        if !is_same(&read, &self.read) {
                            self.load(read);
                        }
                    } else {
                        self.read_certificates(false);
                    }
                }
            }
        }
    }

    fn read_all(&mut self) {
        let read = read_route_files(&self.dir);
        self.load(read);
        self.read_certificates(true);
    }

    /// Uses what was read; on error the table in use stays.
    fn load(&mut self, read: Result<Vec<RouteFile>, ReloadError>) {
        let table = match &read {
            Ok(files) => RouteTable::compile(files).map_err(ReloadError::from),
            Err(error) => Err(error.clone()),
        };
        self.read = read;
        match table {
            Ok(table) => {
                tracing::info!(routes = table.len(), "route files loaded");
                self.succeeded(&table);
                self.routes.store(Arc::new(table));
                self.metrics.config_reloads.with_label_values(&["success"]).inc();
            }
            Err(error) => {
                self.metrics.last_reload_ok.set(0);
                tracing::error!(error = %error, "route files refused; the last good ones stay in use");
                self.metrics.config_reloads.with_label_values(&["failure"]).inc();
            }
        }
    }

    fn succeeded(&self, table: &RouteTable) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.last_reload_success.set(now.as_secs_f64());
        self.metrics
            .routes
            .set(i64::try_from(table.len()).unwrap_or(i64::MAX));
        self.metrics.last_reload_ok.set(1);
    }

    /// Reads all certificates again; those that cannot be used stay as they are, which is said once unless `is_asked`.
    fn read_certificates(&mut self, is_asked: bool) {
        for (certificate, known) in self.certificates.iter().zip(&mut self.certificate_errors) {
            let path = certificate.path().display();
            match certificate.read_again() {
                Ok(is_new) => {
                    if is_new || known.is_some() {
                        tracing::info!(%path, "certificate loaded");
                    }
                    *known = None;
                }
                Err(error) => {
                    if is_asked || known.as_ref() != Some(&error) {
                        tracing::error!(%path, %error, "certificate refused; the last good one stays in use");
                    }
                    *known = Some(error);
                }
            }
        }
        let faulty = self.certificate_errors.iter().flatten().count();
        self.metrics.certificates_ok.set(i64::from(faulty == 0));
    }
}

/// Whether two readings say the same.
fn is_same(one: &Result<Vec<RouteFile>, ReloadError>, other: &Result<Vec<RouteFile>, ReloadError>) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}
