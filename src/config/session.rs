//! `[session]`: the app's session cookie, and how long session lookups are cached.

use std::time::Duration;

use serde::Deserialize;

use super::Jwt;
use super::files::ConfigFolder;
use super::rules::{Checked, Section, at_least_one, ensure, within};

/// Session cookie and session cache.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Session {
    /// Where the app keeps its sessions.
    pub kind: SessionKind,
    /// What the session table holds of a token.
    pub token_hash: TokenHash,
    /// Name of the cookie that carries the session token.
    pub cookie: String,
    /// Shortest token that is looked up; a shorter one has no session.
    pub token_min_length: usize,
    /// Longest token that is looked up.
    pub token_max_length: usize,
    /// How long a found session is used without another query. A sign-out is noticed within this time, or at once with
    /// `revocation`.
    #[serde(with = "humantime_serde")]
    pub cache_ttl: Duration,
    /// Longest time for which a token without a session is cached: a second the first time, then twice as long each
    /// time. It rarely delays a new sign-in: its token is new, or set by the app in a cookie, which is noticed.
    #[serde(with = "humantime_serde")]
    pub negative_ttl: Duration,
    /// Upper bound of cached tokens, found or not.
    pub cache_capacity: usize,
    /// Upper bound of lookup statements in flight, of up to 500 tokens each; views beyond wait in the recorder's queue.
    pub max_lookups: usize,
    /// Whether the database notifies of sessions that end.
    pub revocation: Revocation,
    /// JWTs that identify a caller in place of the cookie.
    pub jwt: Jwt,
}

/// Where the app keeps its sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// In a table with a column for the user: `[schema.session]`.
    Table,
    /// In Django's own table, with the user in the encoded data: `[schema.django_session]`.
    Django,
}

/// What the session table holds of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenHash {
    /// The token itself.
    None,
    /// Its SHA-256 in hexadecimal digits, small or capital.
    Sha256,
    /// Its SHA-256 in base64: standard or URL-safe, with or without padding.
    Sha256Base64,
}

/// How a session's end becomes known before its cache time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// Not at all.
    Off,
    /// A trigger on the session table, installed by `headcount migrate`, notifies. Postgres only.
    Trigger,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            kind: SessionKind::Table,
            token_hash: TokenHash::None,
            cookie: "session_id".into(),
            token_min_length: 16,
            token_max_length: 255,
            cache_ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(10),
            cache_capacity: 100_000,
            max_lookups: 4,
            revocation: Revocation::Off,
            jwt: Jwt::default(),
        }
    }
}

impl Section for Session {
    fn resolve(&mut self, files: &ConfigFolder) -> Checked {
        self.jwt.resolve(files);
        Ok(())
    }

    fn check(&self) -> Checked {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        ensure(
            !self.cookie.is_empty() && self.cookie.chars().all(is_token),
            "session.cookie",
            format!("\"{}\" is not a cookie name", self.cookie),
        )?;
        ensure(
            (1..=self.token_max_length).contains(&self.token_min_length),
            "session.token_min_length",
            "must be at least 1 and at most session.token_max_length",
        )?;
        ensure(
            self.token_max_length <= 4096,
            "session.token_max_length",
            "must be at most 4096",
        )?;
        at_least_one("session.cache_capacity", self.cache_capacity)?;
        within("session.max_lookups", self.max_lookups, 1, 1024)?;
        self.jwt.check(&self.cookie)
    }
}
