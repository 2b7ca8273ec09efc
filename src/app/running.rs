//! The life of a sidecar, from the signal handlers to the last flush: the order in which parts start and end.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::background_checks::Watched;
use super::recording::{self, Recording};
use super::serving::Serving;
use super::shared_parts::SharedParts;
use super::{App, StartError, at_start, counting, live_connections, open_files, operators, proxying};
use crate::metrics::LabelValue as _;
use crate::page_view::{Agents, Policy};
use crate::reload::{ApiKeyFile, KeyFiles, LoadedRoutes, Reloader, SharedRoutes};
use crate::routes::{CountedTypes, RouteFile};
use crate::shutdown::{Closing, InFlight, Shutdown, SignalPolicy, Signals};
use crate::status::Status;
use crate::store::{self, Store};
use crate::tasks::{Task, Tasks};
use crate::writer::spool::{Directory, Spool};

/// Serves until SIGTERM, SIGINT, [`App::shutdown`] or a hand-over, then drains and flushes. Tasks run on `background`.
///
/// # Errors
/// A part could not be started or taken over, or a task that serving depends on is lost.
pub(super) async fn run(app: App, background: &Handle) -> Result<(), StartError> {
    let App {
        mut config,
        routes: LoadedRoutes { files, table },
        key_files,
        geoip,
        spools,
        ports,
        shutdown,
        of_a_terminal,
    } = app;
    // The reloader runs until `reload` is dropped: files may change without a signal, too.
    let (reload, reload_requests) = mpsc::channel(1);
    let (hand_over, quits) = mpsc::channel(1);
    let signals = signals(&shutdown, of_a_terminal, &reload, hand_over)?;

    let routes: SharedRoutes = Arc::new(ArcSwap::from_pointee(table));
    let counted = CountedTypes::new(&config.record, Arc::clone(&routes));
    let store = store::open_counting(&config, counted.clone()).context("the database")?;
    let api_keys = key_files.api_keys.clone();
    // Takes milliseconds: done while the database is looked at.
    let policy = spawn_blocking({
        let (record, privacy) = (config.record.clone(), config.privacy.clone());
        move || {
            Agents::read_usual();
            Policy::new(&record, &privacy)
        }
    });
    let look = async {
        let found = at_start::look(&store, &config, &routes.load(), ports.are_taken_over()).await?;
        check_api_keys(api_keys.as_deref(), &store)?;
        Ok((found, policy.await.context("user agents")?))
    };
    let status = Status::default();
    let ((inspection, policy), spool) = create_spool_during(look, spools, &status).await?;

    config.limits.max_connections = Some(open_files::connections(&config.limits));
    let shared = SharedParts::new(
        config,
        policy,
        routes,
        store,
        background,
        shutdown.clone(),
        status,
    )?;
    let (config, tasks) = (&shared.config, &shared.tasks);
    tasks.keep_worker(Task::Signals, signals, |signals| signals.handle().boxed());
    let recording = Recording::start(&shared, spool, geoip, &key_files);
    let reloader = reloader(&shared, files, &key_files, reload_requests);
    let serves = Shutdown::new();
    let counters = counting::start(&shared, counted, serves.clone())?;
    let watched = Watched {
        shared: &shared,
        authenticator: &recording.authenticator,
        api_keys,
        inspection,
    };
    watched.start(reloader)?;

    let (in_flight, closing) = (InFlight::default(), Closing::default());
    let live = live_connections::start(&shared, &recording);
    let admin = operators::start(&shared, &recording, &in_flight);
    let leaving = closing.accepting.clone();
    let sidecar = proxying::sidecar(&shared, &recording, live.clone(), in_flight.clone(), leaving)?;
    let serving = Serving {
        config,
        certificates: key_files.certificates,
        tasks,
        admin,
        serves,
        shutdown,
        quits,
        closing,
        in_flight,
        live,
    };
    tasks.begin();
    let result = serving.run(ports, sidecar).await;
    recording.finish(config.record.flush_timeout).await;
    counting::finish(counters, &shared.store).await;
    drop(reload);
    result?;
    check_tasks(tasks)
}

/// # Errors
/// The file of servers' keys names communities that cannot be the app's.
fn check_api_keys(api_keys: Option<&ApiKeyFile>, store: &Arc<dyn Store>) -> Result<(), StartError> {
    let checked = api_keys.map_or(Ok(()), |api_keys| api_keys.check_against(store.keys()));
    checked.map_err(|error| StartError::Configuration(error.to_string()))
}

/// What `look` finds in the database, and the spool, which is created meanwhile: one waits for the database, the other for
/// the disk. `None` in place of the spool where nothing is written.
///
/// # Errors
/// Either fails. No spool stays open then.
async fn create_spool_during<T>(
    look: impl Future<Output = Result<T, StartError>>,
    spools: Option<Directory>,
    status: &Status,
) -> Result<(T, Option<(Directory, Arc<Spool>)>), StartError> {
    let (looked, spool) = tokio::join!(look, recording::create_spool(spools, status));
    let spool = spool?;
    match looked {
        Ok(found) => Ok((found, spool)),
        Err(refused) => {
            if let Some((_, spool)) = spool {
                spool.close().await;
            }
            Err(refused)
        }
    }
}

/// Reads route and key files again when they change, or on request; it asks the database whether it fits new routes.
fn reloader(
    shared: &SharedParts,
    files: Vec<RouteFile>,
    key_files: &KeyFiles,
    requests: mpsc::Receiver<()>,
) -> Reloader {
    let reloader = Reloader::new(
        &shared.config.routes,
        files,
        shared.routes.clone(),
        key_files.clone(),
        requests,
        &shared.status,
        shared.metrics.reload.clone(),
    );
    reloader.asking(at_start::at_reload(&shared.store))
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

/// # Errors
/// A task that serving depends on is lost.
fn check_tasks(tasks: &Tasks) -> Result<(), StartError> {
    match tasks.lost() {
        None => Ok(()),
        Some(task) => Err(anyhow::anyhow!("the task {} failed; the log says why", task.label()).into()),
    }
}
