//! The metrics, declared once: an interface that operators build alerts on.
//!
//! Own registry, prefix `headcount_`, base units, counters end in `_total`. Labels are bounded: never a
//! user, a path or a community. Every label value known beforehand starts at zero.

use arc_swap::ArcSwapOption;
use prometheus::core::{AtomicU64, Collector, GenericCounter, GenericCounterVec};
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::page_view::NotCounted;
use crate::widget::Outcome;
use crate::{api, live, telemetry};

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
    pub session_evictions: CounterVec,
    pub session_listener_up: IntGauge,
    pub session_listener_reconnects: Counter,
    pub presence_touches: Counter,
    pub presence_touches_coalesced: Counter,
    pub presence_touch_failures: Counter,
    pub presence_retouches: Counter,
    pub presence_remembered: Gauge,
    pub presence_stale_answers: Counter,
    pub presence_sweep_lag: Gauge,
    pub redis_errors: Counter,
    pub redis_up: IntGauge,
    pub redis_partitions_down: IntGauge,
    /// 1 while sidecars on the same keys of Redis use different settings.
    pub presence_settings_differ: IntGauge,
    /// The differences, a sentence each.
    pub presence_differences: ArcSwapOption<Vec<String>>,
    /// 1 while sweeps of presence succeed.
    pub presence_up: IntGauge,
    pub database_up: IntGauge,
    pub batch_rows: Histogram,
    pub apply_duration: Histogram,
    pub apply_retries: CounterVec,
    pub known_parts: Counter,
    pub lost_parts: Counter,
    pub last_apply: Gauge,
    pub applied_views: Counter,
    pub spool_views: Gauge,
    pub spool_bytes: Gauge,
    pub spool_kept_bytes: Gauge,
    pub spool_limit_bytes: Gauge,
    pub spool_oldest_age: Gauge,
    pub spool_up: IntGauge,
    pub spool_append_duration: Histogram,
    pub spools_adopted: Counter,
    pub dead_letters: Gauge,
    pub dead_letters_made: Counter,
    pub ledger_ok: IntGauge,
    /// The database's error, without values of rows, while it refuses every page view.
    pub writes_refused: ArcSwapOption<String>,
    pub api_requests: CounterVec,
    pub live_connections: IntGaugeVec,
    pub live_closed: CounterVec,
    pub live_refused: CounterVec,
    pub live_messages: CounterVec,
    pub live_values_skipped: Counter,
    pub live_heartbeats: Counter,
    /// Seconds that the latest session check of a live connection was queued.
    pub live_check_delay: Gauge,
    pub live_subscription_up: IntGauge,
    pub live_resyncs: CounterVec,
    pub beacons: CounterVec,
    pub widget_pages: CounterVec,
    pub config_reloads: CounterVec,
    pub last_reload_success: Gauge,
    pub last_reload_ok: IntGauge,
    pub certificates_ok: IntGauge,
    pub certificate_expires: GaugeVec,
    pub routes: IntGauge,
    pub task_failures: CounterVec,
}

/// Why an accepted page view was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The recorder's own queue was full.
    RecorderQueueFull,
    /// No session was ever found for the view's token, and too many such views wait.
    UnknownToken,
    /// The presence queue was full.
    PresenceQueueFull,
    /// The writer's queue was full, by count or by bytes.
    WriterQueueFull,
    /// The token could not be looked up, and the view cannot wait in the spool: nothing is written, or the
    /// spool's part for such views is full.
    SessionUnavailable,
    /// The same for the community's slug.
    CommunityUnavailable,
    /// It could not be determined whether the visitor may see the community of a reported view.
    AccessUnavailable,
    /// The spool has reached its limit.
    SpoolFull,
    /// The spool could not be written, and memory is full.
    SpoolUnavailable,
    /// The spool's bytes turned out to be damaged.
    SpoolDamaged,
    /// The database refused the row for good, and there is no room for another dead letter.
    Refused,
    /// Shutdown ended before the view was in the spool.
    Shutdown,
    /// A task panicked while it handled the view.
    TaskFailed,
}

