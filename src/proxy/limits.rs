//! Request limits: requests that the sidecar refuses itself, before the app sees them. Pure.

use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::forwarding::is_host;
use crate::metrics::label_values;

label_values! {
    /// Why a request is refused.
    pub enum Refusal as "reason" {
        /// HTTP/1.1 without exactly one `Host`, or an invalid one.
        Host => "host",
        /// The head is larger than `limits.max_header_bytes`.
        HeaderSize => "header_size",
        /// More headers than can be parsed.
        HeaderCount => "header_count",
        /// The head is not complete within `limits.header_timeout`. There is no answer, since the client is not reading.
        HeaderTimeout => "header_timeout",
        /// The body is larger than `limits.max_body_bytes`.
        BodySize => "body_size",
        /// The target is neither a path nor an absolute URL (`*` is allowed to OPTIONS).
        Path => "path",
        /// TRACE shows cookies to scripts, CONNECT asks for a tunnel to anywhere.
        Method => "method",
        /// It has passed this sidecar before, or too many sidecars.
        Loop => "loop",
        /// The head is not HTTP/1, or contradicts itself.
        Malformed => "malformed",
    }
}

impl Refusal {
    /// The answer's status.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Host | Self::Path | Self::Malformed => 400,
            Self::Method => 405,
            Self::HeaderTimeout => 408,
            Self::BodySize => 413,
            Self::HeaderSize | Self::HeaderCount => 431,
            Self::Loop => 508,
        }
    }

    /// The fault and its remedy, for the log.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Host => "HTTP/1.1 needs one Host header, with a name or an address in it",
            Self::HeaderSize => "its head is larger than limits.max_header_bytes",
            Self::HeaderCount => "it has more than 256 headers",
            Self::HeaderTimeout => "its head was not complete within limits.header_timeout",
            Self::BodySize => "its body is larger than limits.max_body_bytes",
            Self::Path => "its target is neither a path nor an http URL",
            Self::Method => "TRACE and CONNECT are not passed on",
            Self::Loop => {
                "it has passed here before: one of upstream.servers leads back to this sidecar; give the app's own address"
            }
            Self::Malformed => {
                "its head is not HTTP/1.0 or HTTP/1.1, or contradicts itself (TLS or HTTP/2 on a plain listener, \
                 two Host headers, contradicting lengths, a header without a colon)"
            }
        }
    }
}

/// The parts of a request's head that are checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestHead<'a> {
    /// Method.
    pub(super) method: &'a Method,
    /// Request target in canonical form: see [`super::canonical`].
    pub(super) target: &'a [u8],
    /// HTTP version.
    pub(super) version: Version,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
    /// Bytes of the head as sent.
    pub(super) bytes: usize,
}

/// Checks a request's head. `max_body` zero means no limit.
pub(super) fn check(head: &RequestHead<'_>, max_header: u64, max_body: u64) -> Result<(), Refusal> {
    if head.bytes as u64 > max_header {
        return Err(Refusal::HeaderSize);
    }
    let hosts = head.headers.get_all(header::HOST).iter().count();
    let is_host = |host: &HeaderValue| host.to_str().is_ok_and(is_host);
    if hosts > 1
        || (hosts == 0 && head.version == Version::HTTP_11)
        || !head.headers.get(header::HOST).is_none_or(is_host)
    {
        return Err(Refusal::Host);
    }
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    let asterisk = head.target == b"*" && head.method == Method::OPTIONS;
    if !(head.target.starts_with(b"/") || asterisk) {
        return Err(Refusal::Path);
    }
    let announced = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    if max_body > 0 && announced.is_some_and(|bytes| bytes > max_body) {
        return Err(Refusal::BodySize);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(target: &str, version: Version, headers: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let head = RequestHead {
            method: &Method::GET,
            target: target.as_bytes(),
            version,
            headers: &map,
            bytes: 100,
        };
        check(&head, 1000, 50)
    }

    #[test]
    fn http_1_1_needs_exactly_one_host() {
        assert_eq!(checked("/", Version::HTTP_11, &[("host", "a")]), Ok(()));
        assert_eq!(checked("/", Version::HTTP_11, &[]), Err(Refusal::Host));
        assert_eq!(
            checked("/", Version::HTTP_11, &[("host", "a"), ("host", "b")]),
            Err(Refusal::Host)
        );
        assert_eq!(checked("/", Version::HTTP_10, &[]), Ok(()));
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in [
            "site.test",
            "site.test:8080",
            "site.test:",
            "my_site",
            "127.0.0.1:1",
            "[::1]:8080",
            "[fe80::1%25eth0]",
        ] {
            assert_eq!(
                checked("/", Version::HTTP_11, &[("host", host)]),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "", ":80", "a b", "a/b", "a\\b", "a,b", "a..b", "a<b", "a:b", "a:99999", "[::1", "[a]b", "a?",
            "a#", "user@a",
        ] {
            let refused = Err(Refusal::Host);
            assert_eq!(
                checked("/", Version::HTTP_11, &[("host", host)]),
                refused,
                "{host}"
            );
            assert_eq!(
                checked("/", Version::HTTP_10, &[("host", host)]),
                refused,
                "{host}"
            );
        }
    }

    #[test]
    fn a_target_is_a_path() {
        let host = [("host", "a")];
        assert_eq!(checked("/x", Version::HTTP_11, &host), Ok(()));
        assert_eq!(checked("ftp://a/x", Version::HTTP_11, &host), Err(Refusal::Path));
        assert_eq!(checked("*", Version::HTTP_11, &host), Err(Refusal::Path));
        assert_eq!(checked("a:80", Version::HTTP_11, &host), Err(Refusal::Path));
    }

    #[test]
    fn an_announced_body_above_the_limit_is_refused() {
        let headers = |length| [("host", "a"), ("content-length", length)];
        assert_eq!(checked("/", Version::HTTP_11, &headers("50")), Ok(()));
        assert_eq!(
            checked("/", Version::HTTP_11, &headers("51")),
            Err(Refusal::BodySize)
        );
        let headers = HeaderMap::new();
        let head = RequestHead {
            method: &Method::GET,
            target: b"/",
            version: Version::HTTP_10,
            headers: &headers,
            bytes: 1001,
        };
        assert_eq!(check(&head, 1000, 0), Err(Refusal::HeaderSize));
    }
}
