//! Responses of the API: their bodies, and the headers that each has.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::response::Parts;
use http::{Response, StatusCode};
use serde::Serialize;

use super::paths::Operation;
use super::problem::Problem;
use crate::live::Connection;

/// The body of an answer.
pub enum Body {
    /// All of it.
    Bytes(Bytes),
    /// A live connection, which waits for its socket.
    Live(Box<Connection>),
}

impl Default for Body {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// An answer in JSON.
pub(super) fn json(value: &impl Serialize) -> Result<Response<Body>, Problem> {
    Ok(json_response(json_text(value)?))
}

/// A value as JSON text.
pub(super) fn json_text(value: &impl Serialize) -> Result<Bytes, Problem> {
    // Numbers and text always serialise.
    Ok(serde_json::to_vec(value).map_err(|_| Problem::Internal)?.into())
}

/// An answer of JSON text.
pub(super) fn json_response(text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::Bytes(text));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Sets headers that every answer has, and `Allow` on a refused method. A live connection has no `length`.
pub(super) fn finish(operation: Operation, head: &mut Parts, length: Option<usize>) {
    let (status, headers) = (head.status, &mut head.headers);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(operation.methods()));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !headers.contains_key(VARY) {
            headers.insert(VARY, HeaderValue::from_static("Cookie"));
        }
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let no_content = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if let (Some(length), false) = (length, no_content) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}