impl Dropped {
    const ALL: [Self; 13] = [
        Self::RecorderQueueFull,
        Self::UnknownToken,
        Self::PresenceQueueFull,
        Self::WriterQueueFull,
        Self::SessionUnavailable,
        Self::CommunityUnavailable,
        Self::AccessUnavailable,
        Self::SpoolFull,
        Self::SpoolUnavailable,
        Self::SpoolDamaged,
        Self::Refused,
        Self::Shutdown,
        Self::TaskFailed,
    ];

    /// The label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::RecorderQueueFull => "recorder_queue_full",
            Self::UnknownToken => "unknown_token",
            Self::PresenceQueueFull => "presence_queue_full",
            Self::WriterQueueFull => "writer_queue_full",
            Self::SessionUnavailable => "session_unavailable",
            Self::CommunityUnavailable => "community_unavailable",
            Self::AccessUnavailable => "access_unavailable",
            Self::SpoolFull => "spool_full",
            Self::SpoolUnavailable => "spool_unavailable",
            Self::SpoolDamaged => "spool_damaged",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::TaskFailed => "task_failed",
        }
    }
}

/// Why cached sessions are discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evicted {
    /// The database notified of a change of one session.
    Changed,
    /// The database notified that all may have changed.
    AllChanged,
    /// The listener has connected: changes before that may have been missed.
    Gap,
    /// More sessions changed than are tracked one by one.
    Overflow,
    /// A token that had no session may have one now.
    Appeared,
}

