//! `[redis]`: presence shared by several sidecars; without it, presence is in this process' memory.
//!
//! One server, or one that Sentinels name, or a Cluster: whichever of `url`, `sentinels` and `nodes` is given.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pingora_core::tls;
use redis::IntoConnectionInfo as _;
use serde::Deserialize;

use super::files::ConfigFolder;
use super::read_key_pair;
use super::rules::{Checked, Section, at_most, ensure, positive};
use super::secret::Secret;
use super::upstream::is_host_and_port;

/// Each partition is swept separately, and in a Cluster remembered separately; far fewer spread the load as well.
const MOST_PARTITIONS: u16 = 1_024;

/// How to reach Redis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// One server: `redis://[user:password@]host:port/db`, with TLS `rediss://…`.
    pub url: Option<Secret>,
    /// File whose trimmed content is the URL; instead of `url`.
    pub url_file: Option<PathBuf>,
    /// `host:port` of each Sentinel; with `master_name`.
    pub sentinels: Vec<String>,
    /// The server's name at the Sentinels.
    pub master_name: Option<String>,
    /// The user at the Sentinels, where it is not the default one.
    pub sentinel_username: Option<String>,
    /// The password at the Sentinels.
    pub sentinel_password: Option<Secret>,
    /// File whose trimmed content is the Sentinels' password; instead of `sentinel_password`.
    pub sentinel_password_file: Option<PathBuf>,
    /// `host:port` of some nodes of a Cluster; the others are found.
    pub nodes: Vec<String>,
    /// The user at Redis, where the URL has none.
    pub username: Option<String>,
    /// The password at Redis, where the URL has none.
    pub password: Option<Secret>,
    /// File whose trimmed content is the password; instead of `password`.
    pub password_file: Option<PathBuf>,
    /// The database's number behind Sentinels. A URL names its own, a Cluster has only 0.
    pub database: u16,
    /// TLS to `sentinels` and the servers that they name, or to `nodes`. A URL states it itself.
    pub tls: bool,
    /// Certificate authorities for the servers' certificates (PEM); without it, those of the system.
    pub tls_ca_file: Option<PathBuf>,
    /// Client certificate with its chain (PEM); with `tls_key_file`.
    pub tls_cert_file: Option<PathBuf>,
    /// The client certificate's private key (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// First part of every key and channel: one of its own for each site.
    pub key_prefix: String,
    /// Partitions over which communities are spread; each script touches one. All sidecars of a site must
    /// use the same number.
    pub partitions: NonZeroU16,
    /// Time to connect.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one command.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
}

impl Redis {
    /// Whether presence is in Redis.
    pub fn is_used(&self) -> bool {
        self.url.is_some() || !self.sentinels.is_empty() || !self.nodes.is_empty()
    }

    /// The key that says where Redis is, and the servers, without user and password.
    pub fn place(&self) -> String {
        let servers = |key: &str, servers: &[String]| format!("{key} = {}", servers.join(", "));
        if let Some(url) = &self.url {
            let info = url.expose().into_connection_info();
            return info.map_or_else(
                |_| "redis.url".to_owned(),
                |info| format!("redis.url leads to {}", info.addr()),
            );
        }
        if self.nodes.is_empty() {
            servers("redis.sentinels", &self.sentinels)
        } else {
            servers("redis.nodes", &self.nodes)
        }
    }

    /// Whether connections are encrypted.
    pub fn uses_tls(&self) -> bool {
        let url = self.url.as_ref();
        self.tls || url.is_some_and(|url| url.expose().starts_with("rediss:"))
    }

