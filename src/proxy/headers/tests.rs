//! Tests of the request headers that the app gets.

use proptest::prelude::*;

use super::*;
use crate::proxy::client_ip::Hop;

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
fn identity_headers_come_only_from_trusted_proxies_and_only_where_configured() {
    let others = [
        "X-Forwarded-User",
        "X-Forwarded-Email",
        "X-Forwarded-Client-Cert",
        "X-Auth-Request-Email",
        "X-Authenticated-User",
        "X-Remote-User",
        "Remote-User",
        "X-Client-Cert",
        "X-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "SSL-Client-Verify",
        "Cf-Access-Jwt-Assertion",
    ];
    let of_proxies = include_str!("../../../tests/integration/support/identity_headers.txt");
    for name in of_proxies.lines().chain(others) {
        for trusted in [TRUSTED, UNTRUSTED] {
            let mut claim = request(trusted, &[(name, "x")]);
            claim.underscores = true;
            assert_eq!(claim.value(name), None, "{name}");
            claim.identity_headers = vec!["X-Other".into(), format!("{name}s")];
            assert_eq!(claim.value(name), None, "{name}");
            for configured in [name.into(), name.to_uppercase(), name.to_lowercase()] {
                claim.identity_headers = vec!["X-Other".into(), configured];
                assert_eq!(claim.value(name).is_some(), trusted, "{name}");
            }
        }
    }
}

#[test]
fn any_header_that_is_configured_as_identity_is_stripped_from_all_but_trusted_proxies() {
    for (trusted, name, passes) in [
        (TRUSTED, "x-staff-name", true),
        (UNTRUSTED, "x-staff-name", false),
        // WSGI treats these as the above.
        (TRUSTED, "x_staff_name", false),
        (TRUSTED, "x-staff_name", false),
        (UNTRUSTED, "x_staff_name", false),
        (UNTRUSTED, "x-staff-names", true),
    ] {
        let mut claim = request(trusted, &[(name, "alice")]);
        claim.underscores = true;
        claim.identity_headers = vec!["X-Staff-Name".into()];
        assert_eq!(claim.value(name).is_some(), passes, "{trusted} {name}");
    }
}

#[test]
fn names_that_wsgi_takes_for_others_are_stripped_from_everybody() {
    for name in [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded_Proto",
        "X_Real_IP",
        "X_Request_Id",
        "X_Headcount_Recorded",
        "X_Headcount_User",
        "Remote_User",
        "SCRIPT_NAME",
        "PATH_INFO",
        "X-Headcount-User",
        "X-Headcount",
        "Proxy",
    ] {
        for trusted in [TRUSTED, UNTRUSTED] {
            let mut claim = request(trusted, &[(name, "x")]);
            assert_eq!(claim.value(name), None, "{name}");
            claim.underscores = true;
            assert_eq!(claim.value(name), None, "{name}");
        }
    }
}

