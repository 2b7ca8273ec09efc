//! Who asks, as the proxy found out.

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

/// Who asks. The proxy puts it into the request's extensions after having looked the token up. The default
/// is an anonymous caller without any headers.
#[derive(Clone, Default)]
pub struct Caller {
    /// The session that came with the request, as looked up; whether it is still valid is checked again at
    /// use (I3).
    pub session: Option<Arc<BrowserSession>>,
    /// The request carried a token, but whose it is could not be found out because the database is away.
    pub unavailable: bool,
    /// The request carried a token that is nobody's and may soon be somebody's: it is new.
    pub may_appear: bool,
    /// The headers as the backend would get them: `Host`, `Cookie`, `Authorization`, `X-Forwarded-*` and the
    /// like, cleaned and completed by the proxy. Read with `access = "backend"`, and for the site's public name.
    pub headers: HeaderMap,
    /// The token that came with the request, of the right form. Live connections look it up again and again
    /// (I5).
    pub token: Option<SessionToken>,
    /// Where the request comes from.
    pub address: Option<IpAddr>,
    /// Whether a trusted proxy passed the request on.
    pub behind_a_proxy: bool,
}

impl Caller {
    /// The session, if it is valid at this moment.
    pub(super) fn session_at(&self, now: DateTime<Utc>) -> Option<&BrowserSession> {
        self.session.as_deref().filter(|session| session.is_valid_at(now))
    }

    /// What to tell a caller who would need a session.
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
