//! `HAProxy` between clients and the sidecar.

use tempfile::TempDir;

use super::service::{Service, free_port, wait_for_port};

/// A running `HAProxy`.
pub struct HaProxy {
    port: u16,
    _directory: TempDir,
    _service: Service,
}

impl HaProxy {
    /// One in front of a loopback port, with further lines in its `defaults` section.
    pub fn start(server: u16, defaults: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
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
        std::fs::write(directory.path().join("haproxy.cfg"), config).expect("a configuration");
        let service = Service::start(
            directory.path(),
            "/usr/sbin/haproxy",
            ["-db", "-f", "haproxy.cfg"],
            &[],
        );
        wait_for_port("HAProxy", port);
        Self {
            port,
            _directory: directory,
            _service: service,
        }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }
}
