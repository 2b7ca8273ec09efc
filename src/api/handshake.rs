//! Reads a request for a live connection: a `WebSocket`, an event stream, or neither. Pure.

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::problem::Problem;
use crate::header_list::any_element;
use crate::live::{Framing, Protocol};

/// The result, from which the answer is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) kind: Protocol,
    /// `Sec-WebSocket-Accept`
    pub(super) accept: Option<HeaderValue>,
    /// Whether the client speaks [`PROTOCOL`], which is then the answer.
    pub(super) speaks_protocol: bool,
}

/// The subprotocol of the messages. A client that sends its JWT as another one needs it: the browser asks for an answer.
pub(super) const PROTOCOL: &str = "headcount";

impl Handshake {
    /// Reads a request's head.
    pub(super) fn read(method: &Method, version: Version, headers: &HeaderMap) -> Result<Self, Problem> {
        if method != Method::GET {
            return Err(Problem::MethodNotAllowed);
        }
        if has_body(headers) {
            return Err(Problem::BadRequest("A handshake has no body.".into()));
        }
        if asks_for_web_socket(headers) {
            return Self::web_socket(version, headers);
        }
        if asks_for_events(method, headers) {
            let framing = if version == Version::HTTP_11 {
                Framing::Chunked
            } else {
                Framing::UntilClose
            };
            return Ok(Self {
                kind: Protocol::Events(framing),
                accept: None,
                speaks_protocol: false,
            });
        }
        Err(Problem::NotAcceptable)
    }

    fn web_socket(version: Version, headers: &HeaderMap) -> Result<Self, Problem> {
        let malformed = |what: &'static str| Problem::BadRequest(what.into());
        if version != Version::HTTP_11 || !any_element(headers, CONNECTION, |element| element == "upgrade") {
            return Err(malformed(
                "A WebSocket handshake is HTTP/1.1 with Connection: Upgrade.",
            ));
        }
        if only(headers, SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Problem::UpgradeRequired);
        }
        let key = only(headers, SEC_WEBSOCKET_KEY).filter(|key| is_key(key));
        let key = key.ok_or_else(|| malformed("Sec-WebSocket-Key must be 16 bytes in base64."))?;
        Ok(Self {
            kind: Protocol::WebSocket,
            accept: HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok(),
            speaks_protocol: any_element(headers, SEC_WEBSOCKET_PROTOCOL, |element| element == PROTOCOL),
        })
    }
}

/// Whether the request asks for an event stream.
pub(super) fn asks_for_events(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET
        && !asks_for_web_socket(headers)
        && any_element(headers, ACCEPT, |element| element == "text/event-stream")
}

fn asks_for_web_socket(headers: &HeaderMap) -> bool {
    any_element(headers, UPGRADE, |element| element == "websocket")
}

/// Whether the head announces a body; its length was validated before.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    headers.contains_key(TRANSFER_ENCODING)
        || length.is_some_and(|length| length.iter().any(|digit| *digit != b'0'))
}

fn is_key(key: &str) -> bool {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::STANDARD.decode(key);
    decoded.is_ok_and(|bytes| bytes.len() == 16)
}

/// The value of a header that occurs once.
fn only(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next()?.to_str().ok()?.trim();
    values.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    /// The example of RFC 6455.
    const WEB_SOCKET: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Handshake, Problem> {
        Handshake::read(&Method::GET, Version::HTTP_11, &headers(pairs))
    }

    #[test]
    fn a_web_socket_handshake_gets_its_key_back() {
        let handshake = read(&WEB_SOCKET).unwrap();
        assert_eq!(handshake.kind, Protocol::WebSocket);
        assert_eq!(handshake.accept.unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!handshake.speaks_protocol);
    }

    #[test]
    fn i28_a_client_that_offers_the_protocol_gets_it() {
        for (offered, is_spoken) in [
            ("headcount, bearer.a.b.c", true),
            ("bearer.a.b.c, headcount", true),
            ("chat", false),
            ("bearer.a.b.c", false),
        ] {
            let mut pairs = WEB_SOCKET.to_vec();
            pairs.push(("sec-websocket-protocol", offered));
            assert_eq!(read(&pairs).unwrap().speaks_protocol, is_spoken, "{offered}");
        }
    }

    #[test]
    fn a_handshake_with_anything_missing_or_wrong_is_refused() {
        let without = |left_out: usize| {
            let mut pairs = WEB_SOCKET.to_vec();
            pairs.remove(left_out);
            read(&pairs)
        };
        assert_eq!(without(0), Err(Problem::NotAcceptable));
        assert!(matches!(without(1), Err(Problem::BadRequest(_))));
        assert_eq!(without(2), Err(Problem::UpgradeRequired));
        assert!(matches!(without(3), Err(Problem::BadRequest(_))));
        for (place, value) in [
            (3, "c2hvcnQ="),
            (3, "dGhlIHNhbXBsZSBub25jZQ"),
            (3, "not base64!!"),
        ] {
            let mut pairs = WEB_SOCKET;
            pairs[place].1 = value;
            assert!(matches!(read(&pairs), Err(Problem::BadRequest(_))), "{value}");
        }
        let mut old = WEB_SOCKET;
        old[2].1 = "8";
        assert_eq!(read(&old), Err(Problem::UpgradeRequired));
        let mut twice = WEB_SOCKET.to_vec();
        twice.push(("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(matches!(read(&twice), Err(Problem::BadRequest(_))));
        let of_1_0 = Handshake::read(&Method::GET, Version::HTTP_10, &headers(&WEB_SOCKET));
        assert!(matches!(of_1_0, Err(Problem::BadRequest(_))));
    }

    #[test]
    fn an_event_stream_is_asked_for_by_accept() {
        let kind = |version| {
            let headers = headers(&[("accept", "application/json;q=0.1, Text/Event-Stream;q=0.9")]);
            Handshake::read(&Method::GET, version, &headers).unwrap().kind
        };
        assert_eq!(kind(Version::HTTP_11), Protocol::Events(Framing::Chunked));
        assert_eq!(kind(Version::HTTP_10), Protocol::Events(Framing::UntilClose));
    }

    #[test]
    fn who_asks_for_neither_gets_neither() {
        for pairs in [
            &[][..],
            &[("accept", "*/*")],
            &[("accept", "text/html")],
            &[("upgrade", "h2c")],
        ] {
            assert_eq!(read(pairs), Err(Problem::NotAcceptable));
        }
        let head = Handshake::read(&Method::HEAD, Version::HTTP_11, &headers(&WEB_SOCKET));
        assert_eq!(head, Err(Problem::MethodNotAllowed));
    }
}
