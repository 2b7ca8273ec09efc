//! Session cookie: finds the session token among a request's cookies, and checks its form (I1, I7). Pure.
//!
//! It reads cookies as Django's `parse_cookie` does, so that the sidecar and the app always see the same
//! token. Several `Cookie` headers count as one, joined by `; ` as HTTP/2 has it; `proxy::headers` passes
//! them on in that form, because app servers differ (gunicorn joins by `,`, ASGI by `; `). Whether a token belongs to a
//! session is the `cache`'s affair.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

use crate::browser_session::CookieChange;
use crate::config;
use crate::ids::SessionToken;

/// The session cookie: its name, and the form of its tokens.
#[derive(Debug, Clone)]
pub struct SessionCookie {
    name: String,
    min_len: usize,
    max_len: usize,
}

impl SessionCookie {
    /// As configured.
    pub fn new(session: &config::Session) -> Self {
        Self {
            name: session.cookie.clone(),
            min_len: session.token_min_length,
            max_len: session.token_max_length,
        }
    }

    /// The token of a request: [`session_token`].
    pub fn token(&self, request: &HeaderMap) -> TokenFound {
        session_token(request, &self.name, self.min_len, self.max_len)
    }

    /// The tokens that a response sets: [`tokens_set`].
    pub fn tokens_set(&self, response: &HeaderMap) -> impl Iterator<Item = SessionToken> {
        tokens_set(response, &self.name, self.min_len, self.max_len)
    }

    /// What a response does to `token`: [`change_of`].
    pub fn change(&self, response: &HeaderMap, token: &SessionToken, now: DateTime<Utc>) -> CookieChange {
        change_of(response, &self.name, token, now)
    }
}

/// The session token in the cookies of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFound {
    /// No such cookie, or an empty one: no session.
    None,
    /// Something that cannot be a token: no session, without a query of the database (I1).
    Malformed,
    /// A token of the right form.
    Token(SessionToken),
}

impl TokenFound {
    /// The token, where there is one.
    pub fn token(&self) -> Option<&SessionToken> {
        match self {
            Self::Token(token) => Some(token),
            Self::None | Self::Malformed => None,
        }
    }
}

/// The token in the cookie called `name` (case matters). Of several such cookies the last counts, even when
/// it is empty: that is the one the app sees. A token has `min_len` to `max_len` characters out of
/// `[A-Za-z0-9._~:+/=-]`, which covers Django's session keys, URL-safe random strings, UUIDs and JWTs.
pub fn session_token(headers: &HeaderMap, name: &str, min_len: usize, max_len: usize) -> TokenFound {
    let mut last = None;
    for header in headers.get_all(COOKIE) {
        for chunk in header.as_bytes().split(|&byte| byte == b';') {
            if let Some(value) = value_of(chunk, name) {
                last = Some(value);
            }
        }
    }
    match last {
        Some(value) => token_of(value, min_len, max_len),
        None => TokenFound::None,
    }
}

/// The tokens that a response sets as the cookie called `name`.
pub fn tokens_set(
    headers: &HeaderMap,
    name: &str,
    min_len: usize,
    max_len: usize,
) -> impl Iterator<Item = SessionToken> {
    headers.get_all(SET_COOKIE).iter().filter_map(move |header| {
        let pair = header.as_bytes().split(|&byte| byte == b';').next()?;
        match token_of(value_of(pair, name)?, min_len, max_len) {
            TokenFound::Token(token) => Some(token),
            TokenFound::None | TokenFound::Malformed => None,
        }
    })
}

