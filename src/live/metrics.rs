//! Metrics of live connections.

use std::sync::Arc;

use super::close::EndLabel;
use crate::metrics::{Counter, Counters, Family, Gauge, IntGauge, label_values, metrics};
use crate::page_view;

metrics! {
    /// Metrics of live connections.
    pub struct Metrics(
        /// Heartbeats are dropped as page views are.
        views: Arc<page_view::Metrics>,
    ) {
        /// Open live connections, by kind
        connections: Family<IntGauge, KindLabel> = "live_connections",
        /// Live connections that have ended, by reason
        closed: Counters<EndLabel> = "live_closed_total",
        /// Counts sent over live connections, by kind
        messages: Counters<KindLabel> = "live_messages_total",
        /// Counts not sent over a slow live connection because a later one replaced them
        values_skipped: Counter = "live_values_skipped_total",
        /// Touches made by open live connections
        heartbeats: Counter = "live_heartbeats_total",
        /// Time that the latest session check of a live connection was queued; sign-outs are noticed that much later
        check_delay: Gauge = "live_check_delay_seconds",
        /// Times that all subscribed counts were read again, by reason
        resyncs: Counters<Resync> = "live_resyncs_total",
    }
}

label_values! {
    /// The protocol of a connection.
    pub enum KindLabel as "kind" {
        /// `WebSocket`.
        WebSocket => "websocket",
        /// Server-Sent Events.
        Events => "events",
    }
}

label_values! {
    /// Why everything is read again.
    pub enum Resync as "reason" {
        /// The feed has started, or started again.
        Listening => "listening",
        /// The feed was too fast for this process.
        Lagged => "lagged",
        /// The resync period has passed.
        Periodic => "periodic",
    }
}
