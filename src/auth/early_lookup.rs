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
pub struct EarlyLookup(Arc<OnceLock<Arc<BrowserSession>>>);

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
    pub async fn at(&self, token: &SessionToken, at: DateTime<Utc>, from: Option<IpAddr>) -> EarlyLookup {
        let lookup = EarlyLookup::default();
        match self.authenticator.cached(token, at).await {
            CachedSession::Session(session) => lookup.found(session),
            CachedSession::NoSession(_) => {}
            CachedSession::Unknown => {
                if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                    let (authenticator, token) = (Arc::clone(&self.authenticator), token.clone());
                    let found = lookup.clone();
                    self.runtime.spawn(async move {
                        if let Ok(Identified::Session(session)) =
                            authenticator.resolve_past(&token, at, from).await
                        {
                            found.found(session);
                        }
                        drop(place);
                    });
                }
            }
        }
        lookup
    }
}

impl EarlyLookup {
    fn found(&self, session: Arc<BrowserSession>) {
        // Set at most once: this is the only writer.
        let _ = self.0.set(session);
    }

    /// The session, if one was found by now.
    pub fn session(&self) -> Option<&Arc<BrowserSession>> {
        self.0.get()
    }
}
