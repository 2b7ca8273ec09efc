//! The metrics, declared once: an interface that operators build alerts on.
//!
//! Own registry, prefix `headcount_`, base units, counters end in `_total`. Labels are bounded: never a
//! user, a path or a community. Every label value known beforehand starts at zero.

use prometheus::core::{AtomicU64, Collector, GenericCounter, GenericCounterVec};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::page_view::NotCounted;
use crate::{api, live};

type Counter = GenericCounter<AtomicU64>;
type CounterVec = GenericCounterVec<AtomicU64>;

/// Upper bounds, in seconds, of the latency histograms.
const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Every metric of the sidecar.
#[derive(Debug)]
#[expect(missing_docs, reason = "each metric's help text is its documentation")]
pub struct Metrics {
    registry: Registry,
    pub requests: CounterVec,
    pub request_duration: HistogramVec,
    pub upstream_duration: Histogram,
    pub connections: IntGauge,
    pub connections_refused: Counter,
    pub requests_refused: CounterVec,
    pub page_views_counted: Counter,
    pub page_views_not_counted: CounterVec,
    pub recorder_queue_views: GaugeVec,
    pub recorder_queue_bytes: Gauge,
    pub recorder_dropped: CounterVec,
    pub session_lookups: CounterVec,
    pub presence_touches: Counter,
    pub presence_touches_coalesced: Counter,
    pub presence_touch_failures: Counter,
    pub presence_sweep_lag: Gauge,
    pub redis_errors: Counter,
    pub redis_up: IntGauge,
    pub database_up: IntGauge,
    pub batch_rows: Histogram,
    pub apply_duration: Histogram,
    pub apply_retries: CounterVec,
    pub last_apply: Gauge,
    pub applied_views: Counter,
    pub api_requests: CounterVec,
    pub live_connections: IntGaugeVec,
    pub live_closed: CounterVec,
    pub live_refused: CounterVec,
    pub live_messages: CounterVec,
    pub live_values_skipped: Counter,
    pub live_heartbeats: Counter,
    pub live_subscription_up: IntGauge,
    pub live_resyncs: CounterVec,
    pub beacons: CounterVec,
    pub config_reloads: CounterVec,
    pub last_reload_success: Gauge,
    pub last_reload_ok: IntGauge,
    pub routes: IntGauge,
}

/// Why a page view that was accepted did not reach its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The recorder's own queue was full.
    RecorderQueueFull,
    /// The presence queue was full.
    PresenceQueueFull,
    /// The writer's queue was full, by count or by bytes.
    WriterQueueFull,
    /// The token could not be looked up: the database is away.
    SessionUnavailable,
    /// The community's slug could not be looked up: the database is away.
    CommunityUnavailable,
    /// The database refused the row or batch for good.
    Refused,
    /// Shutdown ended before the last batch was applied.
    Shutdown,
}

