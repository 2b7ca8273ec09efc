//! Health: problems that an operator must act on, as sentences, shared by `/readyz` and the dashboard.

use std::sync::atomic::Ordering;

use super::{Admin, Metrics};

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

/// The state of every part at one moment. Gauges change independently: an answer takes all its values from one
/// reading, so that its lines agree. Gauges `…_up` are 1 (up), 0 (down) or -1 (off).
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) database_up: i64,
    pub(super) redis_up: i64,
    presence_up: i64,
    partitions_down: i64,
    /// Settings that differ between sidecars on the same Redis keys.
    differences: Option<std::sync::Arc<Vec<String>>>,
    pub(super) spool_up: i64,
    pub(super) spool_bytes: f64,
    pub(super) spool_limit_bytes: f64,
    /// Seconds.
    pub(super) spool_oldest_age: f64,
    pub(super) dead_letters: f64,
    ledger_ok: i64,
    /// The database's error, if it refuses every page view.
    writes_refused: Option<std::sync::Arc<String>>,
    session_listener_up: i64,
    pub(super) routes_ok: bool,
    certificates_ok: bool,
}

impl Health {
    pub(super) fn read(metrics: &Metrics) -> Self {
        Self {
            database_up: metrics.store.database_up.get(),
            redis_up: metrics.presence.redis_up.get(),
            presence_up: metrics.presence.presence_up.get(),
            partitions_down: metrics.presence.redis_partitions_down.get(),
            differences: metrics.presence.presence_differences.load_full(),
            spool_up: metrics.writer.spool_up.get(),
            spool_bytes: metrics.writer.spool_bytes.get(),
            spool_limit_bytes: metrics.writer.spool_limit_bytes.get(),
            spool_oldest_age: metrics.writer.spool_oldest_age.get(),
            dead_letters: metrics.writer.dead_letters.get(),
            ledger_ok: metrics.store.ledger_ok.get(),
            writes_refused: metrics.writer.writes_refused.load_full(),
            session_listener_up: metrics.auth.session_listener_up.get(),
            routes_ok: metrics.reload.last_reload_ok.get() != 0,
            certificates_ok: metrics.reload.certificates_ok.get() != 0,
        }
    }

    /// Problems that an operator must act on, one sentence each. A page view may wait on disk for `patience`
    /// seconds.
    pub(super) fn degraded(&self, patience: f64) -> Vec<String> {
        let (age, letters) = (self.spool_oldest_age, self.dead_letters);
        let partitions = self.partitions_down;
        [
            (
                self.database_up == 0,
                "the database does not answer; page views wait in the spool".to_owned(),
            ),
            (
                self.spool_up == 0,
                "the spool cannot be written; page views wait in memory, then are dropped".to_owned(),
            ),
            (
                self.spool_up >= 0 && self.spool_bytes >= self.spool_limit_bytes,
                "the spool is full; page views are dropped until the database takes them".to_owned(),
            ),
            (
                self.ledger_ok == 0,
                "the ledger is not in order and page views wait; see `headcount check`".to_owned(),
            ),
            (
                self.writes_refused.is_some(),
                format!(
                    "the database takes no page view and they wait ({}); see the log",
                    self.writes_refused.as_deref().map_or("", String::as_str)
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
                self.redis_up == 0,
                "redis does not answer; only visitors that this sidecar saw itself are known".to_owned(),
            ),
            (
                self.presence_up == 0 && self.redis_up == 1 && partitions == 0,
                "redis answers but refuses commands, see the log; only visitors that this sidecar saw \
                 itself are known"
                    .to_owned(),
            ),
            (
                partitions > 0 && self.redis_up == 1,
                format!(
                    "the redis servers of {partitions} partitions do not answer; of their communities only visitors \
                     that this sidecar saw itself are known"
                ),
            ),
            (
                self.session_listener_up == 0,
                "changes of sessions are not heard of; sign-outs are noticed within session.cache_ttl".to_owned(),
            ),
            (
                !self.routes_ok,
                "the route files are faulty, see the log; the last good routes stay in use".to_owned(),
            ),
            (
                !self.certificates_ok,
                "a certificate of listen.https is faulty, see the log; the last good one stays in use".to_owned(),
            ),
        ]
        .into_iter()
        .filter_map(|(holds, line)| holds.then_some(line))
        .chain(self.differences.iter().flat_map(|differences| differences.iter().cloned()))
        .collect()
    }
}
