//! `[limits]`: bounds on what clients may send and how long they may take.

use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::Deserialize;

use super::networks::networks;

/// Limits of the downstream side, and trusted proxies.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Networks, or bare addresses, whose forwarding headers and `X-Request-Id` are trusted. None by default.
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Names of headers in which a trusted proxy names the user, in any case. They pass from trusted proxies, never
    /// from others; the proxy must remove those that clients send. None by default.
    pub identity_headers: Vec<String>,
    /// Networks of sidecars nearer to the client. Only their statement that they record a request is trusted (V8). None
    /// by default.
    #[serde(deserialize_with = "networks")]
    pub sidecars: Vec<IpNet>,
    /// Whether headers with a `_` in their names reach the app. Off by default, as in nginx: WSGI makes `X_User` and
    /// `X-User` the same, so that clients could send what only proxies may.
    pub underscore_headers: bool,
    /// Upper bound of open client connections; further ones are closed at once. None: as many as the process' open-file
    /// limit allows, at most [`Limits::MAX_CONNECTIONS`].
    pub max_connections: Option<usize>,
    /// Longest time until a new connection's first head is complete. On a kept connection the wait for the
    /// next request, `keepalive_timeout`, comes on top.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Largest request head. Beyond: 431.
    pub max_header_bytes: ByteSize,
    /// Largest request body. Beyond: 413. Zero: no limit.
    pub max_body_bytes: ByteSize,
    /// How long an idle client connection is kept between requests.
    #[serde(with = "humantime_serde")]
    pub keepalive_timeout: Duration,
    /// Longest silence while a client sends a request body.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// Longest time one write to a client may take.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long a shutdown goes on serving after `/readyz` says 503: the time that a load balancer needs to
    /// notice.
    #[serde(with = "humantime_serde")]
    pub shutdown_delay: Duration,
    /// How long shutdown waits for requests in flight.
    #[serde(with = "humantime_serde")]
    pub grace_period: Duration,
}

impl Limits {
    /// Upper bound of client connections where none is configured.
    pub const MAX_CONNECTIONS: usize = 20_000;

    /// Upper bound of open client connections.
    pub fn connections(&self) -> usize {
        self.max_connections.unwrap_or(Self::MAX_CONNECTIONS)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            identity_headers: Vec::new(),
            sidecars: Vec::new(),
            underscore_headers: false,
            max_connections: None,
            header_timeout: Duration::from_secs(15),
            max_header_bytes: ByteSize::kib(64),
            max_body_bytes: ByteSize::b(0),
            keepalive_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            shutdown_delay: Duration::ZERO,
            grace_period: Duration::from_secs(10),
        }
    }
}
