//! Metrics of page views: counted or not, waiting, dropped.

use super::NotCounted;
use crate::metrics::{Counter, Counters, Gauge, Gauges, label_values, metrics};

metrics! {
    /// Metrics of page views, for all that handle them.
    pub struct Metrics {
        /// Page views with a known visitor, handed to presence and writer
        counted: Counter = "page_views_counted_total",
        /// Exchanges that are not page views, by reason
        not_counted: Counters<NotCounted> = "page_views_not_counted_total",
        /// Page views waiting in memory, by queue
        queued: Gauges<Queue> = "recorder_queue_views",
        /// Bytes of the page views waiting in memory
        queued_bytes: Gauge = "recorder_queue_bytes",
        /// Accepted page views that were dropped, by reason
        dropped: Counters<Dropped> = "recorder_dropped_total",
        /// Signs of visitors' presence that were dropped, by reason; the page views themselves are not lost
        presence_dropped: Counters<PresenceDropped> = "presence_dropped_total",
    }
}

label_values! {
    /// A queue of page views in memory.
    pub enum Queue as "queue" {
        /// Of the recorder.
        Recorder => "recorder",
        /// Lookups of sessions and communities.
        Lookups => "lookups",
        /// Of presence: touches.
        Presence => "presence",
        /// Of the writer.
        Writer => "writer",
    }
}

label_values! {
    /// Why an accepted page view was dropped.
    pub enum Dropped as "reason" {
        /// The recorder's own queue was full.
        RecorderQueueFull => "recorder_queue_full",
        /// No session was ever found for the view's token, and too many such views wait.
        UnknownToken => "unknown_token",
        /// The writer's queue was full, by count or by bytes.
        WriterQueueFull => "writer_queue_full",
        /// The token could not be looked up, and the view cannot wait in the spool: nothing is written, or the
        /// spool's part for such views is full.
        SessionUnavailable => "session_unavailable",
        /// The same for the community's slug.
        CommunityUnavailable => "community_unavailable",
        /// It could not be determined whether the visitor may see the community of a reported view.
        AccessUnavailable => "access_unavailable",
        /// The spool has reached its limit.
        SpoolFull => "spool_full",
        /// The spool could not be written, and memory is full.
        SpoolUnavailable => "spool_unavailable",
        /// The spool's bytes turned out to be damaged.
        SpoolDamaged => "spool_damaged",
        /// The database refused the row for good, and there is no room for another dead letter.
        Refused => "refused",
        /// Shutdown ended before the view was in the spool.
        Shutdown => "shutdown",
        /// A task panicked while it handled the view.
        TaskFailed => "task_failed",
    }
}

label_values! {
    /// Why a visitor does not count as present by a page view, or an open page, which would have made them so.
    pub enum PresenceDropped as "reason" {
        /// The presence queue was full.
        QueueFull => "queue_full",
        /// Who it is was not found out while they would have counted.
        TooLate => "too_late",
    }
}
