//! A small ASGI app, which answers with the request that it received, under servers that sites use.

use tempfile::TempDir;

use super::backend::{project, python};
use super::service::{Service, free_port, wait_for_port};

/// A running server.
pub struct Asgi {
    port: u16,
    _directory: TempDir,
    _service: Service,
}

impl Asgi {
    /// Starts `uvicorn` or `hypercorn`.
    pub fn start(server: &str) -> Self {
        let directory = super::cleaner::folder();
        let port = free_port();
        let arguments = match server {
            "uvicorn" => vec![format!("--port={port}")],
            "hypercorn" => vec![format!("--bind=127.0.0.1:{port}")],
            other => panic!("{other} is no server"),
        };
        let service = Service::start(
            directory.path(),
            python(server).to_str().expect("UTF-8"),
            [arguments, vec!["asgi_echo:application".to_owned()]].concat(),
            &[
                ("PYTHONPATH", project().to_str().expect("UTF-8").to_owned()),
                ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
            ],
        );
        wait_for_port(server, port);
        Self {
            port,
            _directory: directory,
            _service: service,
        }
    }

    /// As it stands in `[upstream] servers`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
