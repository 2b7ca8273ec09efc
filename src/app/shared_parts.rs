//! What most parts of a running sidecar are made with, presence among it.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::admin::Metrics;
use crate::config::Config;
use crate::page_view::Policy;
use crate::presence::{self, Presence};
use crate::reload::SharedRoutes;
use crate::shutdown::Shutdown;
use crate::status::Status;
use crate::store::Store;
use crate::tasks::Tasks;

/// The configuration, and what exists once in the process.
pub(super) struct SharedParts {
    pub(super) config: Config,
    /// What counts as a page view, and what of it is kept.
    pub(super) policy: Arc<Policy>,
    pub(super) routes: SharedRoutes,
    pub(super) store: Arc<dyn Store>,
    pub(super) presence: Arc<dyn Presence>,
    pub(super) status: Status,
    pub(super) metrics: Metrics,
    pub(super) tasks: Tasks,
    pub(super) shutdown: Shutdown,
}

impl SharedParts {
    /// Opens presence. Tasks run on `background`, until the shutdown.
    ///
    /// # Errors
    /// Redis cannot be used as configured.
    pub(super) fn new(
        config: Config,
        policy: Policy,
        routes: SharedRoutes,
        store: Arc<dyn Store>,
        background: &Handle,
        shutdown: Shutdown,
        status: Status,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::new(&status);
        let tasks = Tasks::new(metrics.tasks.clone(), background, shutdown.clone());
        // A list queries presence twice, and needs time for the database, too.
        let patience = config.api.timeout / 4;
        let presence = presence::open(
            &config.redis,
            &config.record,
            &store.state().site,
            patience,
            &status,
            metrics.presence.clone(),
            &tasks,
        );
        Ok(Self {
            policy: Arc::new(policy),
            presence: presence.context("presence")?,
            config,
            routes,
            store,
            status,
            metrics,
            tasks,
            shutdown,
        })
    }
}
