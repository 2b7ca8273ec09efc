//! Gauges of the status: read from it whenever metrics are rendered.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

use super::{Backlog, COMPONENTS, Status};

/// What a gauge shows.
pub(super) type GaugeValue = fn(&Status) -> f64;

/// What a gauge of the page views on disk shows.
type OfBacklog = fn(&Backlog) -> f64;

/// Those that are not one component's.
const OTHERS: [(&str, &str, GaugeValue); 3] = [
    (
        "session_listener_up",
        "1 while the database notifies of changes of sessions, 0 while it does not, -1 where that is off",
        |status| {
            let [listener, trigger] = [&status.session_listener, &status.session_trigger];
            listener
                .condition()
                .value()
                .min(trigger.condition().value())
                .into()
        },
    ),
    (
        "presence_settings_differ",
        "1 while another sidecar on the same redis.key_prefix serves another site, or has another record.window, redis.partitions or key format",
        |status| status.presence_settings.is_down().into(),
    ),
    (
        "redis_partitions_down",
        "Partitions whose Redis server does not answer; with several servers some may be away",
        |status| status.partitions_down().into(),
    ),
];

/// Those of the page views on disk.
const BACKLOG: [(&str, &str, OfBacklog); 6] = [
    (
        "spool_views",
        "Page views on disk, waiting for the database",
        |backlog| backlog.views,
    ),
    (
        "spool_bytes",
        "Bytes of page views on disk, dead letters included",
        |backlog| backlog.bytes,
    ),
    (
        "spool_kept_bytes",
        "Bytes of page views on disk that the database has acknowledged, kept in case it loses them",
        |backlog| backlog.kept_bytes,
    ),
    (
        "spool_limit_bytes",
        "Limit of spool_bytes: spool.max_bytes",
        |backlog| backlog.limit_bytes,
    ),
    (
        "spool_oldest_age_seconds",
        "Age of the oldest page view that waits on disk; 0 while none does",
        |backlog| backlog.oldest_seconds,
    ),
    (
        "dead_letters",
        "Page views that the database refused, kept on disk",
        |backlog| backlog.dead_letters,
    ),
];

/// The gauges of a status, to be registered.
#[derive(Clone)]
pub struct StatusGauges {
    status: Status,
    /// Each with its value.
    gauges: Vec<(Gauge, GaugeValue)>,
    backlog: Vec<(Gauge, OfBacklog)>,
}

impl StatusGauges {
    /// # Panics
    /// If a name is none: a mistake in the source, which any test finds.
    pub fn of(status: &Status) -> Self {
        let gauge = |name: &str, help: &str| {
            let opts = Opts::new(format!("headcount_{name}"), help.trim());
            Gauge::with_opts(opts).expect("a valid metric")
        };
        let components = COMPONENTS.iter().copied();
        let components = components.filter_map(|(name, help, value)| Some((gauge(name?, help), value)));
        let others = OTHERS.map(|(name, help, value)| (gauge(name, help), value));
        let backlog = BACKLOG.map(|(name, help, value)| (gauge(name, help), value));
        Self {
            status: status.clone(),
            gauges: components.chain(others).collect(),
            backlog: backlog.into(),
        }
    }
}

impl StatusGauges {
    fn all(&self) -> impl Iterator<Item = &Gauge> {
        let backlog = self.backlog.iter().map(|(gauge, _)| gauge);
        self.gauges.iter().map(|(gauge, _)| gauge).chain(backlog)
    }
}

impl Collector for StatusGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.all().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let backlog = self.status.backlog();
        self.gauges
            .iter()
            .for_each(|(gauge, value)| gauge.set(value(&self.status)));
        self.backlog
            .iter()
            .for_each(|(gauge, value)| gauge.set(value(&backlog)));
        self.all().flat_map(Collector::collect).collect()
    }
}
