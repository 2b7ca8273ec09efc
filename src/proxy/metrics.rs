//! Metrics of the proxy: connections, requests, refusals.

use std::time::Duration;

use prometheus::core::{AtomicU64, GenericCounterVec};
use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec};

use super::failure::UpstreamFailure;
use super::limits::Refusal;
use crate::metrics::{
    Counter, Counters, Durations, IntGauge, LATENCY_BUCKETS, LabelValue as _, Metric, Opts, Registry,
    StatusClass, label_values, metrics,
};
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
pub struct Requests(GenericCounterVec<AtomicU64>);

impl Metric for Requests {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let requests = Self(registry.add(GenericCounterVec::new(
            opts,
            &[NoRoute::LABEL, StatusClass::LABEL],
        )));
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
    /// Adds a duration.
    pub(super) fn observe(&self, route: &str, duration: Duration) {
        self.0.with_label_values(&[route]).observe(duration.as_secs_f64());
    }
}
