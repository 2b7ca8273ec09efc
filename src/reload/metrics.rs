//! Metrics of reloads.

use std::net::SocketAddr;

use prometheus::GaugeVec;

use crate::metrics::{Counters, Gauge, IntGauge, Metric, Opts, Registry, label_values, metrics};

metrics! {
    /// Metrics of route files and certificates.
    pub struct Metrics {
        /// Reloads of the route files, by outcome
        reloads: Counters<ReloadOutcome> = "config_reloads_total",
        /// When the route files were last loaded without error, Unix time
        last_reload_success: Gauge = "config_last_reload_success_timestamp_seconds",
        /// Routes in use
        routes: IntGauge = "routes",
        /// When the certificate of a TLS listener expires, Unix time, by address
        certificate_expires: Expiries = "certificate_expires_seconds",
    }
}

label_values! {
    /// Outcome of a reload.
    pub enum ReloadOutcome as "outcome" {
        /// The new files are in use.
        Success => "success",
        /// The new files are faulty.
        Failure => "failure",
    }
}

/// Times by listener, of which there are as many as are configured.
#[derive(Debug)]
pub struct Expiries(GaugeVec);

impl Metric for Expiries {
    fn declare(registry: &Registry, opts: Opts) -> Self {
        Self(registry.add(GaugeVec::new(opts, &["listener"])))
    }
}

impl Expiries {
    /// Sets a listener's time, in Unix time; `None` where it is not known.
    pub(super) fn set(&self, listener: SocketAddr, until: Option<i64>) {
        let listener = listener.to_string();
        // Seconds of dates are far below what a float holds exactly.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        match until {
            Some(until) => self.0.with_label_values(&[&listener]).set(until as f64),
            // There may be none.
            None => drop(self.0.remove_label_values(&[&listener])),
        }
    }
}
