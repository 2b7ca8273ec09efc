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
        /// Page views on disk, waiting for the database
        spool_views: Gauge = "spool_views",
        /// Bytes of page views on disk, dead letters included
        spool_bytes: Gauge = "spool_bytes",
        /// Bytes of page views on disk that the database has acknowledged, kept in case it loses them
        spool_kept_bytes: Gauge = "spool_kept_bytes",
        /// Limit of spool_bytes: spool.max_bytes
        spool_limit_bytes: Gauge = "spool_limit_bytes",
        /// Age of the oldest page view that waits on disk; 0 while none does
        spool_oldest_age: Gauge = "spool_oldest_age_seconds",
        /// Time of one synced commit to the spool
        append_duration: Durations = "spool_append_duration_seconds",
        /// Spools adopted from processes that were gone
        spools_adopted: Counter = "spools_adopted_total",
        /// Page views that the database refused, kept on disk
        dead_letters: Gauge = "dead_letters",
        /// Page views that the database refused and that were kept
        dead_letters_made: Counter = "dead_letters_made_total",
    }
}
