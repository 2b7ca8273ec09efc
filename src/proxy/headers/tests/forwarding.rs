//! Tests of forwarding headers that trusted proxies send: one fact in several spellings, and in lists.

use super::*;
use crate::proxy::client_ip::Hop;

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