    /// The number of parts of presence that can fail independently: one for a single server, one per partition in a
    /// Cluster.
    pub fn parts(&self) -> NonZeroU16 {
        if self.nodes.is_empty() {
            NonZeroU16::MIN
        } else {
            self.partitions
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            sentinels: Vec::new(),
            master_name: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_password_file: None,
            nodes: Vec::new(),
            username: None,
            password: None,
            password_file: None,
            database: 0,
            tls: false,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            key_prefix: "headcount".into(),
            partitions: NonZeroU16::new(16).expect("16 is not zero"),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }
}

impl Section for Redis {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        let certificates = [
            &mut self.tls_ca_file,
            &mut self.tls_cert_file,
            &mut self.tls_key_file,
        ];
        certificates
            .into_iter()
            .flatten()
            .for_each(|path| files.locate(path));
        files.read_secret("redis.url", &mut self.url, self.url_file.as_deref())?;
        files.read_secret(
            "redis.password",
            &mut self.password,
            self.password_file.as_deref(),
        )?;
        files.read_secret(
            "redis.sentinel_password",
            &mut self.sentinel_password,
            self.sentinel_password_file.as_deref(),
        )
    }

    fn check(&self) -> Checked {
        self.check_way()?;
        self.check_url()?;
        self.check_sentinels()?;
        self.check_cluster()?;
        ensure(
            self.username.is_none() || self.password.is_some(),
            "redis.username",
            "has no password; give redis.password or redis.password_file too",
        )?;
        ensure(
            self.sentinel_username.is_none() || self.sentinel_password.is_some(),
            "redis.sentinel_username",
            "has no password; give redis.sentinel_password or redis.sentinel_password_file too",
        )?;
        self.check_certificates()?;
        ensure(
            !self.key_prefix.is_empty() && !self.key_prefix.contains(['{', '}', ' ']),
            "redis.key_prefix",
            "must not be empty nor contain braces or spaces",
        )?;
        positive(&[
            ("redis.connect_timeout", self.connect_timeout),
            ("redis.response_timeout", self.response_timeout),
        ])
    }
}

impl Redis {
    /// Only one of a server, Sentinels or a Cluster; without any of them, no keys that need one.
    fn check_way(&self) -> Checked {
        let ways = [
            ("redis.url", self.url.is_some()),
            ("redis.sentinels", !self.sentinels.is_empty()),
            ("redis.nodes", !self.nodes.is_empty()),
        ];
        let mut given = ways.iter().filter(|(_, given)| *given).map(|(key, _)| key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            return Err((
                (*second).into(),
                format!(
                    "{first} is set too; keep redis.url for one server, redis.sentinels for one that Sentinels name, \
                     or redis.nodes for a Cluster"
                ),
            ));
        }
        at_most("redis.partitions", self.partitions.get(), MOST_PARTITIONS)?;
        if self.is_used() {
            return Ok(());
        }
        unset(
            &[
                ("redis.username", self.username.is_some()),
                ("redis.password", self.password.is_some()),
                ("redis.tls", self.tls),
                ("redis.tls_ca_file", self.tls_ca_file.is_some()),
                ("redis.tls_cert_file", self.tls_cert_file.is_some()),
                ("redis.tls_key_file", self.tls_key_file.is_some()),
            ],
            "is set, but no Redis is; give redis.url, redis.sentinels or redis.nodes",
        )
    }

    fn check_url(&self) -> Checked {
        let Some(url) = self.url.as_ref().map(Secret::expose) else {
            return Ok(());
        };
        let schemes = ["redis://", "rediss://", "redis+unix://", "unix://"];
        ensure(
            schemes.iter().any(|scheme| url.starts_with(scheme)),
            "redis.url",
            "must start with redis://, or with rediss:// for TLS",
        )?;
        ensure(
            !url.contains('#'),
            "redis.url",
            "has a part after #, which would switch off the check of the server's certificate; remove it, and give \
             redis.tls_ca_file for an authority of your own",
        )?;
        // The error itself may quote the URL, which may have a password in it.
        let Ok(info) = url.into_connection_info() else {
            return Err((
                "redis.url".into(),
                "is not a URL of a Redis server; write for example redis://:password@host:6379/0, with %40 for @ in a \
                 password"
                    .into(),
            ));
        };
        let named = info.redis_settings();
        let is_twice = |own: bool, in_url: Option<&str>| own && in_url.is_some();
        unset(
            &[
                (
                    "redis.username",
                    is_twice(self.username.is_some(), named.username()),
                ),
                (
                    "redis.password",
                    is_twice(self.password.is_some(), named.password()),
                ),
            ],
            "redis.url has one too; keep one of the two",
        )?;
        ensure(
            self.database == 0,
            "redis.database",
            "is for Sentinels; write the number at the end of redis.url, for example redis://host:6379/1",
        )?;
        ensure(
            !self.tls || url.starts_with("rediss://"),
            "redis.tls",
            "is for redis.sentinels and redis.nodes; write rediss:// in redis.url",
        )
    }

