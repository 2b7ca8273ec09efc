//! `[limits]`: bounds on what clients may send and how long they may take.

use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::Deserialize;

/// Bounds on the downstream side, and the proxies whose word is taken.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Networks whose `X-Forwarded-*` and `X-Request-Id` are believed. None by default.
    pub trusted_proxies: Vec<IpNet>,
    /// Upper bound of open client connections; further ones are closed at once.
    pub max_connections: usize,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            max_connections: 20_000,
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
