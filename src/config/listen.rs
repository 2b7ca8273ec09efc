//! `[listen]`: where the sidecar accepts connections.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::files::ConfigFolder;
use super::read_key_pair;
use super::rules::{Checked, Section, ensure, positive, within};

/// Addresses bound at start; port 0 lets the system choose (the log says which).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Plain HTTP/1.1 listeners of the proxied site. At least one of `http` and `https` must be given.
    pub http: Vec<SocketAddr>,
    /// TLS listeners of the proxied site.
    pub https: Vec<TlsListener>,
    /// Metrics and health. Loopback by default: it needs no sign-in.
    pub admin: SocketAddr,
    /// Names under which browsers may ask for the dashboard, besides addresses, `localhost` and names without a dot;
    /// without a port. Others are refused, because a name can be made to point anywhere.
    pub admin_hosts: Vec<String>,
    /// Worker threads of the proxy. One thread costs least CPU per request; add one per core that the
    /// sidecar may use when a single core no longer suffices.
    pub threads: usize,
    /// Where a new process waits for the sockets of the running one. Relative to the configuration file; by
    /// default `upgrade.sock` beside it. Only the sidecar's user may be able to write to its folder.
    pub upgrade_socket: Option<PathBuf>,
    /// How long the new process waits there, and the running one for the new one to serve.
    #[serde(with = "humantime_serde")]
    pub upgrade_timeout: Duration,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            https: Vec::new(),
            admin: SocketAddr::from(([127, 0, 0, 1], 9464)),
            admin_hosts: Vec::new(),
            threads: 1,
            upgrade_socket: None,
            upgrade_timeout: Duration::from_secs(60),
        }
    }
}

impl Listen {
    /// The site's addresses: `http`, then `https`.
    pub fn site(&self) -> impl Iterator<Item = SocketAddr> {
        let https = self.https.iter().map(|listener| listener.address);
        self.http.iter().copied().chain(https)
    }
}

/// One TLS listener with its certificate chain and key (PEM files).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsListener {
    /// Address to bind.
    pub address: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

impl Section for Listen {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        for listener in &mut self.https {
            files.locate(&mut listener.certificate);
            files.locate(&mut listener.key);
        }
        files.locate(self.upgrade_socket.get_or_insert_with(|| "upgrade.sock".into()));
        Ok(())
    }

    fn check(&self) -> Checked {
        ensure(
            self.site().next().is_some(),
            "listen.http",
            "there is no listener; give at least one address in listen.http or listen.https",
        )?;
        within("listen.threads", self.threads, 1, 64)?;
        positive(&[("listen.upgrade_timeout", self.upgrade_timeout)])?;
        for host in &self.admin_hosts {
            let is_name = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
            ensure(
                !host.is_empty() && host.chars().all(is_name) && !host.ends_with('.'),
                "listen.admin_hosts",
                format!(
                    "{host:?} is not a host name; write the name only, such as \"stats.example.org\", without scheme and port"
                ),
            )?;
        }
        let mut taken = HashSet::new();
        let http = self.http.iter().map(|address| ("listen.http", address));
        let https = self
            .https
            .iter()
            .map(|listener| ("listen.https", &listener.address));
        for (key, address) in http.chain(https).chain([("listen.admin", &self.admin)]) {
            ensure(
                address.port() == 0 || taken.insert(address),
                key,
                format!("{address} is given twice; every listener needs an address of its own"),
            )?;
        }
        for listener in &self.https {
            read_key_pair(&listener.certificate, &listener.key)
                .map_err(|problem| ("listen.https".into(), problem))?;
        }
        Ok(())
    }
}
