//! Metrics of the counters.

use crate::metrics::{Counter, Counters, Gauge, IntGauge, label_values, metrics};

label_values! {
    /// What is done with counters.
    pub enum CounterOperation as "operation" {
        /// What batches have added is added up.
        Fold => "fold",
        /// A community is counted from its events.
        Recount => "recount",
        /// The app's columns are written.
        Write => "write",
        /// Who is there now is asked; one that is away or late is a failure, too.
        Presence => "presence",
        /// A community is compared with its events.
        Compare => "compare",
    }
}

metrics! {
    /// Metrics of the counters.
    pub struct Metrics {
        /// 1 while this sidecar writes the counters of communities
        lease_held: IntGauge = "counters_lease_held",
        /// When counters were last written or found to need no writing, at first when the sidecar began, Unix time; 0 without counters
        last_write: Gauge = "counters_last_write_timestamp_seconds",
        /// Rows of communities that were written
        written: Counter = "counters_written_total",
        /// Communities whose counters wait to be written, after the last round
        pending: IntGauge = "counters_pending",
        /// Operations on counters that failed
        failures: Counters<CounterOperation> = "counters_failures_total",
        /// Page views and visitors by which the counters differed from the events in the last reconciliation
        drift: IntGauge = "counters_drift",
        /// Communities whose counters differed from the events, or had been overwritten, and were put right
        repaired: Counter = "counters_repaired_total",
        /// When all counters were last compared with the events by this sidecar, Unix time; 0 before the first
        last_reconciliation: Gauge = "counters_last_reconciliation_timestamp_seconds",
    }
}
