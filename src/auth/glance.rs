//! Whose a token is as its request begins (V6). The app may give the session another token, or end it, before it has
//! answered: who asks only then finds nobody. So the lookup starts with the request, and nobody waits for it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Authenticator, BrowserSession, Identified, Known};
use crate::ids::SessionToken;

/// Lookups under way at one time that were started by requests; further requests start none.
const AT_A_TIME: usize = 4_096;

/// Starts lookups.
pub struct Glances {
    authenticator: Arc<Authenticator>,
    runtime: Handle,
    free: Arc<Semaphore>,
}

/// What was known of a token when its request began, or was found out since. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Glance(Arc<OnceLock<Arc<BrowserSession>>>);

impl Glances {
    /// Lookups run on `runtime`.
    pub fn new(authenticator: Arc<Authenticator>, runtime: Handle) -> Self {
        Self {
            authenticator,
            runtime,
            free: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Looks at a token of a request that began at `at`. Asks the cache, and never waits.
    pub async fn at(&self, token: &SessionToken, at: DateTime<Utc>, from: Option<IpAddr>) -> Glance {
        let glance = Glance::default();
        match self.authenticator.cached(token, at).await {
            Known::Session(session) => glance.found(session),
            Known::Nobody => {}
            Known::Unknown => {
                if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
                    let (authenticator, token) = (Arc::clone(&self.authenticator), token.clone());
                    let found = glance.clone();
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
        glance
    }
}

impl Glance {
    fn found(&self, session: Arc<BrowserSession>) {
        // Once: nobody else finds anything here.
        let _ = self.0.set(session);
    }

    /// The session, if there was one as far as is known by now.
    pub fn session(&self) -> Option<&Arc<BrowserSession>> {
        self.0.get()
    }
}