impl Evicted {
    const ALL: [Self; 5] = [
        Self::Changed,
        Self::AllChanged,
        Self::Gap,
        Self::Overflow,
        Self::Appeared,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::AllChanged => "all_changed",
            Self::Gap => "gap",
            Self::Overflow => "overflow",
            Self::Appeared => "appeared",
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
                "Page views waiting in memory, by queue",
                &["queue"],
            ),
            recorder_queue_bytes: declare.gauge(
                "recorder_queue_bytes",
                "Bytes of the page views waiting in memory",
            ),
            recorder_dropped: declare.counters(
                "recorder_dropped_total",
                "Accepted page views that were dropped, by reason",
                &["reason"],
            ),
            session_lookups: declare.counters(
                "session_lookups_total",
                "Session tokens identified, by outcome",
                &["outcome"],
            ),
            session_evictions: declare.counters(
                "session_evictions_total",
                "Times that cached sessions were discarded before their time in the cache was over, by reason",
                &["reason"],
            ),
            session_listener_up: declare.int_gauge(
                "session_listener_up",
                "1 while the database notifies of changes of sessions, 0 while it does not, -1 where that is off",
            ),
            session_listener_reconnects: declare.counter(
                "session_listener_reconnects_total",
                "Reconnects of the session-change listener",
            ),
            presence_touches: declare.counter("presence_touches_total", "Touches sent to the presence store"),
            presence_touches_coalesced: declare.counter(
                "presence_touches_coalesced_total",
                "Touches skipped because the same user was touched in the same community a moment ago",
            ),
            presence_touch_failures: declare.counter(
                "presence_touch_failures_total",
                "Touches that failed at the presence store",
            ),
            presence_retouches: declare.counter(
                "presence_retouches_total",
                "Touches made again because Redis may have lost them or had failed to take them",
            ),
            presence_remembered: declare.gauge(
                "presence_remembered_members",
                "Users that this sidecar remembers in front of Redis, counted once per community; at most 100000",
            ),
            presence_stale_answers: declare.counter(
                "presence_stale_answers_total",
                "Presence reads answered from this sidecar's own memory, because Redis could not answer",
            ),
            presence_sweep_lag: declare.gauge(
                "presence_sweep_lag_seconds",
                "Longest delay with which the last sweep noticed that a user had left",
            ),
            redis_errors: declare.counter("redis_errors_total", "Failed Redis commands"),
            presence_up: declare.int_gauge(
                "presence_up",
                "1 while sweeps of presence succeed, 0 after three in a row that failed: Redis is away, or refuses the \
                 commands",
            ),
            presence_settings_differ: declare.int_gauge(
                "presence_settings_differ",
                "1 while another sidecar on the same redis.key_prefix has another record.window, redis.partitions, or key format",
            ),
            presence_differences: ArcSwapOption::empty(),
            redis_partitions_down: declare.int_gauge(
                "redis_partitions_down",
                "Partitions whose Redis server does not answer; with several servers some may be away",
            ),
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
            known_parts: declare.counter(
                "known_parts_total",
                "Parts of batches found to be applied already: the answer to their COMMIT was lost, or the process \
                 ended soon after it",
            ),
            lost_parts: declare.counter(
                "lost_parts_total",
                "Parts of batches that the database acknowledged and then lost; they are written again",
            ),
            last_apply: declare.gauge(
                "last_apply_timestamp_seconds",
                "When a batch was last applied, Unix time; 0 before the first",
            ),
            applied_views: declare.counter("applied_views_total", "Page views that reached the app's tables"),
            spool_views: declare.gauge("spool_views", "Page views on disk, waiting for the database"),
            spool_bytes: declare.gauge("spool_bytes", "Bytes of page views on disk, dead letters included"),
            spool_kept_bytes: declare.gauge(
                "spool_kept_bytes",
                "Bytes of page views on disk that the database has acknowledged, kept in case it loses them",
            ),
            spool_limit_bytes: declare.gauge("spool_limit_bytes", "Limit of spool_bytes: spool.max_bytes"),
            spool_oldest_age: declare.gauge(
                "spool_oldest_age_seconds",
                "Age of the oldest page view that waits on disk; 0 while none does",
            ),
            spool_up: declare.int_gauge(
                "spool_up",
                "1 while the spool can be written, 0 while it cannot, -1 where nothing is written",
            ),
            spool_append_duration: declare.histogram(
                "spool_append_duration_seconds",
                "Time of one synced commit to the spool",
                LATENCY_BUCKETS,
            ),
            spools_adopted: declare.counter(
                "spools_adopted_total",
                "Spools adopted from processes that were gone",
            ),
            dead_letters: declare.gauge("dead_letters", "Page views that the database refused, kept on disk"),
            dead_letters_made: declare.counter(
                "dead_letters_made_total",
                "Page views that the database refused and that were kept",
            ),
            writes_refused: ArcSwapOption::empty(),
            ledger_ok: declare.int_gauge(
                "ledger_ok",
                "1 unless the ledger of applied batches was found missing, newer or forbidden",
            ),
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
                "Counts not sent over a slow live connection because a later one replaced them",
            ),
            live_heartbeats: declare.counter(
                "live_heartbeats_total",
                "Touches made by open live connections",
            ),
            live_check_delay: declare.gauge(
                "live_check_delay_seconds",
                "Time that the latest session check of a live connection was queued; sign-outs are noticed that \
                 much later",
            ),
            live_subscription_up: declare.int_gauge(
                "live_subscription_up",
                "1 while the subscription to changes in Redis is up, 0 while it is not, -1 where presence is in memory",
            ),
            live_resyncs: declare.counters(
                "live_resyncs_total",
                "Times that all subscribed counts were read again, by reason",
                &["reason"],
            ),
            beacons: declare.counters(
                "beacons_total",
                "Page views reported by pages, by outcome",
                &["outcome"],
            ),
            widget_pages: declare.counters(
                "widget_pages_total",
                "Pages of communities that could get the widget, by outcome",
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
                "1 if the route files were valid when they were last read, else 0",
            ),
            certificates_ok: declare.int_gauge(
                "certificates_last_reload_successful",
                "1 if the listeners' certificates were valid when they were last read, else 0",
            ),
            certificate_expires: declare.gauges(
                "certificate_expires_seconds",
                "When the certificate of a TLS listener expires, Unix time, by address",
                &["listener"],
            ),
            routes: declare.int_gauge("routes", "Routes in use"),
            task_failures: declare.counters(
                "task_failures_total",
                "Times that a long-running task ended or panicked, by task",
                &["task"],
            ),
            registry: declare.0,
        };
        metrics.initialise();
        metrics
    }

    /// Sets every label value that is known in advance to zero, so that rates and alerts have a start.
    fn initialise(&self) {
        let counts = telemetry::counts();
        for counter in [&counts.lines_lost, &counts.panics] {
            let counter = Box::new(counter.clone());
            self.registry.register(counter).expect("a new metric");
        }
        for reason in NotCounted::ALL {
            self.page_views_not_counted.with_label_values(&[reason.label()]);
        }
        for reason in Dropped::ALL {
            self.recorder_dropped.with_label_values(&[reason.label()]);
        }
        for reason in Evicted::ALL {
            self.session_evictions.with_label_values(&[reason.label()]);
        }
        self.session_listener_up.set(-1);
        for outcome in [
            "cached",
            "found",
            "nobody",
            "malformed",
            "unavailable",
            "remembered",
        ] {
            self.session_lookups.with_label_values(&[outcome]);
        }
        for route in ["none", "visitors_api", "refused"] {
            for status in ["2xx", "3xx", "4xx", "5xx"] {
                self.requests.with_label_values(&[route, status]);
            }
        }
        self.spool_up.set(-1);
        self.ledger_ok.set(1);
        self.certificates_ok.set(1);
        self.presence_up.set(1);
        for queue in ["recorder", "lookups", "presence", "writer"] {
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
        for outcome in Outcome::ALL {
            self.widget_pages.with_label_values(&[outcome.label()]);
        }
        for outcome in ["success", "failure"] {
            self.config_reloads.with_label_values(&[outcome]);
        }
        for reason in [
            "host",
            "header_size",
            "header_count",
            "header_timeout",
            "body_size",
            "path",
            "method",
            "loop",
            "malformed",
        ] {
            self.requests_refused.with_label_values(&[reason]);
        }
        let build = GaugeVec::new(
            Opts::new("headcount_build_info", "Always 1; the version is a label"),
            &["version"],
        )
        .expect("a valid metric");
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        self.registry.register(Box::new(build)).expect("a new metric");
    }

    /// Counts an exchange that is not a page view.
    pub fn not_counted(&self, reason: NotCounted) {
        self.page_views_not_counted
            .with_label_values(&[reason.label()])
            .inc();
    }

    /// Counts an accepted page view that is dropped.
    pub fn dropped(&self, reason: Dropped) {
        self.recorder_dropped.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a discard of cached sessions.
    pub fn sessions_evicted(&self, reason: Evicted) {
        self.session_evictions.with_label_values(&[reason.label()]).inc();
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

/// The values of a counter or gauge with one label, by the label's value.
pub(crate) fn by_label(metric: &impl Collector) -> Vec<(String, f64)> {
    let families = metric.collect();
    let metrics = families.iter().flat_map(|family| {
        let is_counter = family.get_field_type() == MetricType::COUNTER;
        family.get_metric().iter().map(move |metric| {
            let label = metric.get_label().first().map(|label| label.value().to_owned());
            let value = if is_counter {
                metric.get_counter().get_value()
            } else {
                metric.get_gauge().get_value()
            };
            (label.unwrap_or_default(), value)
        })
    });
    metrics.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_every_metric_with_its_help() {
        let manual = include_str!("../deploy/README.md");
        for line in Metrics::new().render().lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
                let row = manual
                    .lines()
                    .find(|row| row.starts_with(&format!("| `{name}` |")));
                assert!(
                    row.is_some_and(|row| row.contains(help)),
                    "deploy/README.md lacks `{name}`: {help}"
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
            "task",
            // As many as are configured.
            "listener",
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
