//! Names of the supervised tasks.

/// A task that runs for as long as the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Turns signals into shutdown, reload and hand-over.
    Signals,
    /// Pingora's listeners.
    Site,
    /// Resolves and probes the app's servers.
    Upstream,
    /// The admin listener.
    Admin,
    /// Looks up the sessions of views.
    Recorder,
    /// Appends views to the spool.
    Appender,
    /// Applies views from the spool to the database.
    Applier,
    /// Touches in the presence store.
    Touches,
    /// Sweeps of the presence store.
    Sweeps,
    /// Touches again what the presence store may have lost.
    Retouches,
    /// Passes on changes of counts.
    PresenceFeed,
    /// Keeps a connection to Redis.
    RedisConnection,
    /// Looks for the nodes of a Redis Cluster.
    RedisNodes,
    /// Listens to changes of counts in Redis.
    RedisChanges,
    /// Listens to changes of sessions in the database.
    SessionListener,
    /// Pings the database.
    DatabaseWatch,
    /// Compares the database's tables with the configuration.
    SchemaWatch,
    /// Reads route files again.
    Reloader,
    /// Passes changed counts to live connections.
    LiveFeed,
    /// Reads counts for live connections.
    LiveCounts,
    /// Tells live connections that their session changed.
    LiveChanges,
    /// Reads counters for the dashboard.
    DashboardCounters,
    /// Reads presence for the dashboard.
    DashboardPresence,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 23] = [
        Self::Signals,
        Self::Site,
        Self::Upstream,
        Self::Admin,
        Self::Recorder,
        Self::Appender,
        Self::Applier,
        Self::Touches,
        Self::Sweeps,
        Self::Retouches,
        Self::PresenceFeed,
        Self::RedisConnection,
        Self::RedisNodes,
        Self::RedisChanges,
        Self::SessionListener,
        Self::DatabaseWatch,
        Self::SchemaWatch,
        Self::Reloader,
        Self::LiveFeed,
        Self::LiveCounts,
        Self::LiveChanges,
        Self::DashboardCounters,
        Self::DashboardPresence,
    ];

    /// The name in metrics, `/readyz`, log and manual.
    pub fn label(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Site => "site",
            Self::Upstream => "upstream",
            Self::Admin => "admin",
            Self::Recorder => "recorder",
            Self::Appender => "appender",
            Self::Applier => "applier",
            Self::Touches => "touches",
            Self::Sweeps => "sweeps",
            Self::Retouches => "retouches",
            Self::PresenceFeed => "presence_feed",
            Self::RedisConnection => "redis_connection",
            Self::RedisNodes => "redis_nodes",
            Self::RedisChanges => "redis_changes",
            Self::SessionListener => "session_listener",
            Self::DatabaseWatch => "database_watch",
            Self::SchemaWatch => "schema_watch",
            Self::Reloader => "reloader",
            Self::LiveFeed => "live_feed",
            Self::LiveCounts => "live_counts",
            Self::LiveChanges => "live_changes",
            Self::DashboardCounters => "dashboard_counters",
            Self::DashboardPresence => "dashboard_presence",
        }
    }
}
