//! Tests of the request headers that the app gets.

mod forwarding;
mod identity;

use proptest::prelude::*;

use super::*;

const TRUSTED: bool = true;
const UNTRUSTED: bool = false;

struct Request {
    headers: HeaderMap,
    client: ClientIp,
    identity_headers: Vec<String>,
    underscores: bool,
    tls: bool,
    recording: bool,
}

fn request(trusted: bool, headers: &[(&str, &str)]) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let ips: &[&str] = if trusted {
        &["203.0.113.9", "10.0.0.1"]
    } else {
        &["203.0.113.9"]
    };
    let chain: Vec<_> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Request {
        headers: map,
        client: ClientIp {
            ip: chain.first().copied(),
            peer_trusted: trusted,
            peer_is_sidecar: false,
            chain,
            hop: None,
        },
        identity_headers: Vec::new(),
        underscores: false,
        tls: false,
        recording: true,
    }
}

impl Request {
    fn upstream(&self) -> HeaderMap {
        let received = Received {
            client: &self.client,
            identity_headers: &self.identity_headers,
            underscores: self.underscores,
            tls: self.tls,
            hops: &HeaderValue::from_static("0123456789abcdef"),
            recording: self.recording,
            new_request_id: "new-id",
        };
        let mut headers = self.headers.clone();
        edit_for_app(&self.headers, &mut headers, &received);
        headers
    }

    fn value(&self, name: &str) -> Option<String> {
        let headers = self.upstream();
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert!(values.len() < 2, "{name}: {values:?}");
        values.first().map(ToString::to_string)
    }
}