impl Dropped {
    const ALL: [Self; 7] = [
        Self::RecorderQueueFull,
        Self::PresenceQueueFull,
        Self::WriterQueueFull,
        Self::SessionUnavailable,
        Self::CommunityUnavailable,
        Self::Refused,
        Self::Shutdown,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::RecorderQueueFull => "recorder_queue_full",
            Self::PresenceQueueFull => "presence_queue_full",
            Self::WriterQueueFull => "writer_queue_full",
            Self::SessionUnavailable => "session_unavailable",
            Self::CommunityUnavailable => "community_unavailable",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Metrics {
    /// Declares every metric in a registry of its own.
    ///
    /// # Panics
    /// If two metrics have one name: a mistake in this file, which any test finds.
    #[expect(clippy::too_many_lines, reason = "a list, one entry per metric")]
    pub fn new() -> Self {
        let declare = Declare(Registry::new());
        let metrics = Self {
            requests: declare.counters(
                "requests_total",
                "Requests answered, by route and status class",
                &["route", "status"],
            ),
            request_duration: declare.histograms(
                "request_duration_seconds",
                "From a request's start to the end of its response",
                &["route"],
            ),
            upstream_duration: declare.histogram(
                "upstream_duration_seconds",
                "From a request's start to the head of the app's response",
                LATENCY_BUCKETS,
            ),
            connections: declare.int_gauge("connections", "Open client connections"),
            connections_refused: declare.counter(
                "connections_refused_total",
                "Client connections closed at once because limits.max_connections was reached",
            ),
            requests_refused: declare.counters(
                "requests_refused_total",
                "Requests answered by the sidecar itself because they broke a limit or a rule, by reason",
                &["reason"],
            ),
            page_views_counted: declare.counter(
                "page_views_counted_total",
                "Page views with a known visitor, handed to presence and writer",
            ),
            page_views_not_counted: declare.counters(
                "page_views_not_counted_total",
                "Exchanges that are not page views, by reason",
                &["reason"],
            ),
            recorder_queue_views: declare.gauges(
                "recorder_queue_views",
                "Page views waiting, by queue",
                &["queue"],
            ),
            recorder_queue_bytes: declare.gauge(
                "recorder_queue_bytes",
                "Bytes of the page views waiting for the database",
            ),
            recorder_dropped: declare.counters(
                "recorder_dropped_total",
                "Accepted page views that were given up, by reason",
                &["reason"],
            ),
            session_lookups: declare.counters(
                "session_lookups_total",
                "Session tokens identified, by outcome",
                &["outcome"],
            ),
            presence_touches: declare.counter("presence_touches_total", "Touches sent to the presence store"),
            presence_touches_coalesced: declare.counter(
                "presence_touches_coalesced_total",
                "Touches left out because the same user was touched in the same community a moment ago",
            ),
            presence_touch_failures: declare.counter(
                "presence_touch_failures_total",
                "Touches that the presence store did not take",
            ),
            presence_sweep_lag: declare.gauge(
                "presence_sweep_lag_seconds",
                "How late the last sweep noticed the user it was latest to notice",
            ),
            redis_errors: declare.counter("redis_errors_total", "Failed Redis commands"),
            redis_up: declare.int_gauge(
                "redis_up",
                "1 while Redis answers, 0 while it does not, -1 where presence is in memory",
            ),
            database_up: declare.int_gauge(
                "database_up",
                "1 while the app's database answers, 0 while it does not",
            ),
            batch_rows: declare.histogram(
                "batch_rows",
                "Page views per applied batch",
                &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0],
            ),
            apply_duration: declare.histogram(
                "apply_duration_seconds",
                "Time of the transaction that applies a batch",
                LATENCY_BUCKETS,
            ),
            apply_retries: declare.counters(
                "apply_retries_total",
                "Batches tried again, by class of error",
                &["class"],
            ),
            last_apply: declare.gauge(
                "last_apply_timestamp_seconds",
                "When a batch was last applied, Unix time; 0 before the first",
            ),
            applied_views: declare.counter("applied_views_total", "Page views that reached the app's tables"),
            api_requests: declare.counters(
                "api_requests_total",
                "Requests to the visitors API, by operation and status class",
                &["operation", "status"],
            ),
            live_connections: declare.int_gauges(
                "live_connections",
                "Open live connections, by kind",
                &["kind"],
            ),
            live_closed: declare.counters(
                "live_closed_total",
                "Live connections that have ended, by reason",
                &["reason"],
            ),
            live_refused: declare.counters(
                "live_refused_total",
                "Live connections that were refused, by reason",
                &["reason"],
            ),
            live_messages: declare.counters(
                "live_messages_total",
                "Counts sent over live connections, by kind",
                &["kind"],
            ),
            live_values_skipped: declare.counter(
                "live_values_skipped_total",
                "Counts that a slow live connection did not get because a later one took their place",
            ),
            live_heartbeats: declare.counter(
                "live_heartbeats_total",
                "Touches made because somebody's live connection is open",
            ),
            live_subscription_up: declare.int_gauge(
                "live_subscription_up",
                "1 while changes in Redis are heard, 0 while they are not, -1 where presence is in memory",
            ),
            live_resyncs: declare.counters(
                "live_resyncs_total",
                "Times that all counts listened to were read anew, by reason",
                &["reason"],
            ),
            beacons: declare.counters(
                "beacons_total",
                "Page views reported by pages, by outcome",
                &["outcome"],
            ),
            config_reloads: declare.counters(
                "config_reloads_total",
                "Reloads of the route files, by outcome",
                &["outcome"],
            ),
            last_reload_success: declare.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the route files were last loaded without error, Unix time",
            ),
            last_reload_ok: declare.int_gauge(
                "config_last_reload_successful",
                "1 if the route files were in order when they were last read, else 0",
            ),
            routes: declare.int_gauge("routes", "Routes in use"),
            registry: declare.0,
        };
        metrics.initialise();
        metrics
    }

