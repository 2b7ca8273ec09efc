//! Tokens to sessions: a bounded cache with a short life, in front of the session table.
//!
//! Random cookies do not become database load (I1): malformed ones never get here, unknown ones are
//! remembered as nobody's, and the lookups in flight are bounded. Many requests with one new cookie make one
//! lookup (I2). A cached session is checked again at each use (I3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::BrowserSession;
use super::memory::Memory;
use crate::config;
use crate::ids::SessionToken;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// Says whose a session token is.
pub struct Authenticator {
    cache: Cache<SessionToken, Option<Arc<BrowserSession>>>,
    memory: Memory,
    store: Arc<dyn Store>,
    lookups: Semaphore,
    /// Whether the latest lookup failed: only changes are logged.
    failing: AtomicBool,
    metrics: Arc<Metrics>,
}

/// What the cache knows of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A valid session.
    Session(Arc<BrowserSession>),
    /// Nobody's: unknown to the app, or no longer valid.
    Nobody,
    /// Not in the cache: ask [`Authenticator::resolve`].
    Unknown,
}

impl Authenticator {
    /// An empty cache in front of `store`.
    pub fn new(session: &config::Session, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        let cache = Cache::builder()
            .max_capacity(session.cache_capacity)
            .expire_after(Lifetimes {
                found: session.cache_ttl,
                nobody: session.negative_ttl,
            })
            .build();
        Self {
            cache,
            memory: Memory::new(session.cache_capacity),
            store,
            lookups: Semaphore::new(session.max_lookups),
            failing: AtomicBool::new(false),
            metrics,
        }
    }

    /// What is known without asking anybody. Never waits for I/O.
    pub async fn cached(&self, token: &SessionToken, now: DateTime<Utc>) -> Known {
        match self.cache.get(token).await {
            None => Known::Unknown,
            Some(found) => {
                self.count("cached");
                valid(found, now).map_or(Known::Nobody, Known::Session)
            }
        }
    }

    /// The session a token belongs to at `now`, from the cache or the table. Concurrent calls for one token
    /// share one lookup; the number of lookups in flight is bounded.
    ///
    /// # Errors
    /// The table could not be asked. Nothing is remembered then.
    pub async fn resolve(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<BrowserSession>>, Arc<StoreError>> {
        let entry = self
            .cache
            .entry_by_ref(token)
            .or_try_insert_with(self.look_up(token, now))
            .await;
        match entry {
            Ok(entry) => {
                if !entry.is_fresh() {
                    self.count("cached");
                }
                Ok(valid(entry.into_value(), now))
            }
            Err(error) => {
                self.count("unavailable");
                Err(error)
            }
        }
    }

    /// The session that a token last belonged to, if it was valid at `at` as far as is known: however long
    /// ago the table was asked, but never past the session's expiry. For recording only, when the table could
    /// not be asked; whoever is answered anything must be known for sure. Never waits.
    pub fn remembered(&self, token: &SessionToken, at: DateTime<Utc>) -> Option<Arc<BrowserSession>> {
        let session = self.memory.session(token, at);
        if session.is_some() {
            self.count("remembered");
        }
        session
    }

    /// A request brought something that cannot be a token: one lookup spared (I1).
    pub fn count_malformed(&self) {
        self.count("malformed");
    }

    async fn look_up(
        &self,
        token: &SessionToken,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<BrowserSession>>, StoreError> {
        // Never closed, so acquiring cannot fail.
        let _permit = self.lookups.acquire().await;
        let result = self.store.browser_session(token).await;
        self.log_change(result.as_ref().err());
        let found = result?.map(Arc::new);
        self.count(if found.is_some() { "found" } else { "nobody" });
        self.memory.update(token, found.as_ref(), now);
        Ok(found)
    }

    fn log_change(&self, error: Option<&StoreError>) {
        let failed_before = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !failed_before => {
                tracing::warn!(error = %error.chain(), "sessions cannot be looked up; page views of visitors who are not remembered wait");
            }
            None if failed_before => tracing::info!("sessions can be looked up again"),
            _ => {}
        }
    }

    fn count(&self, outcome: &str) {
        self.metrics.session_lookups.with_label_values(&[outcome]).inc();
    }
}

/// A cached session is used only while it is valid (I3).
fn valid(found: Option<Arc<BrowserSession>>, now: DateTime<Utc>) -> Option<Arc<BrowserSession>> {
    found.filter(|session| session.is_valid_at(now))
}

/// Sessions and nobodies are remembered for different times.
struct Lifetimes {
    found: Duration,
    nobody: Duration,
}

impl Expiry<SessionToken, Option<Arc<BrowserSession>>> for Lifetimes {
    fn expire_after_create(
        &self,
        _: &SessionToken,
        value: &Option<Arc<BrowserSession>>,
        _: Instant,
    ) -> Option<Duration> {
        Some(if value.is_some() { self.found } else { self.nobody })
    }
}

#[cfg(test)]
mod tests;
