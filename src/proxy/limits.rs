//! Requests that the sidecar refuses itself, before the app sees them. Pure.

use http::{HeaderMap, Method, Version, header};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// HTTP/1.1 without exactly one `Host`.
    Host,
    /// The head is larger than `limits.max_header_bytes`.
    HeaderSize,
    /// The body is larger than `limits.max_body_bytes`.
    BodySize,
    /// The target is neither a path nor an absolute URL (`*` is allowed to OPTIONS).
    Path,
}

impl Refusal {
    /// The answer's status.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Host | Self::Path => 400,
            Self::BodySize => 413,
            Self::HeaderSize => 431,
        }
    }

    /// Value of the `reason` label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::HeaderSize => "header_size",
            Self::BodySize => "body_size",
            Self::Path => "path",
        }
    }
}

/// The head of a request, as far as limits go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// Method.
    pub(super) method: &'a Method,
    /// Request target as sent.
    pub(super) target: &'a [u8],
    /// HTTP version.
    pub(super) version: Version,
    /// Headers.
    pub(super) headers: &'a HeaderMap,
    /// Bytes of the head as sent.
    pub(super) bytes: usize,
}

/// Checks a request's head. `max_body` zero means no limit.
pub(super) fn check(head: &Head<'_>, max_header: u64, max_body: u64) -> Result<(), Refusal> {
    if head.bytes as u64 > max_header {
        return Err(Refusal::HeaderSize);
    }
    let hosts = head.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        return Err(Refusal::Host);
    }
    let absolute = head.target.starts_with(b"http://") || head.target.starts_with(b"https://");
    let asterisk = head.target == b"*" && head.method == Method::OPTIONS;
    if !(head.target.starts_with(b"/") || absolute || asterisk) {
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
        let head = Head {
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
    fn a_target_is_a_path_or_a_url() {
        let host = [("host", "a")];
        assert_eq!(checked("http://a/x", Version::HTTP_11, &host), Ok(()));
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
        let head = Head {
            method: &Method::GET,
            target: b"/",
            version: Version::HTTP_10,
            headers: &headers,
            bytes: 1001,
        };
        assert_eq!(check(&head, 1000, 0), Err(Refusal::HeaderSize));
    }
}