#[test]
fn e15_names_with_underscores_pass_only_where_that_is_configured() {
    for trusted in [TRUSTED, UNTRUSTED] {
        let mut request = request(trusted, &[("api_key", "x")]);
        assert_eq!(request.value("api_key"), None);
        request.underscores = true;
        assert_eq!(request.value("api_key").as_deref(), Some("x"));
    }
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

/// Headers of a trusted proxy, whose `X-Forwarded-For` has the client at this position.
fn told(hop: Option<(usize, usize)>, headers: &[(&str, &str)]) -> Request {
    let mut request = request(TRUSTED, headers);
    request.client.hop = hop.map(|(at, of)| Hop { at, of });
    request
}

#[test]
fn e10_one_fact_is_told_in_one_way_whatever_spelling_it_comes_in() {
    for (spelling, value, written) in [
        ("x-forwarded-proto", "https", "https"),
        ("x-forwarded-proto", "HTTPS", "https"),
        ("x-forwarded-proto", "wss", "https"),
        ("x-forwarded-ssl", "on", "on"),
        ("x-forwarded-ssl", "On", "on"),
        ("x-forwarded-ssl", "1", "on"),
        ("x-scheme", "https", "https"),
        ("x-url-scheme", "https", "https"),
        ("x-forwarded-scheme", "https", "https"),
        ("x-forwarded-protocol", "ssl", "ssl"),
        ("front-end-https", "On", "On"),
        (
            "forwarded",
            "proto=https;for=203.0.113.9",
            "for=203.0.113.9;proto=https;host=\"site.test\", for=10.0.0.1",
        ),
        (
            "forwarded",
            "For=\"203.0.113.9:4711\"; Proto=\"https\"",
            "for=203.0.113.9;proto=https;host=\"site.test\", for=10.0.0.1",
        ),
    ] {
        let request = told(Some((0, 1)), &[("host", "site.test"), (spelling, value)]);
        let proto = request.value("x-forwarded-proto");
        assert_eq!(proto.as_deref(), Some("https"), "{spelling}: {value}");
        assert_eq!(
            request.value(spelling).as_deref(),
            Some(written),
            "{spelling}: {value}"
        );
    }
}

#[test]
fn e10_spellings_that_contradict_the_first_are_taken_away() {
    let both = told(
        None,
        &[
            ("x-forwarded-proto", "https"),
            ("x-forwarded-ssl", "off"),
            ("x-scheme", "http"),
            ("x-url-scheme", "gopher"),
            ("front-end-https", "on"),
        ],
    );
    assert_eq!(both.value("x-forwarded-proto").as_deref(), Some("https"));
    for name in ["x-forwarded-ssl", "x-scheme", "x-url-scheme"] {
        assert_eq!(both.value(name), None, "{name}");
    }
    assert_eq!(both.value("front-end-https").as_deref(), Some("on"));
    // An invalid value leaves the decision to the next header.
    let odd = told(
        None,
        &[("x-forwarded-proto", "https/1.1"), ("x-forwarded-ssl", "on")],
    );
    assert_eq!(odd.value("x-forwarded-proto").as_deref(), Some("https"));
    // gunicorn refuses `https` there beside `X-Forwarded-Proto: https`.
    let protocol = told(None, &[("x-forwarded-protocol", "https")]);
    assert_eq!(protocol.value("x-forwarded-protocol").as_deref(), Some("https"));
    assert_eq!(protocol.value("x-forwarded-proto"), None);
    let both = told(
        None,
        &[("x-forwarded-protocol", "https"), ("x-forwarded-proto", "https")],
    );
    assert_eq!(both.value("x-forwarded-protocol"), None);
    assert_eq!(both.value("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn e11_of_a_list_the_clients_element_counts() {
    for (hop, list, scheme) in [
        // As long as the list of addresses: the element at the client's position.
        (Some((0, 2)), "https, http", "https"),
        (Some((1, 2)), "https, http", "http"),
        (Some((1, 2)), "http,HTTPS", "https"),
        // Of another length: the first.
        (Some((0, 1)), "https,http", "https"),
        (Some((2, 3)), "http, https", "http"),
        (None, "https, http", "https"),
        // Empty elements are dropped.
        (Some((1, 2)), "http, , https,", "https"),
    ] {
        let request = told(hop, &[("x-forwarded-proto", list)]);
        let proto = request.value("x-forwarded-proto");
        assert_eq!(proto.as_deref(), Some(scheme), "{hop:?} {list}");
    }
    let several = told(
        Some((1, 2)),
        &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")],
    );
    assert_eq!(several.value("x-forwarded-proto").as_deref(), Some("https"));
    let host = told(
        Some((1, 2)),
        &[
            ("host", "internal"),
            ("x-forwarded-host", "evil.test, site.test:8443"),
        ],
    );
    assert_eq!(host.value("x-forwarded-host").as_deref(), Some("site.test:8443"));
    let port = told(None, &[("x-forwarded-port", "8443, 80")]);
    assert_eq!(port.value("x-forwarded-port").as_deref(), Some("8443"));
    assert_eq!(
        told(None, &[("x-forwarded-port", "443/tcp")]).value("x-forwarded-port"),
        None
    );
}

#[test]
fn e12_forwarded_of_another_client_is_not_believed() {
    // The proxy writes `X-Forwarded-For`, and passes on `Forwarded` as its client wrote it.
    let passed_on = told(
        Some((0, 1)),
        &[
            ("host", "site.test"),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=127.0.0.1;proto=https;host=evil.test"),
        ],
    );
    assert_eq!(passed_on.value("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(passed_on.value("x-forwarded-host").as_deref(), Some("site.test"));
    let written = "for=203.0.113.9;proto=http;host=\"site.test\", for=10.0.0.1";
    assert_eq!(passed_on.value("forwarded").as_deref(), Some(written));
}

#[test]
fn e11_what_is_not_understood_is_told() {
    let odd = |headers| {
        let request = told(None, headers);
        not_understood(&request.headers, &request.client)
            .map(|(name, value)| (name.to_string(), value.to_owned()))
    };
    assert_eq!(
        odd(&[("x-forwarded-proto", "gopher")]),
        Some(("x-forwarded-proto".into(), "gopher".into()))
    );
    assert_eq!(
        odd(&[("x-forwarded-port", "0")]),
        Some(("x-forwarded-port".into(), "0".into()))
    );
    assert_eq!(
        odd(&[("x-forwarded-host", "a/b")]),
        Some(("x-forwarded-host".into(), "a/b".into()))
    );
    assert_eq!(
        odd(&[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "a:80")]),
        None
    );
    let client = request(UNTRUSTED, &[("x-forwarded-proto", "gopher")]);
    assert_eq!(not_understood(&client.headers, &client.client), None);
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
