//! `HAProxy` between clients and the sidecar.

use super::front::Front;
use super::service::free_port;

/// A running `HAProxy`.
pub struct HaProxy(Front);

impl HaProxy {
    /// One in front of a loopback port, with further lines in its `defaults` section.
    pub fn start(server: u16, defaults: &str) -> Self {
        let port = free_port();
        let config = format!(
            "defaults\n\
             mode http\n\
             timeout connect 10s\n\
             timeout client 60s\n\
             timeout server 60s\n\
             timeout tunnel 1h\n\
             {defaults}\n\
             listen site\n\
             bind 127.0.0.1:{port}\n\
             server sidecar 127.0.0.1:{server}\n"
        );
        let arguments = ["-db", "-f", "haproxy.cfg"];
        Self(Front::start(
            port,
            "/usr/sbin/haproxy",
            &arguments,
            "haproxy.cfg",
            &config,
        ))
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}
