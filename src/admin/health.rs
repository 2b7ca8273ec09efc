//! What an operator must act on, in words: one place, so that `/readyz` and the dashboard never disagree.

use std::sync::atomic::Ordering;

use super::Admin;
use crate::metrics::Metrics;

/// Whether the site is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    Starting,
    HandedOver,
    ShuttingDown,
}

impl Readiness {
    pub(super) fn of(admin: &Admin) -> Self {
        if admin.shutdown.has_started() {
            Self::ShuttingDown
        } else if admin.handed_over.has_started() {
            Self::HandedOver
        } else if admin.serving.load(Ordering::Relaxed) {
            Self::Ready
        } else {
            Self::Starting
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ready => "ok",
            Self::Starting => "starting",
            Self::HandedOver => "handed over to another process",
            Self::ShuttingDown => "shutting down",
        }
    }
}

/// What an operator must act on, one sentence each. A page view may wait on disk for `patience` seconds.
pub(super) fn degraded(metrics: &Metrics, patience: f64) -> Vec<String> {
    let writes = metrics.spool_up.get() >= 0;
    let (age, letters) = (metrics.spool_oldest_age.get(), metrics.dead_letters.get());
    let refused = metrics.writes_refused.load();
    let partitions = metrics.redis_partitions_down.get();
    [
        (
            metrics.database_up.get() == 0,
            "the database does not answer; page views wait in the spool".to_owned(),
        ),
        (
            metrics.spool_up.get() == 0,
            "the spool cannot be written; page views wait in memory, then are dropped".to_owned(),
        ),
        (
            writes && metrics.spool_bytes.get() >= metrics.spool_limit_bytes.get(),
            "the spool is full; page views are dropped until the database takes them".to_owned(),
        ),
        (
            metrics.ledger_ok.get() == 0,
            "the ledger is not in order and page views wait; see `headcount check`".to_owned(),
        ),
        (
            refused.is_some(),
            format!(
                "the database takes no page view and they wait ({}); see the log",
                refused.as_deref().map_or("", String::as_str)
            ),
        ),
        (
            age > patience,
            format!("page views have waited for the database for {age:.0} s"),
        ),
        (
            letters > 0.0,
            format!("the database refused {letters:.0} page views; see `headcount dead-letters list`"),
        ),
        (
            metrics.redis_up.get() == 0,
            "redis does not answer; only visitors that this sidecar saw itself are known".to_owned(),
        ),
        (
            metrics.presence_up.get() == 0 && metrics.redis_up.get() == 1 && partitions == 0,
            "redis answers but refuses what is asked of it, see the log; only visitors that this sidecar saw itself are \
             known"
                .to_owned(),
        ),
        (
            partitions > 0 && metrics.redis_up.get() == 1,
            format!(
                "the redis servers of {partitions} partitions do not answer; of their communities only visitors that \
                 this sidecar saw itself are known"
            ),
        ),
        (
            metrics.session_listener_up.get() == 0,
            "changes of sessions are not heard of; sign-outs are noticed within session.cache_ttl".to_owned(),
        ),
        (
            metrics.last_reload_ok.get() == 0,
            "the route files are faulty, see the log; the last good routes stay in use".to_owned(),
        ),
    ]
    .into_iter()
    .filter_map(|(holds, line)| holds.then_some(line))
    .collect()
}
