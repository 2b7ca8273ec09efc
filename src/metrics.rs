//! Metrics toolkit: each module declares its metrics with `metrics!` in its own `metrics.rs`, and the values of their
//! labels as enums with `label_values!`. Imports no other module.
//!
//! An interface that operators build alerts on: own registry, prefix `headcount_`, base units, counters end in
//! `_total`. Labels are bounded: never a user, a path or a community. Every label value known beforehand starts at zero.

use std::marker::PhantomData;
use std::ops::Index;
use std::time::Duration;

use prometheus::core::{AtomicU64, Collector, GenericCounter};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, TextEncoder};

pub use prometheus::{Gauge, Histogram, IntGauge, Opts};

/// A counter of whole things.
pub type Counter = GenericCounter<AtomicU64>;
/// A counter for each value of a label.
pub type Counters<L> = Family<Counter, L>;
/// A gauge for each value of a label.
pub type Gauges<L> = Family<Gauge, L>;

/// Upper bounds, in seconds, of the latency histograms.
pub(crate) const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Upper bounds of the histograms of sizes.
const SIZE_BUCKETS: &[f64] = &[
    1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0, 25_000.0,
];

/// A registry of metrics. A handle.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    registered: prometheus::Registry,
    /// Name and help text of all metrics, also of those that have no series yet.
    #[cfg(test)]
    declared: std::sync::Arc<std::sync::Mutex<Vec<(String, String)>>>,
}

impl Registry {
    /// Declares a metric. The name is without the common prefix; the help text may have several lines.
    ///
    /// # Panics
    /// If two metrics have one name: a mistake in the source, which any test finds.
    pub fn declare<M: Metric>(&self, name: &str, help: &[&str]) -> M {
        let help: Vec<_> = help.iter().map(|line| line.trim()).collect();
        M::declare(self, Opts::new(format!("headcount_{name}"), help.join(" ")))
    }

    /// Adds a metric that was made elsewhere.
    ///
    /// # Panics
    /// As [`Registry::declare`].
    pub fn add<C: Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("a valid metric");
        #[cfg(test)]
        self.declared.lock().expect("no test has failed").extend(
            metric
                .desc()
                .iter()
                .map(|desc| (desc.fq_name.clone(), desc.help.clone())),
        );
        self.registered
            .register(Box::new(metric.clone()))
            .expect("a new metric");
        metric
    }

    /// Name and help text of all metrics, also of those that have no series yet.
    #[cfg(test)]
    pub(crate) fn declared(&self) -> Vec<(String, String)> {
        self.declared.lock().expect("no test has failed").clone()
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.gather())
            .unwrap_or_default()
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registered.gather()
    }
}

/// A kind of metric.
pub trait Metric {
    /// Makes one with this name, help text and labels, and adds it to the registry.
    fn declare(registry: &Registry, opts: Opts) -> Self;
}

impl Metric for Counter {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        registry.add(Self::with_opts(opts))
    }
}

impl Metric for Gauge {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        registry.add(Self::with_opts(opts))
    }
}

impl Metric for IntGauge {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        registry.add(Self::with_opts(opts))
    }
}

/// A histogram of durations.
#[derive(Debug, Clone)]
pub struct Durations(Histogram);

impl Durations {
    /// Adds a duration.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

impl Metric for Durations {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let opts = HistogramOpts::from(opts).buckets(LATENCY_BUCKETS.to_vec());
        Self(registry.add(Histogram::with_opts(opts)))
    }
}

/// A histogram of sizes.
#[derive(Debug, Clone)]
pub struct Sizes(Histogram);

impl Sizes {
    /// Adds a size.
    #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
    pub fn observe(&self, size: usize) {
        self.0.observe(size as f64);
    }
}

impl Metric for Sizes {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let opts = HistogramOpts::from(opts).buckets(SIZE_BUCKETS.to_vec());
        Self(registry.add(Histogram::with_opts(opts)))
    }
}

/// The values of a label: an enum, declared with `label_values!`.
pub trait LabelValue: Copy + 'static {
    /// Name of the label.
    const LABEL: &'static str;
    /// Every value.
    const ALL: &'static [Self];

    /// The value as text.
    fn label(self) -> &'static str;

    /// Its index in [`LabelValue::ALL`].
    fn index(self) -> usize;
}

/// A metric for each value of a label, all from zero on; `family[value]` is the metric of one.
#[derive(Debug)]
pub struct Family<M, L>(Box<[M]>, PhantomData<L>);

impl<M: Metric, L: LabelValue> Metric for Family<M, L> {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        let member = |value: &L| M::declare(registry, opts.clone().const_label(L::LABEL, value.label()));
        Self(L::ALL.iter().map(member).collect(), PhantomData)
    }
}