/// What a response does to the cookie called `name`, which had the value `token`. Deleted means an empty value, a `Max-Age` of
/// at most 0 or an `Expires` before `now`, as browsers read them. Where it is deleted for one domain or path and set for another,
/// it is set. Deleted for a domain that is named, it may be an old cookie of another domain, which some sites clear away with each
/// answer: the session may be over.
pub fn change_of(headers: &HeaderMap, name: &str, token: &SessionToken, now: DateTime<Utc>) -> CookieChange {
    let mut change = CookieChange::Kept;
    let mut may_be_deleted = false;
    for header in headers.get_all(SET_COOKIE) {
        let mut parts = header.as_bytes().split(|&byte| byte == b';');
        let Some(value) = parts.next().and_then(|pair| value_of(pair, name)) else {
            continue;
        };
        let value = unquote(value);
        let of_a_domain = parts.clone().any(|attribute| {
            attribute
                .trim_ascii()
                .get(..7)
                .is_some_and(|key| key.eq_ignore_ascii_case(b"domain="))
        });
        if value.is_empty() || is_over(parts, now) {
            if of_a_domain {
                may_be_deleted = true;
            } else if change == CookieChange::Kept {
                change = CookieChange::Deleted;
            }
        } else if std::str::from_utf8(&value).is_ok_and(|text| SessionToken::new(text) == *token) {
            return CookieChange::Kept;
        } else {
            change = CookieChange::Replaced;
        }
    }
    if change == CookieChange::Kept && may_be_deleted {
        return CookieChange::Replaced;
    }
    change
}

/// Whether a cookie's attributes end it. `Max-Age` goes before `Expires`, and of each the last counts.
fn is_over<'c>(attributes: impl Iterator<Item = &'c [u8]>, now: DateTime<Utc>) -> bool {
    let (mut max_age, mut expires) = (None, None);
    for attribute in attributes {
        let Some((key, value)) = std::str::from_utf8(attribute)
            .ok()
            .and_then(|text| text.split_once('='))
        else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.eq_ignore_ascii_case("max-age") {
            let is_number = value
                .strip_prefix('-')
                .unwrap_or(value)
                .bytes()
                .all(|byte| byte.is_ascii_digit());
            let is_positive =
                value.bytes().any(|byte| matches!(byte, b'1'..=b'9')) && !value.starts_with('-');
            max_age = (is_number && !value.is_empty())
                .then_some(is_positive)
                .or(max_age);
        } else if key.eq_ignore_ascii_case("expires") {
            // Some write the date with dashes.
            let date = DateTime::parse_from_rfc2822(&value.replace('-', " "));
            expires = date.ok().map(|date| date.to_utc()).or(expires);
        }
    }
    match max_age {
        Some(is_positive) => !is_positive,
        None => expires.is_some_and(|expires| expires <= now),
    }
}

fn token_of(value: &[u8], min_len: usize, max_len: usize) -> TokenFound {
    // Unquoting shortens a value to a quarter at most, and removes two quotes.
    if value.len() > max_len.saturating_mul(4).saturating_add(2) {
        return TokenFound::Malformed;
    }
    let token = unquote(value);
    if token.is_empty() {
        return TokenFound::None;
    }
    let is_token = (min_len..=max_len).contains(&token.len()) && token.iter().copied().all(is_token_byte);
    match std::str::from_utf8(&token) {
        Ok(text) if is_token => TokenFound::Token(SessionToken::new(text)),
        _ => TokenFound::Malformed,
    }
}

fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'~' | b':' | b'+' | b'/' | b'=' | b'-')
}

/// The value of `name=value`, if that is the name. Without `=` it is a value without a name.
fn value_of<'c>(chunk: &'c [u8], name: &str) -> Option<&'c [u8]> {
    let equals = chunk.iter().position(|&byte| byte == b'=')?;
    let (key, value) = (&chunk[..equals], &chunk[equals + 1..]);
    (trim(key) == name.as_bytes()).then(|| trim(value))
}

/// Python's `str.strip`, as far as UTF-8 allows.
fn trim(bytes: &[u8]) -> &[u8] {
    let ends = [bytes.first(), bytes.last()];
    if ends.into_iter().flatten().all(u8::is_ascii_graphic) {
        return bytes;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => bytes.trim_ascii(),
    }
}

/// Python's `http.cookies._unquote`: within double quotes, `\ooo` is an octal byte and `\x` is `x`.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', quoted @ .., b'"'] = value else {
        return Cow::Borrowed(value);
    };
    if !quoted.contains(&b'\\') {
        return Cow::Borrowed(quoted);
    }
    let mut plain = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), after)
            }
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            unescaped => unescaped,
        };
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
