//! API keys of servers: found in the request and compared with the configured ones. A key has scopes and no user.
//!
//! A key begins with `hc_`, which no JWT does: both may come in `Authorization: Bearer`. A made-up key costs one hash: that is
//! compared, in constant time, with the hashes of all keys, which are in memory.
//!
//! Invariant: only this file reads the key itself, and nothing keeps it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use quick_cache::sync::Cache;
use subtle::ConstantTimeEq as _;

use super::metrics::{KeyRefused, Metrics};
use crate::config::{ApiKey, KEY_PREFIX, KeyHash};
use crate::rate_limit::Bucket;
use crate::reload::ApiKeyFile;

/// Lengths of what stands behind [`KEY_PREFIX`]: at least 192 bits of base64url.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=128;
/// Most keys whose use is kept: more than can be configured, as a file may replace them.
const CAPACITY: usize = 1_000;
/// Seconds between two log lines about one key.
const BETWEEN_WARNINGS: i64 = 60;

/// The key of a request.
#[derive(Clone, Default)]
pub enum KeyFound {
    /// There is none.
    #[default]
    None,
    /// There is one that is not accepted. The refusal was counted.
    Refused,
    /// There is one.
    Key(ServerKey),
}

impl KeyFound {
    /// Whether there is one, accepted or not.
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The configured keys, and how much each is used.
pub struct ApiKeys {
    file: Arc<ApiKeyFile>,
    usage: Cache<(KeyHash, u32, u32), Arc<Usage>>,
    metrics: Arc<Metrics>,
}

/// How much a key is used.
struct Usage {
    bucket: Mutex<Bucket>,
    /// When something was last logged of it, in seconds.
    warned_at: AtomicI64,
}

/// An accepted key.
#[derive(Clone)]
pub struct ServerKey {
    settings: Arc<ApiKey>,
    keys: Arc<ApiKeys>,
}

/// The rate limit of a key after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How long to wait, if the request exceeds the limit.
    pub exceeded: Option<Duration>,
    /// Most requests at once.
    pub burst: u32,
    /// The time in which that many become available.
    pub window: Duration,
    /// Requests that are available now.
    pub left: u32,
    /// The time until all are available.
    pub full_in: Duration,
}

impl ApiKeys {
    /// The keys of `file`.
    pub fn new(file: Arc<ApiKeyFile>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            file,
            usage: Cache::new(CAPACITY),
            metrics,
        })
    }

    /// Calls `observer` with the keys now, and after each change of them.
    pub fn observe(&self, observer: impl Fn(&[Arc<ApiKey>]) + Send + Sync + 'static) {
        self.file.observe(observer);
    }

    /// The key in `Authorization`. It takes precedence over cookies, even if it is refused.
    pub fn in_authorization(self: &Arc<Self>, headers: &HeaderMap, at: DateTime<Utc>) -> KeyFound {
        let Some(key) = sent(headers) else {
            return KeyFound::None;
        };
        match key.and_then(|key| self.found(key, at)) {
            Ok(settings) => KeyFound::Key(ServerKey {
                settings,
                keys: Arc::clone(self),
            }),
            Err(reason) => {
                self.metrics.api_keys_refused[reason].inc();
                KeyFound::Refused
            }
        }
    }

    fn found(&self, key: &[u8], at: DateTime<Utc>) -> Result<Arc<ApiKey>, KeyRefused> {
        let hash = KeyHash::of(key);
        let keys = self.file.current();
        let mut same = None;
        // Compared with all, so that the time does not depend on which one it is.
        for one in keys.iter() {
            if one.sha256.as_bytes().ct_eq(hash.as_bytes()).into() {
                same = Some(one);
            }
        }
        let settings = same.ok_or(KeyRefused::Unknown)?;
        if settings.is_valid_at(at) {
            return Ok(Arc::clone(settings));
        }
        if self.usage(settings).may_warn(at) {
            tracing::warn!(
                api.key = settings.name,
                "a server uses an API key that has expired (not_after); make a new one: headcount api-key new"
            );
        }
        Err(KeyRefused::Expired)
    }

    /// A key whose rate was changed starts with a full bucket.
    fn usage(&self, key: &ApiKey) -> Arc<Usage> {
        let started = || {
            let bucket = Bucket::new(key.burst, each(key), Instant::now());
            Ok::<_, Infallible>(Arc::new(Usage {
                bucket: Mutex::new(bucket),
                warned_at: AtomicI64::new(0),
            }))
        };
        let Ok(usage) = self
            .usage
            .get_or_insert_with(&(key.sha256, key.rate, key.burst), started);
        usage
    }
}

