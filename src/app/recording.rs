//! Recording pipeline: wires steps 3 to 5 (identify, presence, writer), and the handle that the proxy holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::StartError;
use super::shared_parts::SharedParts;
use crate::auth::cookie::SessionCookie;
use crate::auth::{self, ApiKeys, Authenticator, EarlyLookups, Jwts};
use crate::communities::Communities;
use crate::config::{Access, Config};
use crate::geoip::GeoIp;
use crate::page_view::{self, Dropped, Queue, SentFiles};
use crate::presence;
use crate::presence::grants::Grants;
use crate::presence::worker::{PresenceHandle, Worker as PresenceWorker};
use crate::recent_pages::RecentPages;
use crate::recorder::{Destinations, Intake, Recognition, Recorder, Resolver, ShownPages};
use crate::reload::{KeyFile, KeyFiles};
use crate::shutdown::Shutdown;
use crate::status::Status;
use crate::tasks::Tasks;
use crate::writer::load::Bytes;
use crate::writer::spool::{Directory, Spool};
use crate::writer::{BatchLimits, Dependencies, Writer};
use anyhow::Context as _;

/// How long a lookup may take where nothing is spooled; longer than any lookup takes.
const NO_HURRY: Duration = Duration::from_secs(60 * 60);

/// Longest time for workers to finish at shutdown.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Everything between a page view and its rows.
pub(super) struct Recording {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) communities: Arc<Communities>,
    pub(super) recorder: Recorder,
    views: Arc<page_view::Metrics>,
    auth: Arc<auth::Metrics>,
    /// The keys of JWTs, where they are read.
    jwt_keys: Option<Arc<KeyFile>>,
    /// The keys of servers, where they have some.
    pub(super) api_keys: Option<Arc<ApiKeys>>,
    /// The latest recorded pages, for the dashboard.
    pub(super) recent: RecentPages,
    /// Receives touches; `None` where presence is not recorded.
    pub(super) touches: Option<PresenceHandle>,
    /// Ends the presence worker and the writer: after the last flush, later than the process' own shutdown.
    stop: Shutdown,
    tasks: Tasks,
    workers: Vec<JoinHandle<()>>,
}

/// Prepares the folder of the spools; `None` where nothing is written.
///
/// # Errors
/// The operator must fix the configuration or the environment.
pub(super) fn prepare_spools(config: &Config) -> Result<Option<Directory>, StartError> {
    if !config.record.writes() {
        return Ok(None);
    }
    let directory = Directory::prepare(&config.spool);
    directory
        .map(Some)
        .map_err(|error| StartError::Configuration(error.to_string()))
}

/// A spool for this process; `None` where nothing is written.
///
/// # Errors
/// The environment's fault, such as no memory.
pub(super) async fn create_spool(
    spools: Option<Directory>,
    status: &Status,
) -> Result<Option<(Directory, Arc<Spool>)>, StartError> {
    let Some(directory) = spools else {
        return Ok(None);
    };
    let spool = match directory.create().await {
        Ok(spool) => spool,
        // The folder is valid, so the fault is the disk's and may pass: the site is served without a spool.
        Err(error) => {
            status.spool.down(directory.explain(&error), |error| {
                tracing::error!(
                    error,
                    "no spool can be created: until one can be, page views wait in memory (record.queue_bytes), then are \
                     dropped"
                );
            });
            directory.absent().context("the spool")?
        }
    };
    Ok(Some((directory, spool)))
}

impl Recording {
    /// Starts the workers. `spool` is where page views wait for the database, `geoip` locates their addresses.
    pub(super) fn start(
        shared: &SharedParts,
        spool: Option<(Directory, Arc<Spool>)>,
        geoip: Option<GeoIp>,
        key_files: &KeyFiles,
    ) -> Self {
        let SharedParts {
            config,
            store,
            status,
            metrics,
            tasks,
            ..
        } = shared;
        let record = &config.record;
        let stop = Shutdown::new();
        let most_bytes = usize::try_from(record.queue_bytes.as_u64()).unwrap_or(usize::MAX);
        let bytes = Bytes::new(most_bytes, &metrics.views);
        let mut workers = Vec::new();
        let presence = record.presence.then(|| {
            let (handle, worker) = presence_worker(shared);
            workers.extend(worker.start(tasks, stop.subscribe()));
            handle
        });
        let (jwt_keys, api_keys) = (key_files.jwt_keys.clone(), key_files.api_keys.clone());
        let authenticator = authenticator(shared, jwt_keys.clone());
        let communities = Arc::new(Communities::new(store.clone()));
        let recent = RecentPages::new(config.privacy.recent_pages);
        let writer = spool.map(|(directory, spool)| {
            let parts = Dependencies {
                store: store.clone(),
                communities: communities.clone(),
                geoip,
                recent: recent.clone(),
                directory,
                spool,
                status: status.clone(),
            };
            let (handle, started) = start_writer(shared, parts, bytes.clone(), &stop);
            workers.extend(started);
            handle
        });
        let resolver = resolver(config, &authenticator, &communities);
        let recognition = Recognition::new(&config.session, &config.schema, status.recognition.clone());
        let destinations = Destinations {
            presence: presence.clone(),
            writer,
            recent: recent.clone(),
            metrics: metrics.views.clone(),
            recognition: Arc::new(recognition),
            faulty_keys: Arc::default(),
        };
        let (recorder, worker) = Recorder::new(destinations, resolver, record.queue_views.get(), bytes);
        worker.start(tasks);
        Self {
            authenticator,
            communities,
            recorder,
            views: metrics.views.clone(),
            auth: metrics.auth.clone(),
            jwt_keys,
            api_keys: api_keys.map(|file| ApiKeys::new(file, metrics.auth.clone())),
            recent,
            touches: presence,
            stop,
            tasks: tasks.clone(),
            workers,
        }
    }

