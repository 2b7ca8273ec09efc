//! Tests of the client's address behind trusted and untrusted proxies.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn x_forwarded_for(values: &[&[u8]]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(&X_FORWARDED_FOR, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

/// Peer 10.0.0.1, trusted: 10.0.0.0/8 and 192.168.7.7.
fn behind_proxies(values: &[&[u8]]) -> String {
    let trusted = nets(&["10.0.0.0/8", "192.168.7.7/32", "fd00::/8"]);
    let client = client_ip("10.0.0.1".parse().ok(), &x_forwarded_for(values), &trusted, &[]);
    assert!(client.peer_trusted);
    client.ip.unwrap().to_string()
}

#[test]
fn i8_an_untrusted_peer_is_the_client_whatever_it_says() {
    let headers = x_forwarded_for(&[b"1.1.1.1, 10.0.0.5"]);
    let peer: IpAddr = "203.0.113.9".parse().unwrap();
    for trusted in [nets(&[]), nets(&["10.0.0.0/8"]), nets(&["::/0"])] {
        let client = client_ip(Some(peer), &headers, &trusted, &[]);
        assert_eq!(
            client,
            ClientIp {
                ip: Some(peer),
                peer_trusted: false,
                peer_is_sidecar: false,
                chain: vec![peer],
                hop: None,
            }
        );
    }
}

