//! Route files: read at start, and again on SIGHUP or when a file changes. A bad file keeps the last good
//! table; the log says which file, line and route, and a metric shows it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::metrics::Metrics;
use crate::routes::{RouteError, RouteFile, RouteTable};

/// A change is acted on when the folder has been quiet for this long, so that an editor's several steps are
/// one reload.
const QUIET: Duration = Duration::from_millis(200);

/// The route table in use. Readers never wait for a reload.
pub type SharedRoutes = Arc<ArcSwap<RouteTable>>;

/// Why the route files could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The folder or a file could not be read.
    #[error("{}: cannot be read ({error}); routes.dir names the folder of the route files", path.display())]
    Read {
        /// Folder or file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// The folder holds no route file: rather a wrong folder than a site without communities.
    #[error(
        "{}: holds no route file (*.toml); routes.dir names the folder of the route files, and one file without \
         routes is enough where none is wanted",
        path.display()
    )]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// A file is wrong.
    #[error(transparent)]
    Routes(#[from] RouteError),
}

/// Reads every `*.toml` of a folder, in file-name order.
pub fn read_route_files(dir: &Path) -> Result<Vec<RouteFile>, ReloadError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ReloadError::Read { path, error }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let path = entry.map_err(failed(dir))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(ReloadError::Empty { path: dir.into() });
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
            Ok(RouteFile { path, text })
        })
        .collect()
}

/// Reads and compiles the route files of a folder.
pub fn load_routes(dir: &Path) -> Result<RouteTable, ReloadError> {
    Ok(RouteTable::compile(&read_route_files(dir)?)?)
}

/// Swaps the route table when asked to.
pub struct Reloader {
    dir: PathBuf,
    routes: SharedRoutes,
    metrics: Arc<Metrics>,
}

impl Reloader {
    /// Takes the table that was loaded at start.
    pub fn new(dir: PathBuf, routes: SharedRoutes, metrics: Arc<Metrics>) -> Self {
        let reloader = Self { dir, routes, metrics };
        reloader.succeeded(&reloader.routes.load());
        reloader
    }

    /// Reads the files again; on error the table in use stays.
    pub fn reload(&self) {
        match load_routes(&self.dir) {
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
        self.metrics.last_reload_ok.set(1);
        self.metrics
            .routes
            .set(i64::try_from(table.len()).unwrap_or(i64::MAX));
    }

    /// Reloads whenever something comes through `requests` (SIGHUP) or, if `watch`, a file changes. Changes
    /// are noticed from this call on, not only once the future is polled. Ends with the last sender of
    /// `requests`.
    pub fn run(self, watch: bool, requests: mpsc::Receiver<()>) -> impl Future<Output = ()> {
        let (notice, notices) = mpsc::channel(1);
        let watcher = if watch { self.watch(notice) } else { None };
        self.reload_on(requests, notices, watcher)
    }

    /// Dropping the watcher ends it.
    async fn reload_on(
        self,
        mut requests: mpsc::Receiver<()>,
        mut notices: mpsc::Receiver<()>,
        _watcher: Option<notify::RecommendedWatcher>,
    ) {
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(()) => self.reload(),
                    None => return,
                },
                Some(()) = notices.recv() => due = Some(Instant::now() + QUIET),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    self.reload();
                }
            }
        }
    }

    fn watch(&self, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A full channel already holds the news.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = changed.try_send(());
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        watcher
            .map_err(|error| {
                tracing::warn!(error = %error, "the route folder cannot be watched; reload with SIGHUP");
            })
            .ok()
    }
}
