//! Origin checks: whether a request comes from the site's own pages (I6). Pure.
//!
//! Browsers send the page's origin in every `WebSocket` handshake and every POST, and no script can change it. A
//! handshake without one does not come from a browser, so it cannot abuse a visitor's cookies.
//!
//! Ports are compared, with one exception: a trusted proxy that names the site's host without a port. Proxies such
//! as nginx with `Host $host` drop the port, so it is unknown. Cookies are shared by all ports of a name, so pages
//! of another port gain nothing by this.

use std::sync::atomic::Ordering;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use super::ApiState;
use super::caller::Caller;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Seconds between two log lines about foreign origins.
const BETWEEN_WARNINGS: i64 = 60;
/// Longest part of an origin that is logged, in characters.
const MAX_LOGGED: usize = 200;

/// The origin of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestOrigin {
    /// A page of the site itself.
    Own,
    /// A page of another origin, or of an opaque one.
    Foreign,
    /// Unknown: the request does not say.
    Unsaid,
}

/// `sent` are the client's headers; those in `caller` are the ones that the app would get, with the site's public
/// name behind a trusted proxy. Origins in `allowed` count as the site's own.
pub(super) fn from(sent: &HeaderMap, caller: &Caller, allowed: &[String]) -> RequestOrigin {
    let mut origins = sent.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return match sent.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
            None => RequestOrigin::Unsaid,
            // `none`: the visitor typed the address.
            Some(b"same-origin" | b"none") => RequestOrigin::Own,
            Some(_) => RequestOrigin::Foreign,
        };
    };
    let origin = origin.to_str().ok().filter(|_| origins.next().is_none());
    let is_own = origin.is_some_and(|origin| {
        SiteOrigin::of(sent, caller).is_some_and(|site| site.has(origin))
            || self::allowed(sent, allowed).is_some()
    });
    if is_own {
        RequestOrigin::Own
    } else {
        RequestOrigin::Foreign
    }
}

/// The request's origin, if it is among these.
pub(super) fn allowed<'h>(sent: &'h HeaderMap, allowed: &[String]) -> Option<&'h HeaderValue> {
    let mut origins = sent.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    if origins.next().is_some() {
        return None;
    }
    let is_allowed = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    allowed.iter().any(is_allowed).then_some(origin)
}

/// Whether an origin or a URL is the site's own.
pub(super) fn is_own(url: &http::Uri, sent: &HeaderMap, caller: &Caller) -> bool {
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return false;
    };
    let origin = format!("{scheme}://{authority}");
    SiteOrigin::of(sent, caller).is_some_and(|site| site.has(&origin))
}

impl ApiState {
    /// Logs, at most once a minute, that requests of foreign origins are refused, so that an operator notices.
    pub(super) fn warn_of_foreign(&self, sent: &HeaderMap, caller: &Caller) {
        let (last, now) = (
            self.warned_of_foreign_at.load(Ordering::Relaxed),
            (self.clock)().timestamp(),
        );
        let told = &self.warned_of_foreign_at;
        if now.saturating_sub(last) < BETWEEN_WARNINGS
            || told
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let origin = String::from_utf8_lossy(sent.get(ORIGIN).map_or(&b""[..], HeaderValue::as_bytes));
        tracing::warn!(
            origin = origin.chars().take(MAX_LOGGED).collect::<String>(),
            site = SiteOrigin::of(sent, caller).map_or("", |site| site.host),
            "a page of another origin asked for live counts, reported a page view or sent an API key, and was refused; if it is one of \
             the site's, name its origin in live.allowed_origins, or have the proxy in front pass on Host with its \
             port (nginx: $http_host) and name that proxy in limits.trusted_proxies"
        );
    }
}

/// The site's public name.
struct SiteOrigin<'h> {
    /// Name, and perhaps a port.
    host: &'h str,
    /// Whether the port is unknown if the host names none.
    may_lack_its_port: bool,
}

impl<'h> SiteOrigin<'h> {
    fn of(sent: &'h HeaderMap, caller: &'h Caller) -> Option<Self> {
        let host = caller.headers.get(X_FORWARDED_HOST).or_else(|| sent.get(HOST));
        Some(Self {
            host: host?.to_str().ok()?,
            may_lack_its_port: caller.behind_a_proxy,
        })
    }

