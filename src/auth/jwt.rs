//! JWTs (JSON Web Tokens) that identify a caller in place of the session cookie: found in the request, verified here, and
//! turned into a [`SessionToken`] that holds their claims. Nothing else sees a JWT.
//!
//! No I/O: keys are in memory ([`KeyFile`]), and what was verified is kept under the JWT's SHA-256, so that a signature is
//! checked once. Whether the session that the claims name is valid is asked like that of a cookie, by the
//! [`Authenticator`](super::Authenticator).

mod crypto;
mod request;
#[cfg(test)]
mod tests;
mod verify;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::cookie::{TokenFound, session_token};
use super::metrics::{JwtRefusal, Metrics};
use crate::config;
use crate::expiring_cache::{Ends, ExpiringCache};
use crate::ids::SessionToken;
use crate::reload::KeyFile;
use verify::{ClaimRules, MAX_JWT, Verified};

/// How long a refused JWT is remembered as such.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// Longest time for which a verified one is remembered, however long it is valid.
const VERIFIED_FOR: Duration = Duration::from_secs(60 * 60);

/// The JWT of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtFound {
    /// There is none.
    None,
    /// There is one, and it is refused. The refusal was counted.
    Refused,
    /// There is one that identifies this session.
    Token(SessionToken),
}

impl JwtFound {
    /// The token, where there is one.
    pub fn token(self) -> Option<SessionToken> {
        match self {
            Self::Token(token) => Some(token),
            Self::None | Self::Refused => None,
        }
    }
}

/// Reads and verifies JWTs.
pub struct Jwts {
    settings: config::Jwt,
    rules: ClaimRules,
    keys: Arc<KeyFile>,
    /// By the JWT's SHA-256.
    known: ExpiringCache<[u8; 32], CachedVerification>,
    /// One more than the number of the set of keys for which an unknown key was last logged.
    warned: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The outcome of a verification.
#[derive(Clone)]
struct CachedVerification {
    /// The number of the set of keys that it was verified with: another set may give another outcome.
    reading: u64,
    outcome: Result<Arc<Verified>, JwtRefusal>,
    /// How long it is remembered.
    until: Instant,
}

impl Ends for CachedVerification {
    fn counts_now() -> impl Fn(&Self) -> bool + Send {
        let now = Instant::now();
        move |known| now < known.until
    }
}

impl Jwts {
    /// Verifies with the keys of `keys`. Up to `capacity` outcomes are remembered.
    pub fn new(settings: &config::Jwt, keys: Arc<KeyFile>, capacity: usize, metrics: Arc<Metrics>) -> Self {
        crypto::install();
        Self {
            rules: ClaimRules::new(settings),
            settings: settings.clone(),
            keys,
            known: ExpiringCache::new(capacity),
            warned: AtomicU64::new(0),
            metrics,
        }
    }

    /// The JWT in `Authorization`. It takes precedence over cookies: if it is refused, the request has no session.
    pub fn in_authorization(&self, headers: &HeaderMap, at: DateTime<Utc>) -> JwtFound {
        match request::in_authorization(headers, &self.settings.header_types) {
            Some(jwt) => self.verified(jwt, at),
            None => JwtFound::None,
        }
    }

    /// Whether `Authorization` has one, valid or not.
    pub fn is_in_authorization(&self, headers: &HeaderMap) -> bool {
        request::in_authorization(headers, &self.settings.header_types).is_some()
    }

    /// The JWT in the configured cookie.
    pub fn in_cookie(&self, headers: &HeaderMap, at: DateTime<Utc>) -> JwtFound {
        if self.settings.cookie.is_empty() {
            return JwtFound::None;
        }
        match session_token(headers, &self.settings.cookie, 1, MAX_JWT) {
            TokenFound::None => JwtFound::None,
            TokenFound::Malformed => self.refused(JwtRefusal::Malformed),
            TokenFound::Token(jwt) => self.verified(jwt.expose_secret(), at),
        }
    }

    /// The JWT of a request for a live connection, in a subprotocol or else in its query, and the `Authorization` header to
    /// send to the app for it. It takes precedence over cookies.
    pub fn in_handshake(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        at: DateTime<Utc>,
    ) -> (JwtFound, Option<HeaderValue>) {
        let Some(jwt) = self.sent_in_handshake(headers, query) else {
            return (JwtFound::None, None);
        };
        let found = self.verified(&jwt, at);
        let scheme = self
            .settings
            .header_types
            .first()
            .map_or("Bearer", String::as_str);
        let authorization = HeaderValue::try_from(format!("{scheme} {jwt}")).ok();
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        (found, authorization)
    }

    fn sent_in_handshake<'r>(&self, headers: &'r HeaderMap, query: Option<&'r str>) -> Option<Cow<'r, str>> {
        let (prefix, parameter) = (&self.settings.websocket_protocol, &self.settings.query_parameter);
        let in_protocols = (!prefix.is_empty())
            .then(|| request::in_protocols(headers, prefix))
            .flatten();
        let in_query = || {
            let query = query.filter(|_| !parameter.is_empty())?;
            request::in_query(query, parameter)
        };
        in_protocols.map(Cow::Borrowed).or_else(in_query)
    }

    /// A query without the parameter that holds JWTs.
    pub fn without_jwt<'q>(&self, query: &'q str) -> Cow<'q, str> {
        let parameter = &self.settings.query_parameter;
        if parameter.is_empty() {
            return query.into();
        }
        request::without(query, parameter)
    }

    fn verified(&self, jwt: &str, at: DateTime<Utc>) -> JwtFound {
        match self
            .outcome(jwt, at)
            .and_then(|verified| verified.at(at).cloned())
        {
            Ok(token) => JwtFound::Token(token),
            Err(refused) => self.refused(refused),
        }
    }

    fn outcome(&self, jwt: &str, at: DateTime<Utc>) -> Result<Arc<Verified>, JwtRefusal> {
        if jwt.len() > MAX_JWT {
            return Err(JwtRefusal::TooLong);
        }
        let (reading, keys) = self.keys.current();
        let hash = <[u8; 32]>::from(Sha256::digest(jwt.as_bytes()));
        if let Some(known) = self.known.get(&hash)
            && known.reading == reading
        {
            return known.outcome;
        }
        let outcome = self.rules.verify(jwt, &keys).map(Arc::new);
        let kept = match &outcome {
            Ok(verified) => {
                let left = verified.expires_at() - at;
                left.to_std().unwrap_or(REFUSED_FOR).min(VERIFIED_FOR)
            }
            Err(_) => REFUSED_FOR,
        };
        if matches!(outcome, Err(JwtRefusal::Key)) {
            self.warn_of_unknown_key(reading);
        }
        let known = CachedVerification {
            reading,
            outcome: outcome.clone(),
            until: Instant::now() + kept,
        };
        self.known.insert(hash, known);
        outcome
    }

    fn refused(&self, reason: JwtRefusal) -> JwtFound {
        self.metrics.jwts_refused[reason].inc();
        JwtFound::Refused
    }

    /// Once for each reading of the keys: any client may name any key.
    fn warn_of_unknown_key(&self, reading: u64) {
        if self.warned.swap(reading + 1, Ordering::Relaxed) != reading + 1 {
            let path = self.keys.path().display();
            tracing::warn!(
                %path,
                "a JWT names a key (kid, alg) that is not in the file, and is refused; if the site has signed it, add its public \
                 key to the file, which is read again when it changes"
            );
        }
    }
}
