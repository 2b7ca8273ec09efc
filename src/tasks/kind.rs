//! Names of the supervised tasks.

use crate::metrics::label_values;

label_values! {
    /// A task that runs for as long as the process does.
    pub enum Task as "task" {
        /// Turns signals into shutdown, reload and hand-over.
        Signals => "signals",
        /// Pingora's listeners.
        Site => "site",
        /// Resolves and probes the app's servers.
        Upstream => "upstream",
        /// The admin listener.
        Admin => "admin",
        /// Looks up the sessions of views.
        Recorder => "recorder",
        /// Looks up again who could not be identified, for presence.
        LateVisitors => "late_visitors",
        /// Appends views to the spool.
        Appender => "appender",
        /// Applies views from the spool to the database.
        Applier => "applier",
        /// Touches in the presence store.
        Touches => "touches",
        /// Sweeps of the presence store.
        Sweeps => "sweeps",
        /// Touches again what the presence store may have lost.
        Retouches => "retouches",
        /// Writes down whom the app has shown which community.
        Grants => "grants",
        /// Passes on changes of counts.
        PresenceFeed => "presence_feed",
        /// Keeps a connection to Redis.
        RedisConnection => "redis_connection",
        /// Looks for the nodes of a Redis Cluster.
        RedisNodes => "redis_nodes",
        /// Listens to changes of counts in Redis.
        RedisChanges => "redis_changes",
        /// Listens to changes of sessions in the database.
        SessionListener => "session_listener",
        /// Pings the database.
        DatabaseWatch => "database_watch",
        /// Compares the database's tables with the configuration.
        SchemaWatch => "schema_watch",
        /// Takes and renews the lease of the counters.
        CountersLease => "counters_lease",
        /// Adds up and writes the counters of communities.
        Counters => "counters",
        /// Compares the counters with the events.
        CountersReconciliation => "counters_reconciliation",
        /// Reads route files again.
        Reloader => "reloader",
        /// Passes changed counts to live connections.
        LiveFeed => "live_feed",
        /// Reads counts for live connections.
        LiveCounts => "live_counts",
        /// Tells live connections that their session changed.
        LiveChanges => "live_changes",
        /// Reads counters for the dashboard.
        DashboardCounters => "dashboard_counters",
        /// Reads presence for the dashboard.
        DashboardPresence => "dashboard_presence",
    }
}
