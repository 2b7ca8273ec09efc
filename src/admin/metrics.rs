//! Every module's metrics, in one registry.

use std::sync::Arc;

use prometheus::{Gauge, Opts};

use crate::metrics::Registry;
use crate::status::{Status, StatusGauges};
use crate::{api, auth, counters, live, page_view, presence, proxy, reload, tasks, telemetry, writer};

/// The metrics of the process. Each module gets its own.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each is its module's")]
pub struct Metrics {
    pub(super) registry: Registry,
    pub api: Arc<api::Metrics>,
    pub auth: Arc<auth::Metrics>,
    pub counters: Arc<counters::Metrics>,
    pub live: Arc<live::Metrics>,
    pub presence: Arc<presence::Metrics>,
    pub proxy: Arc<proxy::Metrics>,
    pub reload: Arc<reload::Metrics>,
    pub tasks: Arc<tasks::Metrics>,
    pub views: Arc<page_view::Metrics>,
    pub writer: Arc<writer::Metrics>,
}

impl Metrics {
    /// Every module's, and the gauges of the status.
    pub fn new(status: &Status) -> Self {
        let registry = Registry::default();
        telemetry::add_counts(&registry);
        let build = Opts::new("headcount_build_info", "Always 1; the version is a label");
        let build = build.const_label("version", env!("CARGO_PKG_VERSION"));
        registry.add(Gauge::with_opts(build)).set(1.0);
        registry.add(Ok(StatusGauges::of(status)));
        let views = Arc::new(page_view::Metrics::new(&registry));
        Self {
            api: Arc::new(api::Metrics::new(&registry)),
            auth: Arc::new(auth::Metrics::new(&registry)),
            counters: Arc::new(counters::Metrics::new(&registry)),
            live: Arc::new(live::Metrics::new(&registry, views.clone())),
            presence: Arc::new(presence::Metrics::new(&registry)),
            proxy: Arc::new(proxy::Metrics::new(&registry)),
            reload: Arc::new(reload::Metrics::new(&registry)),
            tasks: Arc::new(tasks::Metrics::new(&registry)),
            writer: Arc::new(writer::Metrics::new(&registry, views.clone())),
            views,
            registry,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_every_metric_with_its_help() {
        let manual = include_str!("../../deploy/README.md");
        for (name, help) in Metrics::new(&Status::default()).registry.declared() {
            let row = manual
                .lines()
                .find(|row| row.starts_with(&format!("| `{name}` |")));
            assert!(
                row.is_some_and(|row| row.contains(&help)),
                "deploy/README.md lacks `{name}`: {help}"
            );
        }
    }

    #[test]
    fn every_metric_that_an_alert_names_exists() {
        let alerts = include_str!("../../deploy/alerts.yml");
        let declared = Metrics::new(&Status::default()).registry.declared();
        let words = alerts.split(|char: char| char != '_' && !char.is_ascii_lowercase());
        let named: Vec<_> = words
            .filter(|word| {
                word.strip_prefix("headcount_")
                    .is_some_and(|rest| !rest.is_empty())
            })
            .collect();
        assert!(named.len() > 10, "{named:?}");
        for name in named {
            // The suffixes that Prometheus adds to a histogram.
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix));
            let exists = declared
                .iter()
                .any(|(metric, _)| metric == name || Some(metric.as_str()) == of_histogram);
            assert!(exists, "deploy/alerts.yml names {name}, which is no metric");
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
            "server",
            "le",
        ];
        for family in Metrics::new(&Status::default()).registry.gather() {
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
