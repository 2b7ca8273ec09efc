//! `[redis]`: presence shared by several sidecars. Left out, presence lives in this process' memory.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::secret::Secret;

/// How to reach Redis.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://[user:password@]host:port/db`. Neither `url` nor `url_file`: presence in memory.
    pub url: Option<Secret>,
    /// File whose trimmed content is the URL; instead of `url`.
    pub url_file: Option<PathBuf>,
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

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            key_prefix: "headcount".into(),
            partitions: NonZeroU16::new(16).expect("16 is not zero"),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
        }
    }
}