    /// Sets every label value that is known beforehand to zero, so that rates and alerts have a start.
    fn initialise(&self) {
        for reason in NotCounted::ALL {
            self.page_views_not_counted.with_label_values(&[reason.label()]);
        }
        for reason in Dropped::ALL {
            self.recorder_dropped.with_label_values(&[reason.label()]);
        }
        for outcome in ["cached", "found", "nobody", "malformed", "unavailable"] {
            self.session_lookups.with_label_values(&[outcome]);
        }
        for route in ["none", "visitors_api", "refused"] {
            for status in ["2xx", "3xx", "4xx", "5xx"] {
                self.requests.with_label_values(&[route, status]);
            }
        }
        for queue in ["recorder", "presence", "writer"] {
            self.recorder_queue_views.with_label_values(&[queue]);
        }
        for class in ["connection", "contention", "read_only", "resources", "other"] {
            self.apply_retries.with_label_values(&[class]);
        }
        for kind in live::KINDS {
            self.live_connections.with_label_values(&[kind]);
            self.live_messages.with_label_values(&[kind]);
        }
        for reason in live::ENDS {
            self.live_closed.with_label_values(&[reason]);
        }
        for reason in api::live::REFUSALS {
            self.live_refused.with_label_values(&[reason]);
        }
        for reason in live::RESYNCS {
            self.live_resyncs.with_label_values(&[reason]);
        }
        for outcome in api::visits::OUTCOMES {
            self.beacons.with_label_values(&[outcome]);
        }
        for outcome in ["success", "failure"] {
            self.config_reloads.with_label_values(&[outcome]);
        }
        for reason in ["host", "header_size", "body_size", "path"] {
            self.requests_refused.with_label_values(&[reason]);
        }
        let build = GaugeVec::new(
            Opts::new("headcount_build_info", "Always 1; the labels tell the version"),
            &["version"],
        )
        .expect("a valid metric");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        self.registry.register(Box::new(build)).expect("a new metric");
    }

    /// Counts an accepted page view that is given up.
    pub fn dropped(&self, reason: Dropped) {
        self.recorder_dropped.with_label_values(&[reason.label()]).inc();
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes and registers metrics with the common prefix.
struct Declare(Registry);

impl Declare {
    fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("a valid metric");
        self.0.register(Box::new(metric.clone())).expect("a new metric");
        metric
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("headcount_{name}"), help)
    }

    fn counter(&self, name: &str, help: &str) -> Counter {
        self.add(Counter::with_opts(Self::opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add(CounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(Self::opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(opts))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::from(Self::opts(name, help)).buckets(LATENCY_BUCKETS.to_vec());
        self.add(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_metric_with_its_help() {
        let readme = include_str!("../README.md");
        for line in Metrics::new().render().lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
                let row = readme
                    .lines()
                    .find(|row| row.starts_with(&format!("| `{name}` |")));
                assert!(
                    row.is_some_and(|row| row.contains(help)),
                    "README.md lacks `{name}`: {help}"
                );
            }
        }
    }

    #[test]
    fn no_label_names_a_user_a_path_or_a_community() {
        let allowed = [
            "route",
            "status",
            "reason",
            "queue",
            "outcome",
            "class",
            "operation",
            "kind",
            "version",
            "le",
        ];
        for family in Metrics::new().registry.gather() {
            for label in family
                .get_metric()
                .iter()
                .flat_map(prometheus::proto::Metric::get_label)
            {
                assert!(
                    allowed.contains(&label.name()),
                    "{}: {}",
                    family.name(),
                    label.name()
                );
            }
        }
    }
}
