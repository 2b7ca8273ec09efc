//! What operators see: the admin listener's parts, with the dashboard.

use std::sync::Arc;
use std::time::Duration;

use super::recording::Recording;
use super::shared_parts::SharedParts;
use crate::admin::{Admin, AdminSettings, Dashboard};
use crate::config::Config;
use crate::shutdown::{InFlight, Shutdown};

/// A page view that waits on disk this much longer than `record.batch_age` counts as stale.
const STALE: Duration = Duration::from_secs(60);

/// The admin listener, which nothing serves yet; the dashboard's history begins.
pub(super) fn start(shared: &SharedParts, recording: &Recording, in_flight: &InFlight) -> Admin {
    let SharedParts {
        config,
        presence,
        metrics,
        tasks,
        ..
    } = shared;
    Admin {
        dashboard: Dashboard::start(
            metrics.clone(),
            config.record.presence.then(|| presence.clone()),
            (recording.recent.clone(), recording.communities.clone()),
            config.record.window,
            tasks,
        ),
        settings: settings(config),
        metrics: metrics.clone(),
        status: shared.status.clone(),
        tasks: tasks.clone(),
        routes: shared.routes.clone(),
        policy: shared.policy.clone(),
        serving: Arc::default(),
        shutdown: shared.shutdown.clone(),
        handed_over: Shutdown::new(),
        in_flight: in_flight.clone(),
    }
}

fn settings(config: &Config) -> AdminSettings {
    AdminSettings {
        hosts: config.listen.admin_hosts.clone(),
        patience: config.record.batch_age + STALE,
        waits_for_the_app: config.upstream.readiness,
        api: config.api.clone(),
    }
}
