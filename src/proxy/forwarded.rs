//! `Forwarded` header (RFC 7239): parses and writes it. Pure.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

/// `Forwarded`
pub(super) static FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Elements of all `Forwarded` headers. A comma within quotes does not separate.
pub(super) fn elements(headers: &HeaderMap) -> Vec<&[u8]> {
    headers
        .get_all(&FORWARDED)
        .iter()
        .flat_map(|value| unquoted_split(value.as_bytes(), b','))
        .filter(|element| !element.trim_ascii().is_empty())
        .collect()
}

/// A parameter of an element of `Forwarded`.
pub(super) fn parameter<'a>(element: &'a [u8], wanted: &str) -> Option<&'a str> {
    unquoted_split(element, b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), &pair[equals + 1..]);
        name.eq_ignore_ascii_case(wanted.as_bytes())
            .then(|| text(value))?
    })
}

fn unquoted_split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == separator && !quoted
    })
}

/// Trimmed and without quotes; `None` where nothing is left.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?.trim();
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    Some(value).filter(|value| !value.is_empty())
}

/// The header for a chain: the client's address with scheme and host, then the proxies' addresses.
pub(super) fn made_of(chain: &[IpAddr], scheme: &str, host: Option<&str>) -> String {
    let hop = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    let mut hops: Vec<String> = chain.iter().map(hop).collect();
    if let Some(first) = hops.first_mut() {
        first.push_str(";proto=");
        first.push_str(scheme);
        if let Some(host) = host {
            first.push_str(";host=\"");
            first.push_str(host);
            first.push('"');
        }
    }
    hops.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_among_quotes() {
        let element = br#"for="[2001:db8::5]:80"; Host = "a, b; c" ;PROTO=https"#;
        assert_eq!(parameter(element, "for"), Some("[2001:db8::5]:80"));
        assert_eq!(parameter(element, "host"), Some("a, b; c"));
        assert_eq!(parameter(element, "proto"), Some("https"));
        assert_eq!(parameter(element, "by"), None);
        let mut list = HeaderMap::new();
        for value in ["for=a;host=\"x,y\", for=b", " , for=c"] {
            list.append(&FORWARDED, value.parse().unwrap());
        }
        assert_eq!(elements(&list).len(), 3);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let chain = ["2001:db8::5".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let written = made_of(&chain, "https", Some("site.test:81"));
        assert_eq!(
            written,
            "for=\"[2001:db8::5]\";proto=https;host=\"site.test:81\", for=10.0.0.1"
        );
        let mut headers = HeaderMap::new();
        headers.append(&FORWARDED, written.parse().unwrap());
        let elements = elements(&headers);
        assert_eq!(elements.len(), 2);
        assert_eq!(parameter(elements[0], "host"), Some("site.test:81"));
    }
}
