//! nginx between clients and the sidecar.

use tempfile::TempDir;

use super::service::{Service, free_port, wait_for_port};

/// A running nginx.
pub struct Nginx {
    port: u16,
    _directory: TempDir,
    _service: Service,
}

impl Nginx {
    /// One that has `server` in the `server` block of its only listener.
    pub fn start(server: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let config = format!(
            "daemon off;\n\
             pid nginx.pid;\n\
             error_log stderr;\n\
             events {{}}\n\
             http {{\n\
                 access_log off;\n\
                 client_body_temp_path body;\n\
                 proxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi;\n\
                 uwsgi_temp_path uwsgi;\n\
                 scgi_temp_path scgi;\n\
                 server {{\n\
                     listen 127.0.0.1:{port};\n\
                     {server}\n\
                 }}\n\
             }}\n"
        );
        std::fs::write(directory.path().join("nginx.conf"), config).expect("a configuration");
        let prefix = format!("{}/", directory.path().display());
        let service = Service::start(
            directory.path(),
            "/usr/sbin/nginx",
            ["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"],
            &[],
        );
        wait_for_port("nginx", port);
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
