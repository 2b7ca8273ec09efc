//! The caller of the API, as the proxy identified it.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::request::Parts;

use crate::auth::BrowserSession;
use crate::ids::SessionToken;

use super::problem::Problem;

/// The caller. The proxy puts it into the request's extensions after the token was looked up. The default is an
/// anonymous caller without any headers.
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

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.remove::<Self>().unwrap_or_default())
    }
}