    /// The scheme is not compared: it does not matter here who terminates TLS, and whether the scheme is trusted.
    /// It only gives the default port.
    fn has(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else {
            return false;
        };
        let default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        let (Some((name, port)), Some((own, own_port))) =
            (name_and_port(authority), name_and_port(self.host))
        else {
            return false;
        };
        let port = port.unwrap_or(default);
        let is_port = own_port.map_or(self.may_lack_its_port || port == default, |own| own == port);
        name.eq_ignore_ascii_case(own) && is_port
    }
}

/// Splits off the port, if there is one.
fn name_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if authority.is_empty() || authority.contains(['/', '@', '?', '#', ' ', ',']) {
        return None;
    }
    // A colon within the brackets of an IPv6 address is no port separator.
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            if port.is_empty() {
                return Some((name, None));
            }
            let port = port.parse().ok().filter(|_| digits)?;
            Some((name, Some(port)))
        }
        _ => Some((authority, None)),
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

    fn said(origin: &str, host: &str) -> RequestOrigin {
        let sent = headers(&[("origin", origin), ("host", host)]);
        from(&sent, &Caller::default(), &["https://app.example.org".into()])
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
            assert_eq!(said(origin, host), RequestOrigin::Own, "{origin} at {host}");
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
            assert_eq!(said(origin, host), RequestOrigin::Foreign, "{origin} at {host}");
        }
        let twice = headers(&[("host", "site.test"), ("origin", "https://site.test")]);
        let mut twice = twice;
        twice.append("origin", "https://evil.test".parse().unwrap());
        assert_eq!(from(&twice, &Caller::default(), &[]), RequestOrigin::Foreign);
    }

    #[test]
    fn i6_behind_a_trusted_proxy_the_public_name_counts() {
        let sent = headers(&[("origin", "https://site.test"), ("host", "10.0.0.1:8080")]);
        let forwarded = Caller {
            headers: headers(&[("x-forwarded-host", "site.test")]),
            ..Caller::default()
        };
        assert_eq!(from(&sent, &forwarded, &[]), RequestOrigin::Own);
        let sent = headers(&[("origin", "https://10.0.0.1:8080"), ("host", "10.0.0.1:8080")]);
        assert_eq!(from(&sent, &forwarded, &[]), RequestOrigin::Foreign);
    }

    #[test]
    fn e16_a_port_that_a_trusted_proxy_may_have_dropped_is_not_compared() {
        let caller = |behind_a_proxy| Caller {
            behind_a_proxy,
            ..Caller::default()
        };
        let comes = |origin: &str, host: &str, caller: &Caller| {
            from(&headers(&[("origin", origin), ("host", host)]), caller, &[])
        };
        let behind = caller(true);
        assert_eq!(
            comes("http://site.test:8080", "site.test", &behind),
            RequestOrigin::Own
        );
        assert_eq!(
            comes("http://site.test:8080", "site.test", &caller(false)),
            RequestOrigin::Foreign
        );
        assert_eq!(
            comes("http://site.test:8080", "site.test:81", &behind),
            RequestOrigin::Foreign
        );
        assert_eq!(
            comes("http://evil.test:8080", "site.test", &behind),
            RequestOrigin::Foreign
        );
    }

    #[test]
    fn i6_without_an_origin_the_browser_may_say_it_in_another_way() {
        let site = |value| {
            let sent = headers(&[("host", "site.test"), ("sec-fetch-site", value)]);
            from(&sent, &Caller::default(), &[])
        };
        assert_eq!(site("same-origin"), RequestOrigin::Own);
        assert_eq!(site("none"), RequestOrigin::Own);
        assert_eq!(site("same-site"), RequestOrigin::Foreign);
        assert_eq!(site("cross-site"), RequestOrigin::Foreign);
        let nothing = from(&headers(&[("host", "a")]), &Caller::default(), &[]);
        assert_eq!(nothing, RequestOrigin::Unsaid);
    }

    #[test]
    fn a_url_is_of_the_site_or_of_another() {
        let sent = headers(&[("host", "site.test:8080")]);
        let own = |url: &str| is_own(&url.parse().unwrap(), &sent, &Caller::default());
        assert!(own("http://site.test:8080/communities/42/?a=1"));
        assert!(!own("http://site.test/communities/42/"));
        assert!(!own("http://evil.test:8080/communities/42/"));
        assert!(!own("/communities/42/"));
    }
}
