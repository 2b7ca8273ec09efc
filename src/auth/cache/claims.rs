//! Sessions of JWTs: answers that the claims give without a query (expiry, a removed key, the user), and the session table's
//! answers limited to the JWT's expiry.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::Authenticator;
use crate::auth::outcome::{Absent, CachedSession};
use crate::browser_session::BrowserSession;
use crate::ids::SessionToken;
use crate::reload::KeyFile;

impl Authenticator {
    /// Accepts JWTs verified with these keys. `looks_up`: whether the users of JWTs without a session are looked up too.
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

/// The session that a JWT names, limited to the JWT's expiry. That of a cookie stays as it is.
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
