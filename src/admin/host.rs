//! Checks the `Host` of requests for admin pages, against DNS rebinding. Pure.
//!
//! The listener needs no sign-in, and an operator's browser can reach it where others cannot. A page of another
//! site can make its own name resolve to this address (DNS rebinding), and would then be of the same origin. Names
//! that such a site cannot use are allowed: an IP address, `localhost`, a name without a dot, or one that the
//! operator has listed.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderMap;

/// Whether a request for this `Host` may be answered. A request without one does not come from a browser.
pub(super) fn is_ours(host: Option<&str>, listed: &[String]) -> bool {
    let Some(host) = host else {
        return true;
    };
    if let Some(address) = host.strip_prefix('[') {
        let address = address.split_once(']').map(|(address, _)| address);
        return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_local = !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost");
    is_local
        || name.parse::<Ipv4Addr>().is_ok()
        || listed.iter().any(|listed| listed.eq_ignore_ascii_case(name))
}

/// Whether these headers are a browser's: browsers send Fetch Metadata with each request.
pub(super) fn is_a_browsers(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t6_fetch_metadata_tells_a_browser_from_a_scraper() {
        let headers = |name: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                http::HeaderValue::from_static("cross-site"),
            )])
        };
        assert!(is_a_browsers(&headers("sec-fetch-site")));
        assert!(!is_a_browsers(&headers("user-agent")));
    }

    #[test]
    fn addresses_and_local_names_are_ours() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9464",
            "10.1.2.3:80",
            "[::1]:9464",
            "[fe80::1]",
            "localhost",
            "localhost:9464",
            "LOCALHOST.:9464",
            "sidecar.localhost",
            "headcount:9464",
        ] {
            assert!(is_ours(Some(host), &[]), "{host}");
        }
        assert!(is_ours(None, &[]));
    }

    #[test]
    fn other_names_are_ours_where_they_are_listed() {
        let listed = ["Stats.example.org".to_owned()];
        for host in [
            "stats.example.org",
            "STATS.example.org:9464",
            "stats.example.org.",
        ] {
            assert!(is_ours(Some(host), &listed), "{host}");
            assert!(!is_ours(Some(host), &[]), "{host}");
        }
        for host in [
            "evil.example:9464",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evillocalhost.example",
            "[evil.example]:9464",
            "[::1",
            "stats.example.org.evil.example",
        ] {
            assert!(!is_ours(Some(host), &listed), "{host}");
        }
    }
}