#[test]
fn the_app_learns_what_a_good_reverse_proxy_tells() {
    let mut plain = request(UNTRUSTED, &[("host", "site.example"), ("accept", "*/*")]);
    let expected = [
        ("host", "site.example"),
        ("accept", "*/*"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "site.example"),
        ("x-request-id", "new-id"),
        ("x-headcount-recorded", "1"),
        ("x-headcount-hops", "0123456789abcdef"),
    ];
    for (name, value) in expected {
        assert_eq!(plain.value(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(plain.upstream().len(), expected.len());
    plain.tls = true;
    assert_eq!(plain.value("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn what_an_untrusted_client_claims_is_replaced() {
    let lies = request(
        UNTRUSTED,
        &[
            ("host", "site.example"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-request-id", "client-id"),
        ],
    );
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "site.example"),
        ("x-request-id", "new-id"),
    ] {
        assert_eq!(lies.value(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_kept() {
    let through = request(
        TRUSTED,
        &[
            ("host", "internal"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "site.example"),
            ("x-forwarded-port", "443"),
            ("x-request-id", "lb-0190a1b2/7"),
        ],
    );
    for (name, value) in [
        // Without the entries that the client made up, with the peer.
        ("x-forwarded-for", "203.0.113.9, 10.0.0.1"),
        ("x-real-ip", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "site.example"),
        ("x-forwarded-port", "443"),
        ("x-request-id", "lb-0190a1b2/7"),
        ("host", "internal"),
    ] {
        assert_eq!(through.value(name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn a_trusted_proxys_malformed_word_is_not_kept() {
    for id in ["", "a b", "a,b", "<script>", "a;b", &"x".repeat(129)] {
        let request = request(TRUSTED, &[("x-request-id", id)]);
        assert_eq!(request.value("x-request-id").as_deref(), Some("new-id"), "{id}");
    }
    let two = request(TRUSTED, &[("x-request-id", "a"), ("x-request-id", "b")]);
    assert_eq!(two.value("x-request-id").as_deref(), Some("new-id"));
    assert_eq!(
        request(TRUSTED, &[("x-request-id", &"x".repeat(128))]).value("x-request-id"),
        Some("x".repeat(128))
    );
    for scheme in ["ftp", "https\"", "h2", ""] {
        let request = request(TRUSTED, &[("x-forwarded-proto", scheme)]);
        assert_eq!(
            request.value("x-forwarded-proto").as_deref(),
            Some("http"),
            "{scheme}"
        );
    }
    for host in ["evil/x", "a b", ""] {
        let request = request(TRUSTED, &[("host", "site.example"), ("x-forwarded-host", host)]);
        assert_eq!(
            request.value("x-forwarded-host").as_deref(),
            Some("site.example"),
            "{host}"
        );
    }
}

#[test]
fn forwarding_headers_come_only_from_trusted_proxies() {
    for (name, value) in [
        ("X-Forwarded-Port", "8443"),
        ("X-Forwarded-Ssl", "on"),
        ("X-Forwarded-Prefix", "/below"),
        ("X-Script-Name", "/below"),
        ("X-Original-Forwarded-For", "x"),
        ("X-Scheme", "https"),
        ("Front-End-Https", "on"),
    ] {
        assert_eq!(request(UNTRUSTED, &[(name, value)]).value(name), None, "{name}");
        let through = request(TRUSTED, &[(name, value)]);
        assert_eq!(through.value(name).as_deref(), Some(value), "{name}");
    }
    let told = [("forwarded", "for=203.0.113.9;proto=https")];
    assert_eq!(request(UNTRUSTED, &told).value("forwarded"), None);
}

#[test]
fn everything_else_passes_unchanged() {
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("x-requested-with", "XMLHttpRequest"),
        ("x-csrftoken", "x"),
        ("x-http-method-override", "PUT"),
        ("traceparent", "00-x-y-01"),
        ("cookie", "a=b; c=d"),
        ("via", "1.1 proxy"),
    ] {
        assert_eq!(
            request(UNTRUSTED, &[(name, value)]).value(name).as_deref(),
            Some(value),
            "{name}"
        );
    }
}

#[test]
fn v8_the_recorded_mark_is_believed_only_from_a_sidecar() {
    const SIDECAR: bool = true;
    for (trusted, sidecar, value, elsewhere) in [
        (TRUSTED, SIDECAR, "1", true),
        (UNTRUSTED, SIDECAR, "1", true),
        (TRUSTED, SIDECAR, "0", false),
        (TRUSTED, SIDECAR, "", false),
        // A trusted proxy may pass on what a client wrote.
        (TRUSTED, !SIDECAR, "1", false),
        (UNTRUSTED, !SIDECAR, "1", false),
    ] {
        let mut request = request(trusted, &[("x-headcount-recorded", value)]);
        request.client.peer_is_sidecar = sidecar;
        assert_eq!(recorded_elsewhere(&request.headers, &request.client), elsewhere);
        request.recording = false;
        assert_eq!(request.value("x-headcount-recorded").is_some(), elsewhere);
        request.recording = true;
        assert_eq!(request.value("x-headcount-recorded").as_deref(), Some("1"));
    }
}

#[test]
fn i7_several_cookie_headers_reach_the_app_as_one() {
    let several = request(UNTRUSTED, &[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
    assert_eq!(several.value("cookie").as_deref(), Some("a=1; b=2; c=3"));
}

#[test]
fn a_client_without_address_claims_none() {
    let mut local = request(
        UNTRUSTED,
        &[("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")],
    );
    local.client = ClientIp::default();
    assert_eq!(
        (local.value("x-forwarded-for"), local.value("x-real-ip")),
        (None, None)
    );
    assert_eq!(local.value("x-forwarded-host"), None);
}

proptest! {
    #[test]
    fn any_headers_are_edited_without_panic_and_lies_do_not_pass(
        headers in proptest::collection::vec(("[a-zA-Z_-]{1,20}|[xX][-_]forwarded[-_][a-z]{1,5}",
            proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
    ) {
        let mut request = request(UNTRUSTED, &[]);
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
            {
                request.headers.append(name, value);
            }
        }
        let upstream = request.upstream();
        let forwarded: Vec<&str> = upstream
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| name.contains('_') || name.starts_with("x-forwarded-"))
            .collect();
        for name in forwarded {
            prop_assert!(["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"].contains(&name));
        }
    }
}
