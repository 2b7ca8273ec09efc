//! What a browser needs of answers so that pages of other origins may read them (CORS): those that
//! `live.allowed_origins` names, with their visitors' cookies. Pure.
//!
//! An origin is told back where it is listed, each by itself: `*` is what browsers do not take together with cookies.

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, VARY,
};
use http::{Method, Response, StatusCode};

use super::origin;
use super::paths::Operation;

/// Seconds for which a browser need not ask again whether it may ask.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origins that are let in.
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

    /// The answer to a browser that asks, before it asks, whether a page may. `None` where something else is asked, or
    /// by a page that may not.
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
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(operation.methods()),
        );
        // No header changes what these answers do; which ones a page's library adds is its own affair.
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

    /// Who may read the answer to a request that came with `headers`; `None` for the site's own pages alone.
    pub(super) fn reader(&self, operation: Operation, headers: &HeaderMap) -> Option<HeaderValue> {
        let reader = origin::allowed(headers, &self.allowed).cloned();
        reader.filter(|_| operation.is_for_other_origins())
    }

    /// Lets the reader read an answer, which depends on who that is.
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