    fn check_sentinels(&self) -> Checked {
        check_addresses("redis.sentinels", &self.sentinels)?;
        if self.sentinels.is_empty() {
            return unset(
                &[
                    ("redis.master_name", self.master_name.is_some()),
                    ("redis.sentinel_username", self.sentinel_username.is_some()),
                    ("redis.sentinel_password", self.sentinel_password.is_some()),
                ],
                "is set, but no Sentinel is; give their addresses in redis.sentinels",
            );
        }
        ensure(
            self.master_name
                .as_ref()
                .is_some_and(|name| !name.trim().is_empty()),
            "redis.master_name",
            "is missing; write what the Sentinels call the server, for example \"mymaster\"",
        )
    }

    fn check_cluster(&self) -> Checked {
        check_addresses("redis.nodes", &self.nodes)?;
        ensure(
            self.nodes.is_empty() || self.database == 0,
            "redis.database",
            "must be 0: a Cluster has no other databases",
        )
    }

    fn check_certificates(&self) -> Checked {
        let (ca, certificate, key) = (&self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file);
        for (key, path) in [
            ("redis.tls_ca_file", ca),
            ("redis.tls_cert_file", certificate),
            ("redis.tls_key_file", key),
        ] {
            let Some(path) = path else { continue };
            ensure(
                self.uses_tls(),
                key,
                "is set, but TLS is not; write rediss:// in redis.url, or redis.tls = true with redis.sentinels or \
                 redis.nodes",
            )?;
            std::fs::read(path)
                .map_err(|error| (key.into(), format!("{} cannot be read ({error})", path.display())))?;
        }
        if let Some(path) = ca {
            ensure(
                has_authorities(path),
                "redis.tls_ca_file",
                format!(
                    "{} holds something else than certificate authorities; it must be a PEM file of them",
                    path.display()
                ),
            )?;
        }
        let is_alone = |key: &str, other| Err((key.into(), format!("has no effect alone; give {other} too")));
        match (certificate, key) {
            (None, None) => Ok(()),
            (Some(_), None) => is_alone("redis.tls_cert_file", "redis.tls_key_file"),
            (None, Some(_)) => is_alone("redis.tls_key_file", "redis.tls_cert_file"),
            (Some(certificate), Some(key)) => read_key_pair(certificate, key)
                .map(drop)
                .map_err(|problem| ("redis.tls_cert_file".into(), problem)),
        }
    }
}

/// Refuses keys that are set.
fn unset(keys: &[(&str, bool)], problem: &str) -> Checked {
    keys.iter()
        .try_for_each(|(key, is_set)| ensure(!is_set, key, problem))
}

fn check_addresses(key: &str, addresses: &[String]) -> Checked {
    for (index, address) in addresses.iter().enumerate() {
        let problem = if address.contains("://") || address.contains('@') {
            // Not quoted: there may be a password in it.
            "is a URL; write host:port, and user, password and TLS in redis.username, redis.password_file and \
             redis.tls"
                .to_owned()
        } else if is_host_and_port(address) {
            continue;
        } else {
            format!("\"{address}\" is not host:port")
        };
        return Err((format!("{key}[{index}]"), problem));
    }
    Ok(())
}

fn has_authorities(path: &Path) -> bool {
    let mut store = tls::RootCertStore::empty();
    tls::load_ca_file_into_store(path, &mut store).is_ok() && !store.is_empty()
}
