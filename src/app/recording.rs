//! Steps 3 to 5 wired together: identify, presence, writer, and the handle that the proxy holds.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::auth::Authenticator;
use crate::communities::Communities;
use crate::config::Config;
use crate::geoip::GeoIp;
use crate::metrics::{Dropped, Metrics};
use crate::presence::worker::PresenceHandle;
use crate::presence::{self, Presence};
use crate::recorder::load::Bytes;
use crate::recorder::{Destinations, Recorder, Resolver};
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::writer::Writer;

/// Everything between a page view and its rows.
pub(super) struct Recording {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) communities: Arc<Communities>,
    pub(super) recorder: Recorder,
    /// Where touches go; `None` where presence is not recorded.
    pub(super) touches: Option<PresenceHandle>,
    /// Ends the presence worker; not before the last touch, unlike the process' own shutdown.
    stop: Shutdown,
    workers: Vec<JoinHandle<()>>,
}

impl Recording {
    pub(super) fn start(
        config: &Config,
        geoip: Option<GeoIp>,
        store: &Arc<dyn Store>,
        presence: &Arc<dyn Presence>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let record = &config.record;
        let stop = Shutdown::new();
        let bytes = Bytes::new(
            usize::try_from(record.queue_bytes.as_u64()).unwrap_or(usize::MAX),
            metrics,
        );
        let mut workers = Vec::new();
        let presence = record.presence.then(|| {
            let (handle, worker) = presence::worker::new(presence.clone(), record, metrics.clone());
            workers.push(tokio::spawn(worker.run(stop.subscribe())));
            handle
        });
        let writer = record.writes().then(|| {
            let (handle, worker) = Writer::new(record, store.clone(), geoip, bytes.clone(), metrics.clone());
            workers.push(tokio::spawn(worker));
            handle
        });
        let authenticator = Arc::new(Authenticator::new(
            &config.session,
            store.clone(),
            metrics.clone(),
        ));
        let communities = Arc::new(Communities::new(store.clone()));
        let resolver = Resolver {
            authenticator: authenticator.clone(),
            communities: communities.clone(),
        };
        let touches = presence.clone();
        let destinations = Destinations {
            presence,
            writer,
            metrics: metrics.clone(),
        };
        let (recorder, worker) = Recorder::new(
            destinations,
            resolver,
            record.queue_views.get(),
            bytes,
            metrics.clone(),
        );
        workers.push(tokio::spawn(worker));
        Self {
            authenticator,
            communities,
            recorder,
            touches,
            stop,
            workers,
        }
    }

    /// Writes out what is queued, at most for `limit`; the rest is given up and counted.
    pub(super) async fn finish(self, limit: Duration, metrics: &Metrics) {
        if tokio::time::timeout(limit, self.recorder.flush()).await.is_err() {
            let left = self.recorder.waiting();
            metrics
                .recorder_dropped
                .with_label_values(&[Dropped::Shutdown.label()])
                .inc_by(left as u64);
            tracing::warn!(
                views = left,
                "page views could not be written before the end and are given up"
            );
        }
        self.stop.start();
        for worker in self.workers {
            worker.abort();
        }
    }
}
