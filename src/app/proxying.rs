//! What the proxy holds: the app's servers, the intake of page views, the API, the widget's insertion.

use std::sync::Arc;

use chrono::Utc;

use super::recording::Recording;
use super::shared_parts::SharedParts;
use crate::api::{Api, SiteSettings, Sources, UpstreamCheck, widget_paths};
use crate::config::{Access, Config};
use crate::live::Live;
use crate::proxy::{Edge, Sidecar, Upstreams};
use crate::shutdown::{InFlight, Shutdown};
use crate::widget::Injector;

/// The proxy, which nothing serves yet. `leaving` says that no connections are accepted any more.
///
/// # Errors
/// The app's servers cannot be used as configured.
pub(super) fn sidecar(
    shared: &SharedParts,
    recording: &Recording,
    live: Option<Live>,
    in_flight: InFlight,
    leaving: Shutdown,
) -> anyhow::Result<Sidecar> {
    let (config, metrics) = (&shared.config, &shared.metrics.proxy);
    let intake = recording.intake(shared);
    let sources = Sources {
        intake: intake.clone(),
        store: shared.store.clone(),
        authenticator: recording.authenticator.clone(),
        api_keys: recording.api_keys.clone(),
        communities: recording.communities.clone(),
        presence: shared.presence.clone(),
        backend_check: Arc::new(UpstreamCheck::new(&config.upstream, config.api.timeout * 4 / 5)),
        live,
    };
    Ok(Sidecar {
        limits: config.limits.clone(),
        upstream: config.upstream.clone(),
        upstreams: Upstreams::new(&config.upstream, &shared.status, metrics)
            .map_err(|error| anyhow::anyhow!("upstream: {error}"))?,
        intake,
        communities: recording.communities.clone(),
        community_key: config.api.community_key,
        injector: config.widget.inject.then(|| injector(config)),
        api: Arc::new(api(shared, sources)),
        background: shared.tasks.runtime().clone(),
        edge: Edge::new(metrics.clone()),
        metrics: metrics.clone(),
        in_flight,
        leaving,
    })
}

fn api(shared: &SharedParts, sources: Sources) -> Api {
    let config = &shared.config;
    Api::new(
        config.api.clone(),
        SiteSettings {
            window: config.record.window,
            session_cookie: config.session.cookie.clone(),
            jwt: config.session.jwt.clone(),
            session_facts: config.schema.session_facts(config.session.kind),
            allowed_origins: config.live.allowed_origins.clone(),
        },
        sources,
        shared.metrics.api.clone(),
        Arc::new(Utc::now),
    )
}

/// What puts the widget into pages.
fn injector(config: &Config) -> Injector {
    let (script, live) = widget_paths(&config.api);
    Injector::new(&config.widget, script, live, config.api.access != Access::Public)
}
