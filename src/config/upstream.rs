//! `[upstream]`: the app behind the sidecar.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::rules::{Checked, Section, at_most, ensure, positive};

/// The app's servers, and timeouts for them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// `host:port`, or `unix:/path/to.sock`. Several are balanced round-robin. Names are resolved at start
    /// and again every `health_interval`.
    pub servers: Vec<String>,
    /// Time to establish a connection. Expiry: next server, then 502.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest silence while the app prepares or sends a response. Expiry before the response: 504. The time in which
    /// the client sends its body, or does not read the response, does not count.
    #[serde(with = "humantime_serde")]
    pub read_timeout: Duration,
    /// Longest time one write of the request body may take.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long an idle connection is kept. Must be below the app server's own keep-alive (gunicorn: 2 s),
    /// or a request can meet a connection that the app is closing.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Longest silence on an upgraded connection (WebSocket) and on an event stream, once the app has answered with
    /// one. Whatever a request's head says, the other timeouts hold until then.
    #[serde(with = "humantime_serde")]
    pub tunnel_timeout: Duration,
    /// Further attempts after a connection could not be made, each on the next server. Requests already
    /// sent are never repeated unless they are idempotent and the kept connection had gone stale.
    pub retries: usize,
    /// Health probe. With `health_path` unset, a TCP connect; else `GET` of that path must answer 200.
    pub health_path: Option<String>,
    /// `Host` of the probe, and of HTTP/1.0 requests without one: one that the app answers to (Django:
    /// `ALLOWED_HOSTS`).
    pub health_host: String,
    /// Time between probes of each server, and between resolutions of names.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
    /// Whether `/readyz` is 503 while no server answers. Off by default: a load balancer would remove all sidecars, and show
    /// its own error page instead of the sidecar's.
    pub readiness: bool,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            connect_timeout: Duration::from_secs(2),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_millis(1500),
            tunnel_timeout: Duration::from_secs(3600),
            retries: 2,
            health_path: None,
            health_host: "localhost".into(),
            health_interval: Duration::from_secs(5),
            readiness: false,
        }
    }
}

impl Section for Upstream {
    fn check(&self) -> Checked {
        ensure(
            !self.servers.is_empty(),
            "upstream.servers",
            "no server is given; write where the app listens, for example servers = [\"127.0.0.1:8000\"]",
        )?;
        for (index, server) in self.servers.iter().enumerate() {
            if let Some(problem) = server_problem(server) {
                return Err((
                    format!("upstream.servers[{index}]"),
                    format!("\"{server}\" {problem}"),
                ));
            }
        }
        at_most("upstream.retries", self.retries, 10)?;
        ensure(
            http::HeaderValue::from_str(&self.health_host).is_ok() && !self.health_host.is_empty(),
            "upstream.health_host",
            "is not a host name; write for example \"example.org\"",
        )?;
        ensure(
            self.health_path.as_ref().is_none_or(|path| path.starts_with('/')),
            "upstream.health_path",
            "must start with /, for example \"/healthz\"",
        )?;
        positive(&[
            ("upstream.connect_timeout", self.connect_timeout),
            ("upstream.read_timeout", self.read_timeout),
            ("upstream.write_timeout", self.write_timeout),
            ("upstream.tunnel_timeout", self.tunnel_timeout),
            ("upstream.health_interval", self.health_interval),
        ])
    }
}

fn server_problem(server: &str) -> Option<&'static str> {
    match server.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => None,
        Some(_) => Some("needs an absolute path, for example \"unix:/run/app.sock\""),
        None if server.contains("://") => Some("is a URL; write host:port or unix:/path without a scheme"),
        None if is_host_and_port(server) => None,
        None => Some("is neither host:port nor unix:/path"),
    }
}

pub(super) fn is_host_and_port(server: &str) -> bool {
    if server.parse::<SocketAddr>().is_ok() {
        return true;
    }
    server.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok_and(|port| port != 0)
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    })
}
