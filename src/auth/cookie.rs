//! Session cookie: finds the session token among a request's cookies, and checks its form (I1, I7). Pure.
//!
//! It reads cookies as Django's `parse_cookie` does, so that the sidecar and the app always see the same
//! token. Several `Cookie` headers count as one, joined by `; ` as HTTP/2 has it; `proxy::headers` passes
//! them on in that form, because app servers differ (gunicorn joins by `,`, ASGI by `; `). Whether a token belongs to a
//! session is the `cache`'s affair.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{COOKIE, SET_COOKIE};

use crate::ids::SessionToken;

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
