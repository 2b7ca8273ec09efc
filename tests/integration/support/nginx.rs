//! nginx between clients and the sidecar.

use super::front::Front;
use super::service::free_port;

/// A running nginx.
pub struct Nginx(Front);

impl Nginx {
    /// One that has `server` in the `server` block of its only listener.
    pub fn start(server: &str) -> Self {
        Self::on(free_port(), server)
    }

    /// The same on a port that is known before.
    pub fn on(port: u16, server: &str) -> Self {
        Self::with("", port, server)
    }

    /// One that keeps answers in a cache called `pages`, where `server` says so.
    pub fn with_cache(server: &str) -> Self {
        Self::with(
            "proxy_cache_path pages keys_zone=pages:1m;\n",
            free_port(),
            server,
        )
    }

    fn with(http: &str, port: u16, server: &str) -> Self {
        let config = format!(
            "daemon off;\n\
             pid nginx.pid;\n\
             error_log stderr;\n\
             events {{}}\n\
             http {{\n\
                 access_log off;\n\
                 {http}\
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
        let arguments = ["-p", "./", "-c", "nginx.conf", "-e", "stderr"];
        Self(Front::start(
            port,
            "/usr/sbin/nginx",
            &arguments,
            "nginx.conf",
            &config,
        ))
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}
