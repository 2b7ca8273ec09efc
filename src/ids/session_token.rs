//! Session token: what a request identifies its session by. It is the secret in the session cookie, or the claims of a
//! JWT that was verified: never the JWT itself.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AccountId, BrowserSessionId, TokenFingerprint};
use crate::config::KeyFingerprint;

/// What a request identifies its session by. It has no `Display`, no `Serialize`, and its `Debug` is redacted, so
/// that it cannot end up in a log line, a metric or an error by accident.
///
/// Two are equal where they identify the same session: JWTs that differ in their lifetime only are equal.
#[derive(Clone)]
pub struct SessionToken {
    text: Arc<str>,
    claims: Option<Claims>,
}

/// What a verified JWT says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The account, or the user where the app has no other key. As the token spells it.
    pub account: AccountId,
    /// The session, where the configuration names its claim. As the token spells it.
    pub session: Option<BrowserSessionId>,
    /// Until when the JWT is accepted. Of a view that waited on disk, which came in time, it is not known: without end.
    pub expires_at: DateTime<Utc>,
    /// The key that it was verified with; `None` where it came from disk.
    pub key: Option<KeyFingerprint>,
}

/// The text of claims: JSON, and so none that a cookie's token may be.
#[derive(Serialize, Deserialize)]
struct ClaimsText {
    account: AccountId,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<BrowserSessionId>,
}

impl SessionToken {
    /// Wraps a cookie value. Its form is checked by `auth::cookie`, which alone makes them from requests.
    pub fn new(secret: impl Into<Arc<str>>) -> Self {
        Self {
            text: secret.into(),
            claims: None,
        }
    }

    /// The token of a verified JWT.
    pub fn of_jwt(claims: Claims) -> Self {
        let text = ClaimsText {
            account: claims.account.clone(),
            session: claims.session.clone(),
        };
        // Texts always serialise.
        let text = serde_json::to_string(&text).unwrap_or_default();
        Self {
            text: text.into(),
            claims: Some(claims),
        }
    }

    /// From the text that [`SessionToken::expose_secret`] gave; `None` for damaged claims.
    pub fn restored(text: String) -> Option<Self> {
        if !text.starts_with('{') {
            return Some(Self::new(text));
        }
        let ClaimsText { account, session } = serde_json::from_str(&text).ok()?;
        Some(Self::of_jwt(Claims {
            account,
            session,
            expires_at: DateTime::<Utc>::MAX_UTC,
            key: None,
        }))
    }

    /// The cookie's value, for the one comparison that needs it: the lookup in the session table. Of a JWT, its claims
    /// as JSON, which are in no session table.
    pub fn expose_secret(&self) -> &str {
        &self.text
    }

    /// What the JWT says; `None` for a cookie's value.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// The token's fingerprint.
    pub fn fingerprint(&self) -> TokenFingerprint {
        let [first, second, ..] = self.sha256();
        TokenFingerprint(u16::from_be_bytes([first, second]))
    }

    /// The token's SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

impl PartialEq for SessionToken {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SessionToken {}

impl Hash for SessionToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyFingerprint {
        KeyFingerprint::of(b"a key")
    }

    fn claims(session: Option<&str>, minute: u32) -> Claims {
        Claims {
            account: "7".into(),
            session: session.map(Into::into),
            expires_at: format!("2024-03-01T10:{minute:02}:00Z").parse().unwrap(),
            key: Some(key()),
        }
    }

    #[test]
    fn a_session_token_does_not_print_its_secret() {
        let token = SessionToken::new("very-secret");
        assert!(!format!("{token:?}").contains("very-secret"));
        assert_eq!(token.expose_secret(), "very-secret");
    }

    #[test]
    fn i25_a_jwt_that_was_renewed_identifies_the_same_session() {
        let token = |session, minute| SessionToken::of_jwt(claims(session, minute));
        assert_eq!(token(Some("1"), 0), token(Some("1"), 5));
        assert_ne!(token(Some("1"), 0), token(Some("2"), 0));
        assert_ne!(token(Some("1"), 0), token(None, 0));
    }

    #[test]
    fn i26_what_waits_on_disk_names_the_session_and_not_the_jwt() {
        for session in [None, Some("31")] {
            let token = SessionToken::of_jwt(claims(session, 0));
            let restored = SessionToken::restored(token.expose_secret().to_owned()).unwrap();
            assert_eq!(restored, token);
            let claims = restored.claims().unwrap();
            assert_eq!((claims.account.as_str(), claims.key), ("7", None));
            assert_eq!(claims.session.as_ref().map(BrowserSessionId::as_str), session);
        }
        assert_eq!(SessionToken::restored("abc".into()).unwrap().claims(), None);
        assert_eq!(SessionToken::restored("{\"account\":".into()), None);
    }
}
