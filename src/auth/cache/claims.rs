//! What the claims of a JWT decide by themselves, before and after the session table is asked: whether its key still
//! verifies, when it expires, and its user where nothing has to be looked up.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{Absent, Authenticator, CachedSession};
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;
use crate::reload::KeyFile;

impl Authenticator {
    /// With the keys that JWTs are verified with. `looks_up`: whether the user is looked up whom a JWT names, also where it
    /// names no session.
    #[must_use]
    pub fn with_jwts(self, jwt_keys: Option<Arc<KeyFile>>, looks_up: bool) -> Self {
        Self {
            jwt_keys,
            looks_up_users: looks_up,
            ..self
        }
    }

    /// The answer for a JWT that needs no query; unknown where the table has to be asked, as for a cookie.
    pub(super) fn claimed(&self, token: &SessionToken, at: DateTime<Utc>) -> CachedSession {
        let Some(claims) = token.claims() else {
            return CachedSession::Unknown;
        };
        let is_gone = |key| self.jwt_keys.as_ref().is_some_and(|keys| !keys.holds(key));
        if claims.expires_at <= at || claims.key.is_some_and(is_gone) {
            return CachedSession::NoSession(Absent::Ended);
        }
        if claims.session.is_some() || self.looks_up_users {
            return CachedSession::Unknown;
        }
        match self.keys.user(&claims.account) {
            Some(user) => CachedSession::Session(Arc::new(BrowserSession::of_jwt(claims, user))),
            None => CachedSession::NoSession(Absent::NotFound),
        }
    }
}

/// A session of the table, which a JWT names: no longer than that is accepted.
pub(super) fn within_jwt(
    token: &SessionToken,
    session: Arc<BrowserSession>,
    at: DateTime<Utc>,
) -> Result<Arc<BrowserSession>, Absent> {
    match token.claims() {
        Some(claims) if claims.expires_at <= at => Err(Absent::Ended),
        Some(claims) if claims.expires_at < session.expires_at => Ok(Arc::new(BrowserSession {
            expires_at: claims.expires_at,
            ..BrowserSession::clone(&session)
        })),
        _ => Ok(session),
    }
}