impl<M, L: LabelValue> Index<L> for Family<M, L> {
    type Output = M;

    fn index(&self, value: L) -> &M {
        &self.0[value.index()]
    }
}

impl<M, L: LabelValue> Family<M, L> {
    /// Each label value as text, with its metric.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &M)> {
        L::ALL.iter().map(|value| value.label()).zip(&self.0)
    }

    /// The metric of a label value that is given as text.
    #[cfg(test)]
    pub(crate) fn of(&self, label: &str) -> &M {
        let mut members = self.iter();
        members.find(|(one, _)| *one == label).expect("a label value").1
    }
}

/// Declares the enum of a label's values, with their texts:
/// `pub enum Name as "label" { /// About it. Value => "text", … }`.
macro_rules! label_values {
    (
        $(#[$about:meta])*
        $vis:vis enum $name:ident as $label:literal {
            $($(#[$about_value:meta])* $value:ident => $text:literal),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$about_value])* $value),+
        }

        impl $crate::metrics::LabelValue for $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn label(self) -> &'static str {
                match self {
                    $(Self::$value => $text),+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use label_values;

label_values! {
    /// Class of an answer's status.
    pub enum StatusClass as "status" {
        /// 100 to 199.
        Informational => "1xx",
        /// 200 to 299.
        Success => "2xx",
        /// 300 to 399.
        Redirection => "3xx",
        /// 400 to 499.
        ClientError => "4xx",
        /// 500 to 599.
        ServerError => "5xx",
    }
}

impl StatusClass {
    /// Number of classes.
    pub const COUNT: usize = Self::ALL.len();

    /// The class of a status; `None` for what is not one of HTTP's.
    pub fn of(status: u16) -> Option<Self> {
        let class = usize::from(status / 100).checked_sub(1)?;
        Self::ALL.get(class).copied()
    }
}

/// Declares a module's metrics: `pub struct Name { /// The help text. field: Type = "name_without_prefix", … }`. What is
/// in parentheses is no metric, and given to `new`.
macro_rules! metrics {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident $(($($(#[$about_given:meta])* $given:ident: $given_type:ty),+ $(,)?))? {
            $($(#[doc = $help:literal])+ $field:ident: $type:ty = $metric:literal),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug)]
        $vis struct $name {
            $($($(#[$about_given])* $vis $given: $given_type,)+)?
            $(
                $(#[doc = $help])+
                #[allow(clippy::doc_markdown, reason = "Prometheus' help texts are not markdown")]
                $vis $field: $type,
            )+
        }

        impl $name {
            /// Declares them in a registry.
            $vis fn new(registry: &$crate::metrics::Registry $($(, $given: $given_type)+)?) -> Self {
                Self {
                    $($($given,)+)?
                    $($field: registry.declare($metric, &[$($help),+]),)+
                }
            }
        }

        /// In a registry of their own.
        impl Default for $name {
            fn default() -> Self {
                Self::new(&$crate::metrics::Registry::default() $($(, <$given_type>::default())+)?)
            }
        }
    };
}
pub(crate) use metrics;

#[cfg(test)]
mod tests {
    use super::*;

    label_values! {
        pub(super) enum Colour as "colour" {
            Red => "red",
            Green => "green",
        }
    }

    metrics! {
        /// Metrics of a box.
        pub(super) struct Metrics(
            /// Not a metric.
            name: String,
        ) {
            /// Balls in the box,
            /// by colour
            balls: Counters<Colour> = "balls_total",
            /// 1 while it is open
            open: IntGauge = "box_open",
        }
    }

    #[test]
    fn metrics_start_at_zero_with_every_label() {
        let registry = Registry::default();
        let metrics = Metrics::new(&registry, "box".to_owned());
        assert_eq!(metrics.name, "box");
        metrics.balls[Colour::Green].inc_by(2);
        metrics.open.set(1);
        assert_eq!(
            registry.render(),
            "# HELP headcount_balls_total Balls in the box, by colour\n\
             # TYPE headcount_balls_total counter\n\
             headcount_balls_total{colour=\"green\"} 2\n\
             headcount_balls_total{colour=\"red\"} 0\n\
             # HELP headcount_box_open 1 while it is open\n\
             # TYPE headcount_box_open gauge\n\
             headcount_box_open 1\n"
        );
    }

    #[test]
    fn only_statuses_of_http_have_a_class() {
        let label = |status| StatusClass::of(status).map(StatusClass::label);
        assert_eq!([0, 99, 600].map(label), [None; 3]);
        assert_eq!(
            [101, 200, 599].map(label),
            [Some("1xx"), Some("2xx"), Some("5xx")]
        );
    }
}
