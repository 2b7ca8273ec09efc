//! Recorded texts: cleans texts from requests before they are stored. The results are valid UTF-8 without NUL (W2), cut
//! on a character (W3), without what must not be stored (W5).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;

use super::PageView;
use crate::config::{IpPrecision, ReferrerPrecision};
use crate::routes::MAX_VALUE;

/// Whether it is stored as it is, as nearly every text is.
fn is_clean(text: &str, max: usize) -> bool {
    text.len() <= max && !text.as_bytes().contains(&0)
}

/// Text without NUL and no longer than `max` bytes.
fn clean(text: &str, max: usize) -> String {
    if is_clean(text, max) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len().min(max));
    for character in text.chars().filter(|&character| character != '\0') {
        if clean.len() + character.len_utf8() > max {
            break;
        }
        clean.push(character);
    }
    clean
}

/// The user agent's text; empty when there is none.
pub(super) fn user_agent(header: Option<&HeaderValue>) -> Cow<'_, str> {
    let bytes = header.map(HeaderValue::as_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    if is_clean(&text, PageView::MAX_USER_AGENT) {
        text
    } else {
        clean(&text, PageView::MAX_USER_AGENT).into()
    }
}

/// The URL to store: a path decoded once, with the allowed query parameters. `?` and `#` of the path are encoded, so
/// that the query begins at the first `?`.
pub(super) fn url(path: &str, query: Option<&str>, allow: &[String]) -> String {
    let is_plain = !path.contains(['?', '#']);
    let allowed = query.filter(|_| !allow.is_empty());
    if is_plain && allowed.is_none() {
        return clean(path, PageView::MAX_TEXT);
    }
    let mut url = path.replace('?', "%3F").replace('#', "%23");
    if let Some(query) = allowed {
        push_allowed(&mut url, query, allow);
    }
    clean(&url, PageView::MAX_TEXT)
}

/// Appends the allowed parameters of a query, if any.
fn push_allowed(url: &mut String, query: &str, allow: &[String]) {
    if allow.is_empty() {
        return;
    }
    let mut allowed = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if allow.iter().any(|allowed| *allowed == name) {
            allowed.append_pair(&name, &value);
        }
    }
    let allowed = allowed.finish();
    if !allowed.is_empty() {
        url.push('?');
        url.push_str(&allowed);
    }
}

/// The referrer to store: an absolute `http` or `https` URL without user, fragment and parameters that are not allowed.
/// None for any other value (relative, `javascript:`, garbage).
pub(super) fn referrer(raw: &[u8], precision: ReferrerPrecision, allow: &[String]) -> Option<String> {
    if precision == ReferrerPrecision::None {
        return None;
    }
    let text = String::from_utf8_lossy(raw);
    let (scheme, rest) = text.trim().split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return None;
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    // Browsers treat a backslash as a slash, so they would not agree on where the host ends.
    if authority.contains('\\') || host.is_empty() || host.len() > 300 || !host.bytes().all(is_host_byte) {
        return None;
    }
    let mut url = format!("{scheme}://{}", host.to_ascii_lowercase());
    if precision == ReferrerPrecision::Path {
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.push_str(path);
        push_allowed(&mut url, query, allow);
    }
    Some(clean(&url, PageView::MAX_TEXT))
}

/// The text searched for: the parameter's last value, as Django's `QueryDict` gives it.
pub(super) fn search_query(query: &str, param: &str) -> Option<String> {
    let (_, value) = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == param)
        .last()?;
    let value = clean(value.trim(), PageView::MAX_TEXT);
    (!value.is_empty()).then_some(value)
}

/// A value of a route's metadata: at most [`MAX_VALUE`] characters.
pub(super) fn value(text: &str) -> String {
    let end = text
        .char_indices()
        .nth(MAX_VALUE)
        .map_or(text.len(), |(end, _)| end);
    clean(&text[..end], PageView::MAX_TEXT)
}

/// The same of a query parameter: its last value, as Django's `QueryDict` gives it.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    let named = form_urlencoded::parse(query.as_bytes()).filter(|(parameter, _)| parameter == name);
    named.last().map(|(_, text)| value(&text))
}

/// A description that a template made.
pub(super) fn description(text: &str) -> String {
    clean(text, PageView::MAX_TEXT)
}

