//! Metrics of the writer: spool, batches, dead letters.

use std::sync::Arc;

use crate::metrics::{Counter, Counters, Durations, Gauge, Sizes, metrics};
use crate::page_view;
use crate::store::Class;

metrics! {
    /// Metrics of the writer.
    pub struct Metrics(
        /// Page views that are dropped, or that were identified late.
        views: Arc<page_view::Metrics>,
    ) {
        /// Page views per applied batch
        batch_rows: Sizes = "batch_rows",
        /// Time of the transaction that applies a batch
        apply_duration: Durations = "apply_duration_seconds",
        /// Batches tried again, by class of error
        apply_retries: Counters<Class> = "apply_retries_total",
        /// Parts of batches found to be applied already: the answer to their COMMIT was lost, or the process ended
        /// soon after it
        known_parts: Counter = "known_parts_total",
        /// Parts of batches that the database acknowledged and then lost; they are written again
        lost_parts: Counter = "lost_parts_total",
        /// When a batch was last applied, Unix time; 0 before the first
        last_apply: Gauge = "last_apply_timestamp_seconds",
        /// Page views that reached the app's tables
        applied_views: Counter = "applied_views_total",
        /// Time of one synced commit to the spool
        append_duration: Durations = "spool_append_duration_seconds",
        /// Spools adopted from processes that were gone
        spools_adopted: Counter = "spools_adopted_total",
        /// Page views that the database refused and that were kept
        dead_letters_made: Counter = "dead_letters_made_total",
    }
}
