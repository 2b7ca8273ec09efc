//! Metrics of the proxy: connections, requests, refusals.

use std::time::Duration;

use prometheus::core::{AtomicU64, GenericCounterVec};
use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec};

use super::failure::UpstreamFailure;
use super::limits::Refusal;
use crate::metrics::{
    Counter, Counters, Durations, Histogram, IntGauge, LATENCY_BUCKETS, LabelValue as _, Metric, Opts,
    Registry, StatusClass, label_values, metrics,
};
use crate::routes::{Route, RouteHandles};
use crate::widget::Outcome;

metrics! {
    /// Metrics of the proxy.
    pub struct Metrics {
        /// Requests answered, by route and status class
        requests: Requests = "requests_total",
        /// From a request's start to the end of its response
        request_duration: RequestDurations = "request_duration_seconds",
        /// From a request's start to the head of the app's response
        upstream_duration: Durations = "upstream_duration_seconds",
        /// 1 while a server of the app answers, 0 while it does not or has not been tried, by server
        upstream_up: ServerGauges = "upstream_up",
        /// Requests that the app did not answer, or not to the end, by reason
        upstream_failures: Counters<UpstreamFailure> = "upstream_failures_total",
        /// Open client connections
        connections: IntGauge = "connections",
        /// Client connections closed at once because limits.max_connections was reached
        connections_refused: Counter = "connections_refused_total",
        /// Requests answered by the sidecar itself because they broke a limit or a rule, by reason
        requests_refused: Counters<Refusal> = "requests_refused_total",
        /// Pages of communities that could get the widget, by outcome
        widget_pages: Counters<Outcome> = "widget_pages_total",
    }
}

label_values! {
    /// Values of the label `route` besides the names of the configured routes.
    pub(super) enum NoRoute as "route" {
        /// No route matches.
        Unmatched => "none",
        /// The visitors API.
        Api => "visitors_api",
        /// The sidecar refused the request.
        Refused => "refused",
    }
}

/// The class of requests that get no answer.
const NO_STATUS: &str = "none";

/// Requests by route, of which there are as many as are configured, and status class.
#[derive(Debug)]
pub struct Requests(
    GenericCounterVec<AtomicU64>,
    /// Those of [`NoRoute`].
    [RouteHandles; NoRoute::ALL.len()],
);

impl Metric for Requests {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let labels = [NoRoute::LABEL, StatusClass::LABEL];
        let requests = Self(
            registry.add(GenericCounterVec::new(opts, &labels)),
            Default::default(),
        );
        for route in NoRoute::ALL {
            for status in [200, 300, 400, 500] {
                requests.of(route.label(), status);
            }
        }
        requests
    }
}

impl Requests {
    /// The counter of a route's requests with such a status; 0 is none.
    pub(super) fn of(&self, route: &str, status: u16) -> Counter {
        let class = StatusClass::of(status).map_or(NO_STATUS, StatusClass::label);
        self.0.with_label_values(&[route, class])
    }
}

impl Metrics {
    /// Counts a request that has ended with such a status; 0 is none. `duration` is that of an exchange, not of a tunnel.
    pub(super) fn ended(&self, label: &RouteLabel<'_>, status: u16, duration: Option<Duration>) {
        let handles = label.handles(self);
        let class = StatusClass::of(status).map_or(StatusClass::COUNT, StatusClass::index);
        // There is a handle for each class.
        if let Some(counter) = handles.requests.get(class) {
            counter
                .get_or_init(|| self.requests.of(label.text(), status))
                .inc();
        }
        if let Some(duration) = duration {
            let histogram = || self.request_duration.of(label.text());
            let histogram = handles.duration.get_or_init(histogram);
            histogram.observe(duration.as_secs_f64());
        }
    }
}

/// Value of the label `route`: bounded by the number of routes.
pub(super) enum RouteLabel<'a> {
    /// The matched route.
    Route(&'a Route),
    /// None, or not the route's.
    None(NoRoute),
}

impl RouteLabel<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Route(route) => &route.name,
            Self::None(no_route) => no_route.label(),
        }
    }

    fn handles<'a>(&'a self, metrics: &'a Metrics) -> &'a RouteHandles {
        match self {
            Self::Route(route) => &route.handles,
            Self::None(no_route) => &metrics.requests.1[no_route.index()],
        }
    }
}

/// Gauges by server, of which there are as many as are configured.
#[derive(Debug, Clone)]
pub struct ServerGauges(IntGaugeVec);

impl Metric for ServerGauges {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        Self(registry.add(IntGaugeVec::new(opts, &["server"])))
    }
}

impl ServerGauges {
    /// Sets a server's.
    pub(super) fn set(&self, server: &str, is_up: bool) {
        self.0.with_label_values(&[server]).set(is_up.into());
    }
}

/// Durations by route.
#[derive(Debug)]
pub struct RequestDurations(HistogramVec);

impl Metric for RequestDurations {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let opts = HistogramOpts::from(opts).buckets(LATENCY_BUCKETS.to_vec());
        Self(registry.add(HistogramVec::new(opts, &[NoRoute::LABEL])))
    }
}

impl RequestDurations {
    /// The histogram of a route's requests.
    fn of(&self, route: &str) -> Histogram {
        self.0.with_label_values(&[route])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::{RouteFile, RouteTable};

    fn table() -> RouteTable {
        let text = "[[route]]\nname = \"page\"\npattern = '^/page/$'\n".to_owned();
        let path = "pages.toml".into();
        RouteTable::compile(&[RouteFile { path, text }]).expect("a route")
    }

    #[test]
    fn v52_a_route_of_a_later_table_goes_on_with_the_metrics_of_its_name() {
        let metrics = Metrics::default();
        let of = |route: &str, status: u16| metrics.requests.of(route, status).get();
        for (times, table) in (1..).zip([table(), table()]) {
            let found = table.find("/page/").expect("a match");
            let label = RouteLabel::Route(&found.route);
            metrics.ended(&label, 200, Some(Duration::from_millis(2)));
            metrics.ended(&label, 204, None);
            metrics.ended(&label, 0, None);
            assert_eq!((of("page", 200), of("page", 0)), (2 * times, times));
            assert_eq!(metrics.request_duration.of("page").get_sample_count(), times);
        }
        assert_eq!(of("page", 404), 0);
    }

    #[test]
    fn v52_requests_without_a_route_count_by_the_reason() {
        let metrics = Metrics::default();
        let of = |reason: NoRoute, status: u16| metrics.requests.of(reason.label(), status).get();
        metrics.ended(&RouteLabel::None(NoRoute::Refused), 400, None);
        metrics.ended(&RouteLabel::None(NoRoute::Api), 503, None);
        assert_eq!(of(NoRoute::Refused, 400), 1);
        assert_eq!(of(NoRoute::Api, 503), 1);
        assert_eq!(of(NoRoute::Unmatched, 200), 0);
    }
}
