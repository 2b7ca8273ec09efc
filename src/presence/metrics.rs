//! Metrics of presence, and of Redis, which is used for nothing else.

use crate::metrics::{Counter, Gauge, metrics};

metrics! {
    /// Metrics of presence.
    pub struct Metrics {
        /// Touches of communities, and of what is finer there, sent to the presence store
        touches: Counter = "presence_touches_total",
        /// Touches of the whole site sent to the presence store, some four calls a second at most
        site_touches: Counter = "presence_site_touches_total",
        /// Visitors of the whole site, as read last, at least every 20 seconds: of all sidecars that share the presence store
        site_visitors: Gauge = "site_visitors",
        /// Touches skipped because the same user was touched in the same places a moment ago
        touches_coalesced: Counter = "presence_touches_coalesced_total",
        /// Touches that failed at the presence store
        touch_failures: Counter = "presence_touch_failures_total",
        /// Touches made again because Redis may have lost them or had failed to take them
        retouches: Counter = "presence_retouches_total",
        /// Users that this sidecar remembers in front of Redis, counted once per community, finer scope and once for the site; at most 200000
        remembered: Gauge = "presence_remembered_members",
        /// Presence reads answered from this sidecar's own memory, because Redis could not answer
        stale_answers: Counter = "presence_stale_answers_total",
        /// Answers of the app about who may see a community that were not noted, because too many waited for the session or the community to be looked up
        grants_dropped: Counter = "presence_grants_dropped_total",
        /// Longest delay with which the last sweep noticed that a user had left
        sweep_lag: Gauge = "presence_sweep_lag_seconds",
        /// Failed Redis commands
        redis_errors: Counter = "redis_errors_total",
    }
}