/// The time in which one more request is allowed.
fn each(key: &ApiKey) -> Duration {
    Duration::from_secs(60) / key.rate.max(1)
}

impl Usage {
    /// Whether a line may be logged now; notes the time if so.
    fn may_warn(&self, at: DateTime<Utc>) -> bool {
        let (last, now) = (self.warned_at.load(Ordering::Relaxed), at.timestamp());
        now.saturating_sub(last) >= BETWEEN_WARNINGS
            && self
                .warned_at
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl ServerKey {
    /// Its configuration.
    pub fn settings(&self) -> &ApiKey {
        &self.settings
    }

    /// The time until it expires; `None` if it has expired, or its configuration was removed or changed.
    pub fn lasts(&self, at: DateTime<Utc>) -> Option<Duration> {
        let keys = self.keys.file.current();
        if !self.settings.is_valid_at(at) || !keys.contains(&self.settings) {
            return None;
        }
        let left = self.settings.not_after.map(|until| until - at);
        Some(left.map_or(Duration::MAX, |left| left.to_std().unwrap_or_default()))
    }

    /// Counts a request.
    pub fn ask(&self, at: DateTime<Utc>) -> Quota {
        let usage = self.keys.usage(&self.settings);
        let now = Instant::now();
        let mut bucket = usage.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let exceeded = (!bucket.take(now)).then(|| bucket.next_in(now));
        let quota = Quota {
            exceeded,
            burst: self.settings.burst,
            window: each(&self.settings) * self.settings.burst,
            left: bucket.left(now),
            full_in: bucket.full_in(now),
        };
        drop(bucket);
        if exceeded.is_some() && usage.may_warn(at) {
            tracing::warn!(
                api.key = self.settings.name,
                api.key_rate = self.settings.rate,
                "a server exceeds the rate of its API key and is answered 429; if it may, raise the key's rate or burst"
            );
        }
        quota
    }
}

/// The key in a request's headers, if there is one. It must come in the only `Authorization` header.
fn sent(headers: &HeaderMap) -> Option<Result<&[u8], KeyRefused>> {
    let values = headers.get_all(AUTHORIZATION).iter();
    let mut keys = values.filter_map(|value| {
        let bytes = value.as_bytes().trim_ascii();
        let end = bytes.iter().position(|byte| *byte == b' ')?;
        let (scheme, credentials) = bytes.split_at(end);
        let credentials = credentials.trim_ascii();
        let is_key = scheme.eq_ignore_ascii_case(b"Bearer") && credentials.starts_with(KEY_PREFIX.as_bytes());
        is_key.then_some(credentials)
    });
    let key = keys.next()?;
    let is_alone = headers.get_all(AUTHORIZATION).iter().count() == 1;
    let secret = &key[KEY_PREFIX.len()..];
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_one = is_alone && LENGTHS.contains(&secret.len()) && secret.iter().all(is_plain);
    Some(if is_one {
        Ok(key)
    } else {
        Err(KeyRefused::Malformed)
    })
}

/// A new key, of 256 random bits.
pub fn new_key() -> String {
    use base64::Engine as _;
    let secret = rand::random::<[u8; 32]>();
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
    format!("{KEY_PREFIX}{secret}")
}

#[cfg(test)]
mod tests;
