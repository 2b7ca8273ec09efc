//! `[session.jwt]`: JSON Web Tokens that identify a caller in place of the session cookie.

mod keys;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::files::ConfigFolder;
use super::rules::{Checked, at_most, ensure};

pub use keys::{JwtKey, JwtKeys, KeyFingerprint};

/// Longest `session.jwt.leeway`, in seconds.
const MAX_LEEWAY: u64 = 600;

/// JWTs: their keys, their claims, and where they are in a request. Off while `algorithms` is empty.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// The accepted algorithms.
    pub algorithms: Vec<Algorithm>,
    /// File with the key: the shared secret as text, or the public key as PEM.
    pub key_file: Option<PathBuf>,
    /// File with the keys as a JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// The claim with the user's key, as a number or text.
    pub user_claim: String,
    /// The claim with the session's primary key; the session must then be valid. Empty: JWTs have no session.
    pub session_claim: String,
    /// The issuer that `iss` must name. Empty: `iss` is not looked at.
    pub issuer: String,
    /// The audiences of which `aud` must name one. Without any, a JWT with `aud` is refused: it is meant for others.
    pub audience: Vec<String>,
    /// How far clocks may differ: a JWT is accepted this much later than `exp` says, and earlier than `nbf`.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// The schemes of `Authorization` with a JWT.
    pub header_types: Vec<String>,
    /// Name of a cookie with a JWT. Empty: not read from cookies.
    pub cookie: String,
    /// Name of a query parameter with a JWT, for live connections only. Empty: not read from queries.
    pub query_parameter: String,
    /// Prefix of the JWT in a `WebSocket`'s subprotocol. Empty: not read from there.
    pub websocket_protocol: String,
}

/// How a JWT is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256, by a secret that site and sidecar share.
    HS256,
    /// RSA (PKCS #1 1.5) with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            algorithms: Vec::new(),
            key_file: None,
            jwks_file: None,
            user_claim: "user_id".into(),
            session_claim: String::new(),
            issuer: String::new(),
            audience: Vec::new(),
            leeway: Duration::ZERO,
            header_types: vec!["Bearer".into()],
            cookie: String::new(),
            query_parameter: String::new(),
            websocket_protocol: "bearer.".into(),
        }
    }
}

impl Jwt {
    /// Whether JWTs are read.
    pub fn is_on(&self) -> bool {
        !self.algorithms.is_empty()
    }

    /// The file with the keys.
    pub fn file(&self) -> Option<&PathBuf> {
        self.key_file.as_ref().or(self.jwks_file.as_ref())
    }

    pub(super) fn resolve(&mut self, files: &ConfigFolder) {
        for file in [&mut self.key_file, &mut self.jwks_file].into_iter().flatten() {
            files.locate(file);
        }
    }

    pub(super) fn check(&self, session_cookie: &str) -> Checked {
        if !self.is_on() {
            return ensure(
                self.file().is_none(),
                "session.jwt.algorithms",
                "is empty, so that JWTs are not read; name those that the site signs with, for example [\"HS256\"]",
            );
        }
        ensure(
            self.key_file.is_none() || self.jwks_file.is_none(),
            "session.jwt.jwks_file",
            "session.jwt.key_file is set too; keep one of the two",
        )?;
        ensure(
            self.file().is_some(),
            "session.jwt.key_file",
            "is missing: give the file with the shared secret or the public key (PEM), or session.jwt.jwks_file",
        )?;
        ensure(
            !self.user_claim.is_empty(),
            "session.jwt.user_claim",
            "is empty; name the claim with the user's key, for example \"user_id\" or \"sub\"",
        )?;
        at_most("session.jwt.leeway", self.leeway.as_secs(), MAX_LEEWAY)?;
        for scheme in &self.header_types {
            ensure(
                is_token(scheme),
                "session.jwt.header_types",
                format!(
                    "{scheme:?} is no scheme of Authorization; write the scheme only, such as \"Bearer\""
                ),
            )?;
        }
        let name = |key, value: &str, what| {
            let holds = value.is_empty() || is_token(value);
            ensure(holds, key, format!("{value:?} is not {what}"))
        };
        name("session.jwt.cookie", &self.cookie, "a cookie name")?;
        name(
            "session.jwt.query_parameter",
            &self.query_parameter,
            "the name of a query parameter",
        )?;
        name(
            "session.jwt.websocket_protocol",
            &self.websocket_protocol,
            "the beginning of a subprotocol, such as \"bearer.\"",
        )?;
        ensure(
            self.cookie != session_cookie,
            "session.jwt.cookie",
            "is session.cookie too; a cookie holds either a JWT or the session's token",
        )?;
        let is_read = !self.header_types.is_empty() || !self.cookie.is_empty();
        ensure(
            is_read,
            "session.jwt.header_types",
            "is empty, and so is session.jwt.cookie: give the place of the JWT in a request",
        )?;
        let key = if self.key_file.is_some() {
            "session.jwt.key_file"
        } else {
            "session.jwt.jwks_file"
        };
        let keys = JwtKeys::read(self);
        keys.map(drop).map_err(|problem| (key.into(), problem))
    }
}

/// Whether it is a token of HTTP (RFC 9110, 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
}
