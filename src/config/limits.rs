//! `[limits]`: bounds on what clients may send and how long they may take.

use std::time::Duration;

use bytesize::ByteSize;
use http::{HeaderName, header};
use ipnet::IpNet;
use serde::Deserialize;

use super::networks::networks;
use super::rules::{Checked, Section, ensure, positive};

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

impl Section for Limits {
    fn check(&self) -> Checked {
        ensure(
            self.max_connections != Some(0),
            "limits.max_connections",
            "must be at least 1",
        )?;
        ensure(
            (ByteSize::kib(1)..=ByteSize::mib(1)).contains(&self.max_header_bytes),
            "limits.max_header_bytes",
            format!("is {}, must be from 1KiB to 1MiB", self.max_header_bytes),
        )?;
        for (index, name) in self.identity_headers.iter().enumerate() {
            if let Some(problem) = identity_header_problem(name) {
                return Err((
                    format!("limits.identity_headers[{index}]"),
                    format!("{name:?} {problem}"),
                ));
            }
        }
        positive(&[
            ("limits.header_timeout", self.header_timeout),
            ("limits.keepalive_timeout", self.keepalive_timeout),
            ("limits.read_timeout", self.read_timeout),
            ("limits.write_timeout", self.write_timeout),
        ])
    }
}

/// Why a header cannot be an identity header, which is removed from the requests of all but trusted proxies.
fn identity_header_problem(name: &str) -> Option<&'static str> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Some("is not the name of a header; write for example \"Remote-User\"");
    };
    if name.as_str().contains('_') {
        return Some("has a \"_\", which apps treat as \"-\"; write the name with \"-\", as it is sent");
    }
    let needed_from_everybody = [
        header::HOST,
        header::COOKIE,
        header::CONNECTION,
        header::UPGRADE,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
    ];
    if needed_from_everybody.contains(&name) {
        return Some("is needed from every client; take a header that only the proxy sets");
    }
    if name == "proxy" || name.as_str().starts_with("x-headcount") {
        return Some("never reaches the app; choose another name");
    }
    None
}
