//! `[live]`: connections over which counts are pushed, switched on and off by `api.live`.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::Deserialize;

use super::rules::{Checked, Section, at_least_a_second, ensure, positive};

/// Limits and timing of live connections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Live {
    /// Upper bound of live connections; further ones are answered 503. Never more than three quarters of
    /// `limits.max_connections`.
    pub max_connections: usize,
    /// Upper bound per user; further ones are answered 429.
    pub max_per_user: NonZeroUsize,
    /// Upper bound per address (IPv6: per /64); further ones are answered 429.
    pub max_per_address: NonZeroUsize,
    /// Other origins than the site's own whose pages may open live connections and read the visitors API.
    pub allowed_origins: Vec<String>,
    /// Whether an open connection on a community's page counts as being there.
    pub heartbeat: bool,
    /// At most one push per community within this time; the latest count wins.
    #[serde(with = "humantime_serde")]
    pub min_interval: Duration,
    /// Time between two readings of all subscribed counts, in case a change was lost.
    #[serde(with = "humantime_serde")]
    pub resync_interval: Duration,
    /// Time between two pings to a client.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Longest wait for the answer to a ping; then the connection is closed.
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// Longest time that a client may not read what is sent; then the connection is closed.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// With `api.access = "backend"` or `"visited"`: time between two checks whether a client may still see its
    /// communities.
    #[serde(with = "humantime_serde")]
    pub access_check_interval: Duration,
    /// How long clients wait before they reconnect; each is sent a value from half to one and a half times this.
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

impl Section for Live {
    fn check(&self) -> Checked {
        for (index, origin) in self.allowed_origins.iter().enumerate() {
            check_origin(&format!("live.allowed_origins[{index}]"), origin)?;
        }
        at_least_a_second(&[
            ("live.ping_interval", self.ping_interval),
            ("live.pong_timeout", self.pong_timeout),
            ("live.write_timeout", self.write_timeout),
            ("live.resync_interval", self.resync_interval),
            ("live.access_check_interval", self.access_check_interval),
        ])?;
        ensure(
            self.min_interval <= Duration::from_secs(10),
            "live.min_interval",
            "must be at most \"10s\", or counts are no longer live",
        )?;
        positive(&[("live.retry", self.retry)])
    }
}

/// An origin must be written as browsers send it, who name a port only where it is not the scheme's default.
fn check_origin(key: &str, origin: &str) -> Checked {
    let uri = origin.parse::<http::Uri>().unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or_default();
    let is_origin = uri.authority().is_some_and(|authority| {
        let is_complete = origin == format!("{scheme}://{authority}");
        matches!(scheme, "http" | "https") && is_complete && !authority.as_str().contains('@')
    });
    ensure(
        is_origin,
        key,
        format!(
            "\"{origin}\" is no origin; write scheme, name and port only, for example \"https://app.example.org\""
        ),
    )?;
    let default = if scheme == "https" { ":443" } else { ":80" };
    match origin.strip_suffix(default) {
        None => Ok(()),
        Some(without) => Err((
            key.into(),
            format!("\"{origin}\" is not what browsers send; leave out the port: \"{without}\""),
        )),
    }
}
