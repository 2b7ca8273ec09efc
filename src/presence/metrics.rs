//! Metrics of presence, and of Redis, which is used for nothing else.

use arc_swap::ArcSwapOption;

use crate::metrics::{Counter, Gauge, IntGauge, metrics};

metrics! {
    /// Metrics of presence.
    pub struct Metrics(
        /// Settings that differ between sidecars on the same keys of Redis, a sentence each.
        presence_differences: ArcSwapOption<Vec<String>>,
    ) {
        /// Touches sent to the presence store
        touches: Counter = "presence_touches_total",
        /// Touches skipped because the same user was touched in the same community a moment ago
        touches_coalesced: Counter = "presence_touches_coalesced_total",
        /// Touches that failed at the presence store
        touch_failures: Counter = "presence_touch_failures_total",
        /// Touches made again because Redis may have lost them or had failed to take them
        retouches: Counter = "presence_retouches_total",
        /// Users that this sidecar remembers in front of Redis, counted once per community; at most 100000
        remembered: Gauge = "presence_remembered_members",
        /// Presence reads answered from this sidecar's own memory, because Redis could not answer
        stale_answers: Counter = "presence_stale_answers_total",
        /// Longest delay with which the last sweep noticed that a user had left
        sweep_lag: Gauge = "presence_sweep_lag_seconds",
        /// 1 while sweeps of presence succeed, 0 after three in a row that failed: Redis is away, or refuses the
        /// commands
        presence_up: IntGauge = "presence_up" at 1,
        /// 1 while another sidecar on the same redis.key_prefix has another record.window, redis.partitions, or key
        /// format
        presence_settings_differ: IntGauge = "presence_settings_differ",
        /// 1 while Redis answers, 0 while it does not, -1 where presence is in memory
        redis_up: IntGauge = "redis_up",
        /// Partitions whose Redis server does not answer; with several servers some may be away
        redis_partitions_down: IntGauge = "redis_partitions_down",
        /// Failed Redis commands
        redis_errors: Counter = "redis_errors_total",
        /// 1 while the subscription to changes in Redis is up, 0 while it is not, -1 where presence is in memory
        live_subscription_up: IntGauge = "live_subscription_up",
    }
}
