//! Gauges of the status: read from it whenever metrics are rendered.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts};

use super::{COMPONENTS, Status};

/// What a gauge shows.
pub(super) type Value = fn(&Status) -> i64;

/// Those that are not one component's.
const OTHERS: [(&str, &str, Value); 3] = [
    (
        "session_listener_up",
        "1 while the database notifies of changes of sessions, 0 while it does not, -1 where that is off",
        |status| {
            let [listener, trigger] = [&status.session_listener, &status.session_trigger];
            listener.condition().value().min(trigger.condition().value())
        },
    ),
    (
        "presence_settings_differ",
        "1 while another sidecar on the same redis.key_prefix has another record.window, redis.partitions, or key format",
        |status| status.presence_settings.is_down().into(),
    ),
    (
        "redis_partitions_down",
        "Partitions whose Redis server does not answer; with several servers some may be away",
        Status::partitions_down,
    ),
];

/// The gauges of a status, to be registered.
#[derive(Clone)]
pub struct StatusGauges {
    status: Status,
    /// Each with its value.
    gauges: Vec<(IntGauge, Value)>,
}

impl StatusGauges {
    /// # Panics
    /// If a name is none: a mistake in the source, which any test finds.
    pub fn of(status: &Status) -> Self {
        let gauge = |name: &str, help: &str| {
            let opts = Opts::new(format!("headcount_{name}"), help.trim());
            IntGauge::with_opts(opts).expect("a valid metric")
        };
        let components = COMPONENTS.iter().copied();
        let components = components.filter_map(|(name, help, value)| Some((gauge(name?, help), value)));
        let others = OTHERS.map(|(name, help, value)| (gauge(name, help), value));
        Self {
            status: status.clone(),
            gauges: components.chain(others).collect(),
        }
    }
}

impl Collector for StatusGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let collect = |(gauge, value): &(IntGauge, Value)| {
            gauge.set(value(&self.status));
            gauge.collect()
        };
        self.gauges.iter().flat_map(collect).collect()
    }
}
