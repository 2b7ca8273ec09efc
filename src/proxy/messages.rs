//! Message heads: what a request's or response's head states, and the status for a failed exchange. No state, no I/O.

use http::{HeaderName, HeaderValue, Version, header};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};

use super::canonical::one_length;
use crate::header_edits::{EditHeaders, HeaderEdits};
use crate::header_list::any_element;

/// A request body from this size on is sent on a connection of its own: app servers (gunicorn) close a connection on
/// which they left a larger body unread, though they announced keep-alive.
const LARGE_BODY: u64 = 64 * 1024;

/// Whether the app answers with an event stream, on which it may be silent for long.
pub(super) fn is_event_stream(response: &ResponseHeader) -> bool {
    let is_one = |kind: &[u8]| {
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    let kinds = response.headers.get_all(header::CONTENT_TYPE).iter();
    kinds
        .flat_map(|kinds| kinds.as_bytes().split(|byte| *byte == b','))
        .any(is_one)
}

/// Whether the client waits for the app's answer before it sends the body.
pub(super) fn expects_continue(request: &RequestHeader) -> bool {
    any_element(&request.headers, header::EXPECT, |expected| {
        expected == "100-continue"
    })
}

/// Whether no body follows the head, whatever the request's method.
pub(super) fn has_no_body(response: &ResponseHeader) -> bool {
    let is_empty = || one_length(&response.headers).is_some_and(|length| length == "0");
    matches!(response.status.as_u16(), 204 | 304) || is_empty()
}

impl EditHeaders for RequestHeader {
    fn remove(&mut self, name: &HeaderName) {
        self.remove_header(name);
    }

    fn set(&mut self, name: &'static HeaderName, value: HeaderValue) {
        // As a constant text: Pingora keeps the spelling of names, and copies that of a `HeaderName`. No valid name fails.
        let _ = self.insert_header(name.as_str(), value);
    }
}

/// Applies edits to a request's head.
pub(super) fn edit(head: &mut RequestHeader, edits: HeaderEdits) -> Result<()> {
    for name in edits.remove {
        head.remove_header(&name);
    }
    for (name, value) in edits.set {
        head.insert_header(name, value)?;
    }
    Ok(())
}

pub(super) fn has_large_body(request: &RequestHeader) -> bool {
    if request.headers.contains_key(header::TRANSFER_ENCODING) {
        return true;
    }
    let length = request
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|bytes| bytes >= LARGE_BODY)
}

/// Headers that concern only the connection to the app (RFC 9110, 7.6.1). Pingora strips them from requests,
/// not from responses; `Connection` itself and the framing are Pingora's.
pub(super) fn strip_hop_by_hop(response: &mut ResponseHeader) {
    let is_framings = |name: &str| {
        let framings = ["", "close", "keep-alive", "transfer-encoding"];
        framings.iter().any(|one| one.eq_ignore_ascii_case(name))
    };
    let named = |value: &HeaderValue| -> Vec<String> {
        if value == "keep-alive" || value == "close" {
            // As nearly all are.
            return Vec::new();
        }
        let names = value.to_str().unwrap_or_default().split(',').map(str::trim);
        names
            .filter(|name| !is_framings(name))
            .map(str::to_ascii_lowercase)
            .collect()
    };
    // Empty, and made without an allocation, where only the framing is named.
    let nominated = response
        .headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(named);
    for name in nominated.collect::<Vec<_>>() {
        response.remove_header(name.as_str());
    }
    let mut present = response.headers.keys();
    if present.any(|name| matches!(name.as_str(), "keep-alive" | "proxy-connection")) {
        response.remove_header("keep-alive");
        response.remove_header("proxy-connection");
    }
}

/// Turns a response into HTTP/1.1, whichever version the app speaks: its body is framed by us (RFC 9110, 6.2).
pub(super) fn in_our_version(response: &mut ResponseHeader) -> Result<()> {
    response.set_version(Version::HTTP_11);
    if let Some(length) = one_length(&response.headers) {
        response.insert_header(header::CONTENT_LENGTH, length)?;
    }
    let has_no_body = response.status.is_informational() || matches!(response.status.as_u16(), 204 | 304);
    if has_no_body {
        // There is no body that could be framed (RFC 9112, 6.1).
        response.remove_header(&header::TRANSFER_ENCODING);
    }
    let length = response.headers.get(header::CONTENT_LENGTH);
    let promises_a_body = length.is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'));
    if promises_a_body && response.status != 304 && has_no_body {
        response.remove_header(&header::CONTENT_LENGTH);
    }
    Ok(())
}

/// The status for a failure; 0 when the client has left.
pub(super) fn status_of(error: &Error) -> u16 {
    use ErrorType::{
        ConnectNoRoute, ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout, WriteError,
        WriteTimedout,
    };
    match (error.etype(), error.esource()) {
        (HTTPStatus(status), _) => *status,
        (ConnectTimedout, _) | (ReadTimedout | WriteTimedout, ErrorSource::Upstream) => 504,
        (ConnectNoRoute, _) | (_, ErrorSource::Upstream) => 502,
        (ReadTimedout, ErrorSource::Downstream) => 408,
        (WriteTimedout | WriteError | ReadError | ConnectionClosed, ErrorSource::Downstream) => 0,
        (_, ErrorSource::Downstream) => 400,
        (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
    }
}
