//! API keys: how a server proves which of the configured keys it has, in place of a session. A key identifies nobody.
//!
//! A key begins with `hc_`, which no JWT does: both may come in `Authorization: Bearer`. A made-up one costs one hash and is
//! looked up nowhere: the hash is compared with those of all keys, which are in memory, in a time that does not tell which
//! of them it resembles.
//!
//! Invariant: the key itself is read here alone, and kept nowhere.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use moka::sync::Cache;
use subtle::ConstantTimeEq as _;

use super::metrics::{KeyRefused, Metrics};
use crate::config::{ApiKey, KEY_PREFIX, KeyHash};
use crate::rate_limit::Bucket;
use crate::reload::ApiKeyFile;

/// Lengths of what stands behind [`KEY_PREFIX`]: at least 192 bits of base64url.
const LENGTHS: std::ops::RangeInclusive<usize> = 32..=128;
/// Keys whose use is kept: more than there are at a time, as a file may replace them.
const CAPACITY: u64 = 1_000;
/// Seconds between two log lines about one key.
const BETWEEN_WARNINGS: i64 = 60;

/// The key of a request.
#[derive(Clone, Default)]
pub enum KeyFound {
    /// There is none.
    #[default]
    None,
    /// There is one that is not accepted. It was counted.
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

/// A key that a server has shown.
#[derive(Clone)]
pub struct ServerKey {
    settings: Arc<ApiKey>,
    keys: Arc<ApiKeys>,
}

/// What a key may still ask, after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Whether the request is one too many, and how long to wait.
    pub exceeded: Option<Duration>,
    /// Requests at once.
    pub burst: u32,
    /// The time in which that many more are allowed.
    pub window: Duration,
    /// Requests that are allowed at once now.
    pub left: u32,
    /// How long until all of them are.
    pub full_in: Duration,
}

impl ApiKeys {
    /// The keys of `file`.
    pub fn new(file: Arc<ApiKeyFile>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            file,
            usage: Cache::builder().max_capacity(CAPACITY).build(),
            metrics,
        })
    }

    /// Tells of the keys now, and after each change of them.
    pub fn observe(&self, observer: impl Fn(&[Arc<ApiKey>]) + Send + Sync + 'static) {
        self.file.observe(observer);
    }

    /// The key in `Authorization`. It decides alone: with one that is refused, cookies are not looked at.
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
        // All of them, whichever it is.
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
                "a server asks with a key that is no longer valid (not_after)"
            );
        }
        Err(KeyRefused::Expired)
    }

    /// A key with another rate begins anew.
    fn usage(&self, key: &ApiKey) -> Arc<Usage> {
        self.usage.get_with((key.sha256, key.rate, key.burst), || {
            let bucket = Bucket::new(key.burst, each(key), Instant::now());
            Arc::new(Usage {
                bucket: Mutex::new(bucket),
                warned_at: AtomicI64::new(0),
            })
        })
    }
}

/// The time in which one more request is allowed.
fn each(key: &ApiKey) -> Duration {
    Duration::from_secs(60) / key.rate.max(1)
}

impl Usage {
    /// Whether something may be logged, which is then counted as logged.
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
    /// What is configured of it.
    pub fn settings(&self) -> &ApiKey {
        &self.settings
    }

    /// For how much longer it is valid as it was when it was shown; `None` once it is not: it is no longer configured, or in
    /// another way, or its time is over.
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
                "a server asks more often than its key may, and is answered 429; raise its rate or burst if it should"
            );
        }
        quota
    }
}

/// What a request shows as a key, if it shows one. It must be the only thing in `Authorization`.
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