#[test]
fn i8_the_chain_is_walked_from_the_right_over_trusted_networks() {
    let expected: &[(&[&[u8]], &str)] = &[
        (&[], "10.0.0.1"),
        (&[b""], "10.0.0.1"),
        (&[b"203.0.113.9"], "203.0.113.9"),
        // The client can write anything into the first entry.
        (&[b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (&[b"10.0.0.7, 203.0.113.9"], "203.0.113.9"),
        (&[b"1.1.1.1, 203.0.113.9, 10.0.0.2, 192.168.7.7"], "203.0.113.9"),
        (&[b"1.1.1.1,203.0.113.9,192.168.7.8,10.0.0.2"], "192.168.7.8"),
        // All trusted: the furthest one.
        (&[b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // Several headers count in their order.
        (&[b"1.1.1.1, 203.0.113.9", b"10.0.0.2"], "203.0.113.9"),
        (&[b"203.0.113.9, 10.0.0.2", b"198.51.100.4"], "198.51.100.4"),
        // Empty entries are dropped.
        (&[b"203.0.113.9, ,10.0.0.2,,"], "203.0.113.9"),
        // Ports, brackets, zones, mapped addresses.
        (&[b"203.0.113.9:4711"], "203.0.113.9"),
        (&[b"203.0.113.9, 10.0.0.2:80"], "203.0.113.9"),
        (&[b"2001:db8::5"], "2001:db8::5"),
        (&[b"[2001:db8::5]"], "2001:db8::5"),
        (&[b"[2001:db8::5]:443, [fd00::1]:80"], "2001:db8::5"),
        (&[b"fe80::1%eth0"], "fe80::1"),
        (&[b"[fe80::1%25eth0]:80"], "fe80::1"),
        (&[b"::ffff:203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        (&[b"[::ffff:203.0.113.9]:80"], "203.0.113.9"),
    ];
    for (values, ip) in expected {
        assert_eq!(&behind_proxies(values), ip, "{values:?}");
    }
}

#[test]
fn i8_the_walk_stops_at_garbage_with_the_last_good_address() {
    for garbage in [
        &b"unknown"[..],
        b"_hidden",
        b"\"203.0.113.9\"",
        b"203.0.113.9:port",
        b"203.0.113.9:99999",
        b"203.0.113.9:",
        b"203.0.113.9:+80",
        b"203.0.113",
        b"203.0.113.09",
        b"203.0.113.9 10.0.0.3",
        b"for=203.0.113.9",
        b"[2001:db8::5",
        b"[2001:db8::5]443",
        b"[203.0.113.9]",
        b"2001:db8::5%",
        b"\xff\xfe",
    ] {
        let chain = [b"1.1.1.1, ", garbage, b", 10.0.0.2"].concat();
        let ip = behind_proxies(&[&chain]);
        assert_eq!(ip, "10.0.0.2", "{:?}", String::from_utf8_lossy(garbage));
    }
}

#[test]
fn w4_ipv4_mapped_peers_are_their_ipv4_selves_also_for_trust() {
    let headers = x_forwarded_for(&[b"203.0.113.9"]);
    for trusted in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:a00:1/128"] {
        for peer in ["10.0.0.1", "::ffff:10.0.0.1"] {
            let client = client_ip(peer.parse().ok(), &headers, &nets(&[trusted]), &[]);
            assert_eq!(client.ip, "203.0.113.9".parse().ok(), "{peer} {trusted}");
            assert_eq!(client.chain[1].to_string(), "10.0.0.1");
        }
    }
}

#[test]
fn the_chain_leaves_out_what_nobody_vouches_for() {
    let trusted = nets(&["10.0.0.0/8"]);
    let headers = x_forwarded_for(&[b"6.6.6.6, 203.0.113.9:1, 10.0.0.2"]);
    let client = client_ip("10.0.0.1".parse().ok(), &headers, &trusted, &[]);
    let chain: Vec<String> = client.chain.iter().map(ToString::to_string).collect();
    assert_eq!(chain, ["203.0.113.9", "10.0.0.2", "10.0.0.1"]);
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn e12_a_trusted_proxy_is_believed_in_other_spellings_where_there_is_no_x_forwarded_for() {
    let trusted = nets(&["10.0.0.0/8"]);
    let found = |pairs: &[(&'static str, &'static str)]| {
        let client = client_ip("10.0.0.1".parse().ok(), &headers(pairs), &trusted, &[]);
        client.ip.unwrap().to_string()
    };
    for (pairs, ip) in [
        (&[("x-real-ip", "203.0.113.9")][..], "203.0.113.9"),
        (&[("x-real-ip", "[2001:db8::5]:80")], "2001:db8::5"),
        (&[("forwarded", "for=203.0.113.9")], "203.0.113.9"),
        (
            &[(
                "forwarded",
                "for=6.6.6.6, for=203.0.113.9;proto=https, For=\"10.0.0.2:80\"",
            )],
            "203.0.113.9",
        ),
        (&[("forwarded", "for=\"[2001:db8::5]:443\"")], "2001:db8::5"),
        // The first header that is present decides.
        (
            &[("x-forwarded-for", "203.0.113.9"), ("x-real-ip", "6.6.6.6")],
            "203.0.113.9",
        ),
        (
            &[("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=6.6.6.6")],
            "203.0.113.9",
        ),
        (
            &[("forwarded", "for=203.0.113.9"), ("x-real-ip", "6.6.6.6")],
            "203.0.113.9",
        ),
        (
            &[("forwarded", "proto=https"), ("x-real-ip", "203.0.113.9")],
            "203.0.113.9",
        ),
        // A text that is no address names no client.
        (&[("x-real-ip", "unknown")], "10.0.0.1"),
        (&[("x-real-ip", "203.0.113.9, 203.0.113.10")], "10.0.0.1"),
        (&[("forwarded", "for=_hidden, for=unknown")], "10.0.0.1"),
        (&[("forwarded", "for=203.0.113.9, proto=http")], "10.0.0.1"),
        (
            &[("x-forwarded-for", "unknown"), ("x-real-ip", "203.0.113.9")],
            "10.0.0.1",
        ),
    ] {
        assert_eq!(found(pairs), ip, "{pairs:?}");
    }
    let untrusted = client_ip(
        "203.0.113.1".parse().ok(),
        &headers(&[("x-real-ip", "6.6.6.6")]),
        &trusted,
        &[],
    );
    assert_eq!(untrusted.ip, "203.0.113.1".parse().ok());
}

#[test]
fn e11_the_clients_place_in_the_list_is_known() {
    let trusted = nets(&["10.0.0.0/8"]);
    for (list, hop) in [
        ("203.0.113.9", Some((0, 1))),
        ("6.6.6.6, 203.0.113.9", Some((1, 2))),
        ("6.6.6.6, 203.0.113.9, 10.0.0.2", Some((1, 3))),
        ("unknown, 10.0.0.2", Some((1, 2))),
        ("unknown", None),
    ] {
        let client = client_ip(
            "10.0.0.1".parse().ok(),
            &x_forwarded_for(&[list.as_bytes()]),
            &trusted,
            &[],
        );
        assert_eq!(client.hop, hop.map(|(at, of)| Hop { at, of }), "{list}");
    }
}

#[test]
fn a_connection_without_address_has_no_client_and_is_not_trusted() {
    let everybody = nets(&["0.0.0.0/0", "::/0"]);
    let client = client_ip(None, &x_forwarded_for(&[b"203.0.113.9"]), &everybody, &everybody);
    assert_eq!(client, ClientIp::default());
}

#[test]
fn v8_a_sidecar_is_the_peer_itself_and_no_trusted_proxy_by_that() {
    let headers = x_forwarded_for(&[b"203.0.113.9, 10.0.0.5"]);
    let (proxies, sidecars) = (nets(&["10.0.0.0/24"]), nets(&["10.0.0.5/32", "10.0.1.0/24"]));
    for (peer, peer_trusted, peer_is_sidecar) in [
        ("10.0.0.5", true, true),
        ("::ffff:10.0.0.5", true, true),
        // Behind it is a sidecar, but the header that it passes on may be anyone's.
        ("10.0.0.1", true, false),
        ("10.0.1.1", false, true),
        ("203.0.113.9", false, false),
    ] {
        let client = client_ip(peer.parse().ok(), &headers, &proxies, &sidecars);
        assert_eq!(client.peer_trusted, peer_trusted, "{peer}");
        assert_eq!(client.peer_is_sidecar, peer_is_sidecar, "{peer}");
    }
}

#[test]
fn an_endless_chain_is_cut() {
    let headers = x_forwarded_for(&["10.0.0.2, ".repeat(10_000).as_bytes()]);
    let client = client_ip("10.0.0.1".parse().ok(), &headers, &nets(&["10.0.0.0/8"]), &[]);
    assert_eq!(client.chain.len(), MAX_HOPS);
}

proptest! {
    #[test]
    fn any_header_is_walked_without_panic_and_yields_a_client(
        values in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..60),
                "(10\\.0\\.0\\.[0-9]{1,3}|[0-9a-f:.%\\[\\]]{0,20}|,| ){0,8}".prop_map(String::into_bytes),
            ],
            0..4,
        ),
    ) {
        let mut headers = HeaderMap::new();
        for value in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(&forwarded::FORWARDED, value.clone());
                headers.append(&X_FORWARDED_FOR, value);
            }
        }
        let client = client_ip("10.0.0.1".parse().ok(), &headers, &nets(&["10.0.0.0/8"]), &[]);
        prop_assert!(client.ip.is_some_and(|ip| ip == ip.to_canonical()));
        prop_assert!(client.chain.len() <= MAX_HOPS);
    }
}
