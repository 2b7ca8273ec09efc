//! `[live]`: connections over which counts are pushed. They are switched on and off by `api.live`.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

/// How many live connections there may be, and how they are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// Upper bound of live connections; further ones are answered 503. Never more than three quarters of
    /// `limits.max_connections`.
    pub max_connections: usize,
    /// Upper bound of one user's; further ones are answered 429.
    pub max_per_user: NonZeroUsize,
    /// Upper bound from one address (IPv6: from one /64); further ones are answered 429.
    pub max_per_address: NonZeroUsize,
    /// Other origins than the site's own whose pages may open live connections and read the visitors API.
    pub allowed_origins: Vec<String>,
    /// Whether an open connection on a community's page counts as being there.
    pub heartbeat: bool,
    /// At most one push per community within this time; the latest count wins.
    #[serde(with = "humantime_serde")]
    pub min_interval: Duration,
    /// Time between two readings of all counts that are listened to, in case a change was lost.
    #[serde(with = "humantime_serde")]
    pub resync_interval: Duration,
    /// Time between two signs of life to a client.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Longest wait for the answer to a ping; then the client is gone.
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// Longest time that a client may not take what is sent; then it is gone.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// With `api.access = "backend"`: time between two questions to the app whether a client may still see what
    /// it listens to.
    #[serde(with = "humantime_serde")]
    pub access_check_interval: Duration,
    /// How long clients are asked to wait before they reconnect; each is told half to one and a half times this.
    #[serde(with = "humantime_serde")]
    pub retry: Duration,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            max_connections: 15_000,
            max_per_user: NonZeroUsize::new(20).expect("not zero"),
            max_per_address: NonZeroUsize::new(500).expect("not zero"),
            allowed_origins: Vec::new(),
            heartbeat: true,
            min_interval: Duration::from_millis(200),
            resync_interval: Duration::from_secs(15),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(15),
            access_check_interval: Duration::from_secs(60),
            retry: Duration::from_secs(3),
        }
    }
}
