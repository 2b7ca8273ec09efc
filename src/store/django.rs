//! Decodes the data of Django's own sessions: who is signed in. Pure.
//!
//! Django signs the data (`base64[:timestamp]:signature`, or `base64("hash:json")` before 3.1) against changes on its way,
//! for instance in a cookie. Here it comes from the app's own database, so the signature is not checked, and no key is
//! needed. Of the data only the keys that `django.contrib.auth` writes at a sign-in are read.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flate2::read::ZlibDecoder;
use serde::Deserialize;
use serde_json::Value;

use crate::ids::AccountId;

/// Longest data that is read from the table, in bytes. Longer data counts as unreadable.
pub(super) const MAX_ENCODED: usize = 128 * 1024;
/// Longest data that is decompressed, in bytes.
const MAX_DECODED: u64 = 1024 * 1024;

/// Why data cannot be decoded. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undecodable {
    #[error("is longer than {MAX_ENCODED} bytes, or {MAX_DECODED} decompressed")]
    TooLong,
    #[error("is in no form that Django writes")]
    Form,
    #[error("cannot be decompressed")]
    Compression,
    #[error(
        "is not JSON (another SESSION_SERIALIZER than django.contrib.sessions.serializers.JSONSerializer?)"
    )]
    NotJson,
    #[error("has a user who is named by neither a text nor a whole number")]
    User,
}

/// What `django.contrib.auth.login` writes. Values may be anything.
#[derive(Deserialize)]
struct SignIn {
    #[serde(rename = "_auth_user_id")]
    user_id: Option<Value>,
    #[serde(rename = "_auth_user_backend")]
    backend: Option<Value>,
    #[serde(rename = "_auth_user_hash")]
    hash: Option<Value>,
}

/// The account that is signed in, as Django writes its key; `None` if nobody is.
pub(super) fn account(encoded: &str) -> Result<Option<AccountId>, Undecodable> {
    if encoded.len() > MAX_ENCODED {
        return Err(Undecodable::TooLong);
    }
    let json = json(encoded)?;
    let sign_in: SignIn = serde_json::from_slice(&json)
        .or_else(|_| serde_json::from_slice(&without_nan(&json)))
        .map_err(|_| Undecodable::NotJson)?;
    // As Django's `get_user` has it: without a backend nobody is signed in. The hash is there since Django 1.7.
    let (Some(user_id), Some(Value::String(_)), Some(Value::String(_))) =
        (sign_in.user_id, sign_in.backend, sign_in.hash)
    else {
        return Ok(None);
    };
    match user_id {
        Value::String(id) if !id.is_empty() && !id.contains('\0') => Ok(Some(AccountId::new(id))),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(Some(AccountId::new(id.to_string()))),
        _ => Err(Undecodable::User),
    }
}

/// The serialised data.
fn json(encoded: &str) -> Result<Vec<u8>, Undecodable> {
    let Some((value, _signature)) = encoded.split_once(':') else {
        return before_3_1(encoded);
    };
    // A leading dot says that the data is compressed.
    let (value, is_compressed) = match value.strip_prefix('.') {
        Some(compressed) => (compressed, true),
        None => (value, false),
    };
    let data = URL_SAFE_NO_PAD.decode(value).map_err(|_| Undecodable::Form)?;
    if is_compressed { inflate(&data) } else { Ok(data) }
}

/// The form of before Django 3.1, which Django itself read until 4.0: a hash, a colon, and the data.
fn before_3_1(encoded: &str) -> Result<Vec<u8>, Undecodable> {
    let lines: String = encoded.split_ascii_whitespace().collect();
    let data = STANDARD.decode(lines).map_err(|_| Undecodable::Form)?;
    let colon = data.iter().position(|&byte| byte == b':');
    let colon = colon.ok_or(Undecodable::Form)?;
    Ok(data[colon + 1..].to_vec())
}

fn inflate(data: &[u8]) -> Result<Vec<u8>, Undecodable> {
    let mut inflated = Vec::new();
    let read = ZlibDecoder::new(data)
        .take(MAX_DECODED + 1)
        .read_to_end(&mut inflated);
    match read {
        Ok(read) if read as u64 <= MAX_DECODED => Ok(inflated),
        Ok(_) => Err(Undecodable::TooLong),
        Err(_) => Err(Undecodable::Compression),
    }
}

/// Python writes numbers into JSON that are none: here they become `null`.
fn without_nan(json: &[u8]) -> Vec<u8> {
    const NO_NUMBERS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut mended = Vec::with_capacity(json.len());
    let (mut rest, mut in_string) = (json, false);
    while let [first, after @ ..] = rest {
        let none = NO_NUMBERS
            .iter()
            .find_map(|name| rest.strip_prefix(*name))
            .filter(|_| !in_string);
        if let Some(after) = none {
            mended.extend_from_slice(b"null");
            rest = after;
            continue;
        }
        mended.push(*first);
        rest = after;
        match first {
            b'"' => in_string = !in_string,
            // What is escaped ends no string.
            b'\\' if in_string => {
                if let [escaped, after @ ..] = rest {
                    mended.push(*escaped);
                    rest = after;
                }
            }
            _ => {}
        }
    }
    mended
}

#[cfg(test)]
mod tests;
