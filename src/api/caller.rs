//! The caller of the API: what the proxy knows of it, and its session.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use tokio::time::timeout;

use crate::auth::{CachedSession, KeyFound};
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;

use super::problem::Problem;
use super::{Api, ApiPath};

/// The caller. The default is an anonymous one without any headers.
#[derive(Clone, Default)]
pub struct Caller {
    /// Start of the request.
    pub at: DateTime<Utc>,
    /// The session of the request, as looked up; its validity is checked again at use (I3).
    pub session: Option<Arc<BrowserSession>>,
    /// The request has a token that could not be looked up because the database is away.
    pub unavailable: bool,
    /// The request has a token without a session that may soon have one: it is new.
    pub may_appear: bool,
    /// The headers as the backend would get them: `Host`, `Cookie`, `Authorization`, `X-Forwarded-*` and the
    /// like, cleaned and completed by the proxy. Read with `access = "backend"`, and for the site's public name.
    pub headers: HeaderMap,
    /// The well-formed token of the request. Live connections look it up periodically (I5).
    pub token: Option<SessionToken>,
    /// The key of the request, if it is a server's. It has no session then.
    pub key: KeyFound,
    /// The client IP.
    pub address: Option<IpAddr>,
    /// Whether a trusted proxy passed the request on.
    pub behind_a_proxy: bool,
}

impl Caller {
    /// The session, if it is valid at this moment.
    pub(super) fn session_at(&self, now: DateTime<Utc>) -> Option<&BrowserSession> {
        self.session.as_deref().filter(|session| session.is_valid_at(now))
    }

    /// The problem for a caller without a session who needs one.
    pub(super) fn without_session(&self) -> Problem {
        if self.may_appear {
            Problem::NotYetAuthorized
        } else {
            Problem::Unauthorized
        }
    }
}

/// Without the headers: they hold the session token.
impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("session", &self.session)
            .field("unavailable", &self.unavailable)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Looks up the session of the caller's token, where the answer depends on it. A database that hangs, or a long
    /// queue of lookups, holds the caller no longer than [`Api::timeout`].
    pub async fn identify(&self, path: &ApiPath, caller: &mut Caller) {
        let Some(token) = caller.token.clone().filter(|_| !path.takes_a_report()) else {
            return;
        };
        let authenticator = &self.shared.authenticator;
        match authenticator.cached_now(&token, caller.at) {
            CachedSession::Session(session) => caller.session = Some(session),
            CachedSession::NoSession(_) => {}
            CachedSession::Unknown => {
                let found = timeout(self.timeout(), async {
                    // Callers with made-up tokens must not use up the recorder's lookups.
                    let _place = if path.operation.is_live() {
                        self.listeners_identifying.acquire().await.ok()?
                    } else {
                        self.identifying.try_acquire().ok()?
                    };
                    let found = authenticator.resolve_from(&token, caller.at, caller.address);
                    found.await.ok()
                });
                match found.await {
                    Ok(Some(found)) => caller.session = found,
                    Ok(None) | Err(_) => caller.unavailable = true,
                }
            }
        }
        if caller.session.is_none() {
            caller.may_appear = authenticator.may_appear(&token);
        }
    }
}