    /// What the proxy and the API hand page views to. Its lookups run on the tasks' runtime.
    pub(super) fn intake(&self, shared: &SharedParts) -> Arc<Intake> {
        let SharedParts {
            config,
            routes,
            policy,
            presence,
            metrics,
            ..
        } = shared;
        let api = &config.api;
        // Whom the app has shown which community, where that decides who may see its visitors.
        let shown = (api.enabled && api.access == Access::Visited).then(|| {
            let (ttl, patience) = (api.visited_ttl, api.timeout / 5);
            let (presence, metrics) = (presence.clone(), metrics.presence.clone());
            ShownPages::new(
                Grants::start(ttl, patience, presence, metrics, &self.tasks),
                self.authenticator.clone(),
                self.communities.clone(),
                self.tasks.runtime().clone(),
            )
        });
        Arc::new(Intake {
            is_recording: config.record.is_on(),
            cookie: SessionCookie::new(&config.session),
            jwts: self.jwt_keys.as_ref().map(|keys| {
                let session = &config.session;
                let (keys, metrics) = (Arc::clone(keys), Arc::clone(&self.auth));
                Jwts::new(&session.jwt, keys, session.cache_capacity, metrics)
            }),
            routes: routes.clone(),
            lookups: EarlyLookups::new(self.authenticator.clone(), self.tasks.runtime().clone()),
            policy: policy.clone(),
            files: SentFiles::default(),
            recorder: self.recorder.clone(),
            shown,
        })
    }

    /// Flushes the queues, at most for `limit`. Views that do not reach the database stay in the spool, for the next
    /// process; those that do not reach the spool are dropped and counted.
    pub(super) async fn finish(self, limit: Duration) {
        let is_done = tokio::time::timeout(limit, self.recorder.flush()).await.is_ok();
        let kept = self.recorder.spooled();
        self.tasks.end();
        self.stop.start();
        let ended = async {
            for worker in self.workers {
                let _ = worker.await;
            }
        };
        if tokio::time::timeout(FLUSH_LIMIT, ended).await.is_err() {
            tracing::debug!("some workers did not finish in time and end with the process");
        }
        if !is_done {
            log_remaining(self.recorder.unspooled(), kept, &self.views);
        }
    }
}

/// Receives touches, and the worker that writes them.
fn presence_worker(shared: &SharedParts) -> (PresenceHandle, PresenceWorker) {
    let SharedParts { config, metrics, .. } = shared;
    if !config.redis.is_used() {
        tracing::info!(
            "no Redis is configured: presence is kept in the memory of this process, for this sidecar alone"
        );
    }
    presence::worker::new(
        shared.presence.clone(),
        &config.record,
        &shared.status,
        metrics.presence.clone(),
        metrics.views.queued[Queue::Presence].clone(),
    )
}

/// Receives page views, and the workers that write them.
fn start_writer(
    shared: &SharedParts,
    parts: Dependencies,
    bytes: Bytes,
    stop: &Shutdown,
) -> (Writer, [JoinHandle<()>; 2]) {
    let SharedParts {
        config,
        metrics,
        tasks,
        ..
    } = shared;
    let limits = BatchLimits::new(&config.record, &config.spool, &config.database);
    let (handle, appender, applier) = Writer::new(&config.record, limits, parts, bytes, &metrics.writer);
    let workers = [
        appender.start(tasks, stop.subscribe()),
        applier.start(tasks, stop.subscribe()),
    ];
    (handle, workers)
}

/// Finds out whose views those are that come with unknown tokens.
fn resolver(config: &Config, authenticator: &Arc<Authenticator>, communities: &Arc<Communities>) -> Resolver {
    Resolver {
        authenticator: authenticator.clone(),
        communities: communities.clone(),
        admission: config.api.timeout,
        window: config.record.window,
        // Where nothing is written there is no spool to wait in.
        patience: if config.record.writes() {
            config.spool.max_unspooled / 2
        } else {
            NO_HURRY
        },
    }
}

fn authenticator(shared: &SharedParts, jwt_keys: Option<Arc<KeyFile>>) -> Arc<Authenticator> {
    let SharedParts { config, metrics, .. } = shared;
    let schema = &config.schema;
    let looks_up = schema.finds_accounts() || schema.hides_members() || schema.disables_accounts();
    let authenticator = Authenticator::new(&config.session, shared.store.clone(), metrics.auth.clone());
    Arc::new(authenticator.with_jwts(jwt_keys, looks_up))
}

/// Reports views that were only in memory (`lost`) and those in the spool (`kept`).
fn log_remaining(lost: usize, kept: u64, metrics: &page_view::Metrics) {
    if kept > 0 {
        tracing::warn!(
            views = kept,
            "page views could not be written before the end; they stay in the spool for the next start"
        );
    }
    if lost > 0 {
        metrics.dropped[Dropped::Shutdown].inc_by(lost as u64);
        tracing::warn!(
            views = lost,
            "page views could not be put into the spool before the end and are dropped"
        );
    }
}
