//! `[redis]`: presence shared by several sidecars; without it, presence is in this process' memory.
//!
//! One server, or one that Sentinels name, or a Cluster: whichever of `url`, `sentinels` and `nodes` is given.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::secret::Secret;

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
    /// First part of every key and channel.
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