/// The address as precisely as configured, IPv4-mapped IPv6 as IPv4 (W4).
pub(super) fn ip(ip: Option<IpAddr>, precision: IpPrecision) -> Option<IpAddr> {
    let ip = ip?.to_canonical();
    match (precision, ip) {
        (IpPrecision::None, _) => None,
        (IpPrecision::Full, ip) => Some(ip),
        (IpPrecision::Network, IpAddr::V4(ip)) => {
            let [a, b, c, _] = ip.octets();
            Some(IpAddr::V4(Ipv4Addr::new(a, b, c, 0)))
        }
        (IpPrecision::Network, IpAddr::V6(ip)) => {
            let [a, b, c, ..] = ip.segments();
            Some(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn w2_nul_is_removed() {
        assert_eq!(url("/a\0b\0", None, &[]), "/ab");
        assert_eq!(search_query("q=a%00b", "q").as_deref(), Some("ab"));
        assert_eq!(url("/", Some("q=a%00b"), &allow(&["q"])), "/?q=a%00b");
    }

    #[test]
    fn w3_long_texts_are_cut_on_a_character() {
        assert_eq!(clean("a\u{e9}\u{e9}", 4), "a\u{e9}");
        assert_eq!(clean("\u{1f600}\u{1f600}", 7), "\u{1f600}");
        assert_eq!(url(&"\u{20ac}".repeat(1000), None, &[]).len(), 1998);
        let long = HeaderValue::from_bytes(&[b'x'; 8192]).unwrap();
        assert_eq!(user_agent(Some(&long)).len(), PageView::MAX_USER_AGENT);
    }

    #[test]
    fn w3_bytes_that_are_not_utf8_are_replaced() {
        let header = HeaderValue::from_bytes(b"Mozilla \xff\xe9").unwrap();
        assert_eq!(user_agent(Some(&header)), "Mozilla \u{fffd}\u{fffd}");
        assert_eq!(user_agent(None), "");
    }

    #[test]
    fn w5_only_allowed_parameters_stay_in_urls() {
        let allowed = allow(&["tab", "q"]);
        for (query, url_with_rest) in [
            ("tab=posts&token=secret", "/c/1?tab=posts"),
            ("token=secret", "/c/1"),
            ("", "/c/1"),
            ("TAB=x&tab=y", "/c/1?tab=y"),
            ("%74ab=x", "/c/1?tab=x"),
            ("tab=a%26token%3Dsecret", "/c/1?tab=a%26token%3Dsecret"),
            ("tab=a;token=secret", "/c/1?tab=a%3Btoken%3Dsecret"),
            ("tab=1&tab=2", "/c/1?tab=1&tab=2"),
            ("tab", "/c/1?tab="),
            ("q=%ff", "/c/1?q=%EF%BF%BD"),
        ] {
            assert_eq!(url("/c/1", Some(query), &allowed), url_with_rest, "{query}");
        }
        assert_eq!(url("/c/1", Some("tab=posts"), &[]), "/c/1");
        assert_eq!(
            url("/a?token=b#c", Some("tab=x"), &allowed),
            "/a%3Ftoken=b%23c?tab=x"
        );
    }

    #[test]
    fn w5_referrers_lose_what_must_not_be_kept() {
        let allowed = allow(&["q"]);
        let path = |raw: &str| referrer(raw.as_bytes(), ReferrerPrecision::Path, &allowed);
        for (raw, kept) in [
            (
                "https://site.example/c/1/?token=x&q=rust#top",
                "https://site.example/c/1/?q=rust",
            ),
            ("HTTPS://Site.Example:8443/A", "https://site.example:8443/A"),
            ("https://user:password@site.example/a", "https://site.example/a"),
            ("https://a@b@site.example/a", "https://site.example/a"),
            ("https://site.example?token=x", "https://site.example"),
            ("https://site.example#token", "https://site.example"),
            ("https://site.example/a#?q=token", "https://site.example/a"),
            ("https://[2001:db8::1]:80/a", "https://[2001:db8::1]:80/a"),
            ("http://site.example", "http://site.example"),
        ] {
            assert_eq!(path(raw).as_deref(), Some(kept), "{raw}");
        }
        for garbage in [
            "",
            "about:blank",
            "/relative",
            "//site.example/a",
            "javascript:alert(1)",
            "javascript://site.example/%0aalert(1)",
            "data:text/html,x",
            "android-app://com.example",
            "https://",
            "https:///a",
            "https://user@/a",
            "https://site example/a",
            "https://site.example\\@evil/a",
            "https://caf\u{e9}.example/",
            "x https://site.example/",
        ] {
            assert_eq!(path(garbage), None, "{garbage}");
        }
        let raw = b"https://u@site.example/a?q=1";
        let origin = referrer(raw, ReferrerPrecision::Origin, &allowed);
        assert_eq!(origin.as_deref(), Some("https://site.example"));
        assert_eq!(referrer(raw, ReferrerPrecision::None, &allowed), None);
    }

    #[test]
    fn a_search_is_decoded_once_and_bounded() {
        for (query, searched) in [
            ("q=rust+proxy", Some("rust proxy")),
            ("q=caf%C3%A9", Some("caf\u{e9}")),
            ("q=%2541", Some("%41")),
            ("q=first&q=last", Some("last")),
            ("q=%20%20", None),
            ("q=", None),
            ("x=1", None),
            ("Q=1", None),
        ] {
            assert_eq!(search_query(query, "q").as_deref(), searched, "{query}");
        }
        let long = format!("q={}", "x".repeat(5000));
        assert_eq!(
            search_query(&long, "q").map(|text| text.len()),
            Some(PageView::MAX_TEXT)
        );
    }

    #[test]
    fn w4_addresses_are_canonical_and_as_precise_as_configured() {
        for (address, network) in [
            ("203.0.113.9", "203.0.113.0"),
            ("::ffff:203.0.113.9", "203.0.113.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(ip(Some(address), IpPrecision::Network), network.parse().ok());
            assert_eq!(ip(Some(address), IpPrecision::Full), Some(address.to_canonical()));
            assert_eq!(ip(Some(address), IpPrecision::None), None);
        }
        assert_eq!(ip(None, IpPrecision::Full), None);
    }
}
