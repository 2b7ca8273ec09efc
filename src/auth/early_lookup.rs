//! Early session lookup: finds the session of a token as its request begins (V6). The app may replace or end the
//! session before it has answered, and a lookup after that finds none. So the lookup starts with the request, which
//! does not wait for it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Authenticator, CachedSession, Identified};
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;

/// Most lookups under way that were started by requests; further requests start none.
const AT_A_TIME: usize = 4_096;

/// Starts lookups.
pub struct EarlyLookups {
    authenticator: Arc<Authenticator>,
    runtime: Handle,
    free: Arc<Semaphore>,
}

/// The session of a token at the beginning of its request, once it is found. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EarlyLookup(EarlySession);

#[derive(Debug, Clone, Default)]
enum EarlySession {
    /// There is none, or it is not looked up.
    #[default]
    None,
    /// It was in the cache.
    Cached(Arc<BrowserSession>),
    /// It is being looked up.
    Later(Arc<OnceLock<Arc<BrowserSession>>>),
}

impl EarlyLookups {
    /// Lookups run on `runtime`.
    pub fn new(authenticator: Arc<Authenticator>, runtime: Handle) -> Self {
        Self {
            authenticator,
            runtime,
            free: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Looks up the token of a request that began at `at`. Reads the cache, starts a lookup where needed, and never
    /// waits.
    pub fn at(&self, token: &SessionToken, at: DateTime<Utc>, from: Option<IpAddr>) -> EarlyLookup {
        match self.authenticator.cached(token, at) {
            CachedSession::Session(session) => EarlyLookup(EarlySession::Cached(session)),
            CachedSession::NoSession(_) => EarlyLookup(EarlySession::None),
            CachedSession::Unknown => {
                if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                    let (authenticator, token) = (Arc::clone(&self.authenticator), token.clone());
                    let found = Arc::new(OnceLock::new());
                    let later = Arc::clone(&found);
                    self.runtime.spawn(async move {
                        if let Ok(Identified::Session(session)) =
                            authenticator.resolve_past(&token, at, from).await
                        {
                            // Set at most once: this is the only writer.
                            let _ = found.set(session);
                        }
                        drop(place);
                    });
                    EarlyLookup(EarlySession::Later(later))
                } else {
                    EarlyLookup(EarlySession::None)
                }
            }
        }
    }

    /// The app's answer to the request has taken the token's session cookie back, or replaced it: what is known of the session is
    /// no longer used, also what is still being looked up. Never waits.
    pub fn taken_back(&self, token: &SessionToken, lookup: &EarlyLookup, at: DateTime<Utc>) {
        let known = match lookup.session() {
            Some(session) => Some(Arc::clone(session)),
            None => self.authenticator.cached(token, at).session(),
        };
        if let Some(session) = known {
            self.authenticator.taken_back(token, &session);
        } else if matches!(lookup.0, EarlySession::Later(_))
            && let Ok(place) = Arc::clone(&self.free).try_acquire_owned()
        {
            let (authenticator, token) = (Arc::clone(&self.authenticator), token.clone());
            self.runtime.spawn(async move {
                // The lookup under way, whose answer may be older than the app's.
                if let Ok(Identified::Session(session)) = authenticator.resolve_past(&token, at, None).await {
                    authenticator.taken_back(&token, &session);
                }
                drop(place);
            });
        }
    }
}

impl EarlyLookup {
    /// The session, if one was found by now.
    pub fn session(&self) -> Option<&Arc<BrowserSession>> {
        match &self.0 {
            EarlySession::None => None,
            EarlySession::Cached(session) => Some(session),
            EarlySession::Later(found) => found.get(),
        }
    }
}
