//! Verifies a JWT: algorithm, key, signature and claims. Pure: the time is checked at each use ([`Verified::at`]), since
//! what was verified is kept.

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::auth::metrics::JwtRefusal;
use crate::config::{Algorithm, Jwt, JwtKey, JwtKeys};
use crate::ids::{AccountId, BrowserSessionId, Claims, SessionToken};

/// Longest JWT, in bytes.
pub(super) const MAX_JWT: usize = 8 * 1024;
/// Longest key of a user or a session, in characters.
const MAX_KEY: usize = 255;
/// The claim of djangorestframework-simplejwt that tells access tokens from refresh tokens, and the former's value.
const TOKEN_TYPE: (&str, &str) = ("token_type", "access");

/// What the claims must satisfy.
pub(super) struct ClaimRules {
    user_claim: String,
    session_claim: Option<String>,
    issuer: Option<String>,
    leeway: TimeDelta,
    algorithms: Vec<Algorithm>,
    validation: Validation,
}

/// A JWT whose signature and claims are verified, except for its times.
#[derive(Debug, Clone)]
pub(super) struct Verified {
    token: SessionToken,
    not_before: Option<DateTime<Utc>>,
}

/// The members of the header that select the key.
#[derive(Deserialize)]
struct JwtHeader {
    alg: String,
    kid: Option<String>,
}

impl ClaimRules {
    pub(super) fn new(settings: &Jwt) -> Self {
        let given = |name: &String| (!name.is_empty()).then(|| name.clone());
        let mut validation = Validation {
            validate_exp: false,
            ..Validation::default()
        };
        let mut required = vec!["exp"];
        if !settings.issuer.is_empty() {
            required.push("iss");
            validation.set_issuer(&[&settings.issuer]);
        }
        // Without an audience, the library refuses each JWT that has one.
        if !settings.audience.is_empty() {
            required.push("aud");
            validation.set_audience(&settings.audience);
        }
        validation.set_required_spec_claims(&required);
        Self {
            user_claim: settings.user_claim.clone(),
            session_claim: given(&settings.session_claim),
            issuer: given(&settings.issuer),
            leeway: TimeDelta::from_std(settings.leeway).unwrap_or_default(),
            algorithms: settings.algorithms.clone(),
            validation,
        }
    }

    /// Verifies a JWT.
    ///
    /// # Errors
    /// The reason for the refusal.
    pub(super) fn verify(&self, jwt: &str, keys: &JwtKeys) -> Result<Verified, JwtRefusal> {
        if jwt.len() > MAX_JWT {
            return Err(JwtRefusal::TooLong);
        }
        let head = head(jwt).ok_or(JwtRefusal::Malformed)?;
        let named = self.algorithms.iter();
        let algorithm = *named
            .into_iter()
            .find(|algorithm| format!("{algorithm:?}") == head.alg)
            .ok_or(JwtRefusal::Algorithm)?;
        let fits = |key: &&JwtKey| {
            let is_named = match (&key.kid, &head.kid) {
                (Some(kid), Some(wanted)) => kid == wanted,
                _ => true,
            };
            key.algorithm == algorithm && is_named
        };
        let mut refused = JwtRefusal::Key;
        // A JWT without `kid` is verified with each key; the size of a set bounds that.
        for key in keys.iter().filter(fits) {
            match self.signed_with(key, jwt) {
                Err(JwtRefusal::Signature) => refused = JwtRefusal::Signature,
                outcome => return outcome,
            }
        }
        Err(refused)
    }

    fn signed_with(&self, key: &JwtKey, jwt: &str) -> Result<Verified, JwtRefusal> {
        let mut validation = self.validation.clone();
        validation.algorithms = vec![match key.algorithm {
            Algorithm::HS256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        }];
        let decoded = decode::<Map<String, Value>>(jwt, &key.key, &validation);
        let claims = decoded.map_err(|error| reason(error.kind()))?.claims;
        self.read(&claims, key)
    }

    /// Reads claims whose signature is right.
    fn read(&self, claims: &Map<String, Value>, key: &JwtKey) -> Result<Verified, JwtRefusal> {
        // The library also takes a list.
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(JwtRefusal::Issuer);
        }
        let (claim, access) = TOKEN_TYPE;
        if claims.get(claim).is_some_and(|kind| kind != access) {
            return Err(JwtRefusal::TokenType);
        }
        let expires_at = claims.get("exp").and_then(moment).ok_or(JwtRefusal::Claims)?;
        let not_before = match claims.get("nbf") {
            None | Some(Value::Null) => None,
            Some(value) => Some(moment(value).ok_or(JwtRefusal::Claims)?),
        };
        let key_of = |claim: &str| claims.get(claim).and_then(key_text).ok_or(JwtRefusal::Claims);
        let session = self.session_claim.as_deref().map(key_of).transpose()?;
        let claims = Claims {
            account: AccountId::new(key_of(&self.user_claim)?),
            session: session.map(BrowserSessionId::new),
            expires_at: expires_at
                .checked_add_signed(self.leeway)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
            key: Some(key.fingerprint),
        };
        Ok(Verified {
            token: SessionToken::of_jwt(claims),
            not_before: not_before.and_then(|moment| moment.checked_sub_signed(self.leeway)),
        })
    }
}

impl Verified {
    /// The token, where the JWT is accepted at this time.
    ///
    /// # Errors
    /// It is not valid yet, or no longer.
    pub(super) fn at(&self, now: DateTime<Utc>) -> Result<&SessionToken, JwtRefusal> {
        if self.expires_at() <= now {
            return Err(JwtRefusal::Expired);
        }
        if self.not_before.is_some_and(|moment| now < moment) {
            return Err(JwtRefusal::NotYet);
        }
        Ok(&self.token)
    }

    /// Until when it is accepted.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        let claims = self.token.claims();
        claims.map_or(DateTime::<Utc>::MIN_UTC, |claims| claims.expires_at)
    }
}

fn head(jwt: &str) -> Option<JwtHeader> {
    use base64::Engine as _;

    let mut parts = jwt.split('.');
    let [Some(head), Some(_), Some(_), None] = [parts.next(), parts.next(), parts.next(), parts.next()]
    else {
        return None;
    };
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(head)
        .ok()?;
    serde_json::from_slice(&head).ok()
}

fn reason(error: &ErrorKind) -> JwtRefusal {
    match error {
        ErrorKind::InvalidSignature => JwtRefusal::Signature,
        ErrorKind::InvalidIssuer => JwtRefusal::Issuer,
        ErrorKind::InvalidAudience => JwtRefusal::Audience,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidKeyFormat => {
            JwtRefusal::Algorithm
        }
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => match claim.as_str()
        {
            "iss" => JwtRefusal::Issuer,
            "aud" => JwtRefusal::Audience,
            _ => JwtRefusal::Claims,
        },
        _ => JwtRefusal::Malformed,
    }
}

/// A `NumericDate` (RFC 7519, 2), limited to the range of dates.
fn moment(value: &Value) -> Option<DateTime<Utc>> {
    let Value::Number(number) = value else {
        return None;
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and fractions do not matter"
    )]
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        (None, Some(seconds)) if seconds.is_finite() => seconds as i64,
        _ => return None,
    };
    let last = if seconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    Some(DateTime::from_timestamp(seconds, 0).unwrap_or(last))
}

/// The key of a user or a session: text or an integer.
fn key_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return None,
    };
    let is_key = !text.is_empty() && text.chars().nth(MAX_KEY).is_none() && !text.contains('\0');
    is_key.then_some(text)
}
