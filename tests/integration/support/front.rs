//! What nginx and `HAProxy` have in common here: a proxy with a configuration file and one port.

use tempfile::TempDir;

use super::service::{Service, wait_for_port};

/// A running one.
pub(super) struct Front {
    port: u16,
    _directory: TempDir,
    _service: Service,
}

impl Front {
    /// Starts a program that finds this configuration in `file`, in its working directory, and listens on `port`.
    pub(super) fn start(port: u16, program: &str, arguments: &[&str], file: &str, config: &str) -> Self {
        let directory = super::cleaner::folder();
        std::fs::write(directory.path().join(file), config).expect("a configuration");
        let service = Service::start(directory.path(), program, arguments, &[]);
        wait_for_port(program, port);
        Self {
            port,
            _directory: directory,
            _service: service,
        }
    }

    /// Where clients connect.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}
