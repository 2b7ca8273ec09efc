//! Whether a request comes from the site's own pages (I6). Pure.
//!
//! Browsers put the page's origin into every `WebSocket` handshake and every POST, and no script can change it.
//! A handshake without one is no browser's: nobody's cookies are abused by it.

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request comes from, as far as it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// A page of the site itself.
    Own,
    /// A page of somewhere else, or of nowhere.
    Foreign,
    /// It does not say.
    Unsaid,
}

/// `sent` are the headers as the client sent them, `forwarded` as the app would get them: they know the site's
/// public name behind a trusted proxy. Origins in `allowed` count as the site's own.
pub(super) fn from(sent: &HeaderMap, forwarded: &HeaderMap, allowed: &[String]) -> From {
    let mut origins = sent.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return match sent.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            None => From::Unsaid,
            // `none` is somebody typing the address.
            Some(b"same-origin" | b"none") => From::Own,
            Some(_) => From::Foreign,
        };
    };
    let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
    let is_own = origin.is_some_and(|origin| {
        host(sent, forwarded).is_some_and(|host| is_of_host(origin, host))
            || self::allowed(sent, allowed).is_some()
    });
    if is_own { From::Own } else { From::Foreign }
}

/// The origin that a request says it comes from, if it is among these.
pub(super) fn allowed<'h>(sent: &'h HeaderMap, allowed: &[String]) -> Option<&'h HeaderValue> {
    let mut origins = sent.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    if origins.next().is_some() {
        return None;
    }
    let is_allowed = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    allowed.iter().any(is_allowed).then_some(origin)
}

/// Whether an origin or a URL is of the site's own.
pub(super) fn is_own(url: &http::Uri, sent: &HeaderMap, forwarded: &HeaderMap) -> bool {
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return false;
    };
    let origin = format!("{scheme}://{authority}");
    host(sent, forwarded).is_some_and(|host| is_of_host(&origin, host))
}

/// The name and port under which the client knows the site.
fn host<'h>(sent: &'h HeaderMap, forwarded: &'h HeaderMap) -> Option<&'h str> {
    let host = forwarded.get(X_FORWARDED_HOST).or_else(|| sent.get(HOST));
    host?.to_str().ok()
}

/// The scheme is not compared: who speaks TLS for the site, and whether it is trusted to say so, does not
/// matter here. It gives the port that is not written.
fn is_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    match (name_and_port(authority, default), name_and_port(host, default)) {
        (Some((own, own_port)), Some((other, other_port))) => {
            own.eq_ignore_ascii_case(other) && own_port == other_port
        }
        _ => false,
    }
}

fn name_and_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ', ',']) {
        return None;
    }
    // A colon within the brackets of an IPv6 address begins no port.
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            Some((
                name,
                if port.is_empty() {
                    default
                } else {
                    port.parse().ok().filter(|_| digits)?
                },
            ))
        }
        _ => Some((authority, default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn said(origin: &str, host: &str) -> From {
        let sent = headers(&[("origin", origin), ("host", host)]);
        from(&sent, &HeaderMap::new(), &["https://app.example.org".into()])
    }

    #[test]
    fn i6_the_sites_own_origin_is_its_own() {
        for (origin, host) in [
            ("https://site.test", "site.test"),
            ("http://site.test", "site.test"),
            ("https://site.test", "site.test:443"),
            ("https://site.test:443", "site.test"),
            ("http://site.test:8080", "site.test:8080"),
            ("https://SITE.test", "site.TEST"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]"),
            ("https://app.example.org", "site.test"),
        ] {
            assert_eq!(said(origin, host), From::Own, "{origin} at {host}");
        }
    }

    #[test]
    fn i6_every_other_origin_is_foreign() {
        for (origin, host) in [
            ("https://evil.test", "site.test"),
            ("https://site.test.evil.test", "site.test"),
            ("https://evil-site.test", "site.test"),
            ("https://site.test:8443", "site.test"),
            ("https://site.test", "site.test:80"),
            ("http://site.test:443", "site.test:80"),
            ("null", "site.test"),
            ("", "site.test"),
            ("site.test", "site.test"),
            ("file://", ""),
            ("https://", ""),
            ("https://site.test@evil.test", "site.test"),
            ("https://site.test/", "site.test"),
            ("chrome-extension://site.test", "site.test"),
            ("https://site.test:+443", "site.test"),
            ("http://app.example.org", "site.test"),
        ] {
            assert_eq!(said(origin, host), From::Foreign, "{origin} at {host}");
        }
        let twice = headers(&[("host", "site.test"), ("origin", "https://site.test")]);
        let mut twice = twice;
        twice.append("origin", "https://evil.test".parse().unwrap());
        assert_eq!(from(&twice, &HeaderMap::new(), &[]), From::Foreign);
    }

    #[test]
    fn i6_behind_a_trusted_proxy_the_public_name_counts() {
        let sent = headers(&[("origin", "https://site.test"), ("host", "10.0.0.1:8080")]);
        let forwarded = headers(&[("x-forwarded-host", "site.test")]);
        assert_eq!(from(&sent, &forwarded, &[]), From::Own);
        let sent = headers(&[("origin", "https://10.0.0.1:8080"), ("host", "10.0.0.1:8080")]);
        assert_eq!(from(&sent, &forwarded, &[]), From::Foreign);
    }

    #[test]
    fn i6_without_an_origin_the_browser_may_say_it_in_another_way() {
        let site = |value| {
            let sent = headers(&[("host", "site.test"), ("sec-fetch-site", value)]);
            from(&sent, &HeaderMap::new(), &[])
        };
        assert_eq!(site("same-origin"), From::Own);
        assert_eq!(site("none"), From::Own);
        assert_eq!(site("same-site"), From::Foreign);
        assert_eq!(site("cross-site"), From::Foreign);
        let nothing = from(&headers(&[("host", "a")]), &HeaderMap::new(), &[]);
        assert_eq!(nothing, From::Unsaid);
    }

    #[test]
    fn a_url_is_of_the_site_or_of_another() {
        let sent = headers(&[("host", "site.test:8080")]);
        let own = |url: &str| is_own(&url.parse().unwrap(), &sent, &HeaderMap::new());
        assert!(own("http://site.test:8080/communities/42/?a=1"));
        assert!(!own("http://site.test/communities/42/"));
        assert!(!own("http://evil.test:8080/communities/42/"));
        assert!(!own("/communities/42/"));
    }
}
