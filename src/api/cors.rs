//! CORS headers: let pages of allowed origins read answers. Pure.
//! Allowed are the origins in `live.allowed_origins`, with their visitors' cookies.
//!
//! A listed origin is echoed: browsers do not accept `*` together with cookies.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};

use super::Body;
use super::origin;
use super::paths::Operation;

/// Seconds for which a browser may cache a preflight answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The allowed origins.
pub(super) struct Cors {
    allowed: Vec<String>,
}

impl Cors {
    pub(super) fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// Origins besides the site's own.
    pub(super) fn allowed(&self) -> &[String] {
        &self.allowed
    }

    /// The answer to a preflight request; `None` for any other request, or for an origin that is not allowed.
    pub(super) fn preflight(
        &self,
        operation: Operation,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let is_preflight = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight || !operation.is_for_other_origins() {
            return None;
        }
        origin::allowed(headers, &self.allowed)?;
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(operation.methods()),
        );
        // Answers do not depend on request headers, so any that a page's library adds are allowed.
        if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        answer.insert(
            VARY,
            HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        );
        Some(response)
    }

    /// The origin that may read the answer to a request with `headers`; `None` if only the site's own pages may.
    pub(super) fn reader(&self, operation: Operation, headers: &HeaderMap) -> Option<HeaderValue> {
        let reader = origin::allowed(headers, &self.allowed).cloned();
        reader.filter(|_| operation.is_for_other_origins())
    }

    /// Allows the origin to read an answer, which varies with the origin.
    pub(super) fn let_read(&self, operation: Operation, reader: Option<HeaderValue>, answer: &mut HeaderMap) {
        if operation.is_for_other_origins() && !self.allowed.is_empty() {
            vary_by_origin(answer);
        }
        let Some(reader) = reader else {
            return;
        };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, reader);
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        answer.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Retry-After"),
        );
    }
}

fn vary_by_origin(answer: &mut HeaderMap) {
    let by = answer.get(VARY).and_then(|by| by.to_str().ok());
    let elements = by.unwrap_or_default().split(',').map(str::trim);
    if elements.clone().any(|name| name.eq_ignore_ascii_case("origin")) {
        return;
    }
    let names: Vec<_> = elements
        .filter(|name| !name.is_empty())
        .chain(["Origin"])
        .collect();
    // Names of headers: always a value.
    if let Ok(by) = HeaderValue::try_from(names.join(", ")) {
        answer.insert(VARY, by);
    }
}
