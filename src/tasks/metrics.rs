//! Metrics of the supervised tasks.

use super::Task;
use crate::metrics::{Counters, metrics};

metrics! {
    /// Metrics of the supervised tasks.
    pub struct Metrics {
        /// Times that a long-running task ended or panicked, by task
        failures: Counters<Task> = "task_failures_total",
    }
}
