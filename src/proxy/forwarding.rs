//! Forwarding headers of trusted proxies: scheme, host, port and path prefix, read from all their spellings. Pure.
//!
//! | fact | spellings, the first valid one decides |
//! |---|---|
//! | scheme | `X-Forwarded-Proto`, `Forwarded` (`proto`), `X-Forwarded-Protocol`, `X-Forwarded-Scheme`, `X-Scheme`, `X-Url-Scheme`, `X-Forwarded-Ssl`, `Front-End-Https` |
//! | host | `X-Forwarded-Host`, `Forwarded` (`host`) |
//! | port | `X-Forwarded-Port` |
//! | path prefix | `X-Forwarded-Prefix`, `X-Script-Name` |
//!
//! The client's address is found in [`mod@super::client_ip`]. In a list, the element counts that the proxy nearest to
//! the client wrote: the one at the client's position in `X-Forwarded-For` where both lists have the same length, else
//! the first. `Forwarded` counts where it names the same client.

use http::{HeaderMap, HeaderName};

use super::client_ip::{ClientIp, X_FORWARDED_FOR, parse_entry};
use super::forwarded::{FORWARDED, elements, parameter, text};

/// `X-Forwarded-Proto`
pub(super) static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`
pub(super) static HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`
pub(super) static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `X-Forwarded-Protocol`: gunicorn expects `ssl` in it, others `https`.
pub(super) const PROTOCOL: HeaderName = HeaderName::from_static("x-forwarded-protocol");
const PREFIXES: [&str; 2] = ["x-forwarded-prefix", "x-script-name"];

/// Spellings of the scheme besides [`PROTO`] and [`FORWARDED`].
pub(super) static SCHEMES: [HeaderName; 6] = [
    PROTOCOL,
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-scheme"),
    HeaderName::from_static("x-url-scheme"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("front-end-https"),
];

/// Longest path prefix that is used, in bytes.
const MAX_PREFIX: usize = 256;

/// How the client spoke to the first proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientScheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl ClientScheme {
    /// The value for `X-Forwarded-Proto`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Parses a scheme, also a `WebSocket`'s, or an answer to "is it TLS?".
    pub(super) fn read(value: &str) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(value));
        if is(&["https", "wss", "ssl", "tls", "on", "yes", "true", "1"]) {
            Some(Self::Https)
        } else if is(&["http", "ws", "off", "no", "false", "0"]) {
            Some(Self::Http)
        } else {
            None
        }
    }
}

/// The valid values of a trusted proxy's forwarding headers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ForwardedValues<'a> {
    pub(super) scheme: Option<ClientScheme>,
    /// Name and perhaps port by which the client knows the site.
    pub(super) host: Option<&'a str>,
    pub(super) port: Option<u16>,
    /// The first header with an invalid value, and that value.
    pub(super) odd: Option<(HeaderName, &'a str)>,
}

/// Reads the headers. Only for a peer that is a trusted proxy.
pub(super) fn read<'a>(headers: &'a HeaderMap, client: &ClientIp) -> ForwardedValues<'a> {
    let forwarded = of_the_client(headers, client);
    let named = |wanted: &str| parameter(forwarded?, wanted);
    let mut values = ForwardedValues::default();

    let proto = element(headers, &PROTO, client).map(|value| (PROTO.clone(), value));
    let in_forwarded = named("proto").map(|value| (FORWARDED.clone(), value));
    let other = |name: &HeaderName| Some((name.clone(), element(headers, name, client)?));
    let others = SCHEMES.iter().filter_map(other);
    for (name, value) in proto.into_iter().chain(in_forwarded).chain(others) {
        if let Some(scheme) = ClientScheme::read(value) {
            values.scheme = Some(scheme);
            break;
        }
        values.odd.get_or_insert((name, value));
    }

    let host = element(headers, &HOST, client).map(|value| (HOST.clone(), value));
    let in_forwarded = named("host").map(|value| (FORWARDED.clone(), value));
    for (name, value) in host.into_iter().chain(in_forwarded) {
        if is_host(value) {
            values.host = Some(value);
            break;
        }
        values.odd.get_or_insert((name, value));
    }

    if let Some(value) = element(headers, &PORT, client) {
        values.port = value.parse().ok().filter(|port| *port != 0);
        if values.port.is_none() {
            values.odd.get_or_insert((PORT.clone(), value));
        }
    }
    values
}

/// The path prefix of the site, which a proxy in front removes. `headers` are those for the app, which contain it only
/// from trusted proxies. Empty, or with a slash at its start and none at its end.
pub(super) fn prefix(headers: &HeaderMap) -> String {
    let Some(value) = PREFIXES.iter().find_map(|name| headers.get(*name)) else {
        return String::new();
    };
    // Each of several proxies removes a part.
    let parts = value.to_str().unwrap_or_default().split(',');
    let whole: String = parts.map(|part| part.trim().trim_end_matches('/')).collect();
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+;=:@".contains(&byte);
    let is_path = whole.starts_with('/')
        // Two slashes at the start would make the rest a host.
        && !whole.contains("//")
        && !whole.split('/').any(|segment| segment == "..")
        && whole.len() <= MAX_PREFIX
        && whole.bytes().all(is_safe);
    if is_path { whole } else { String::new() }
}

/// Whether the text can be a `Host`: a name or an address, perhaps with a port (RFC 3986, 3.2.2).
pub(super) fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let is_port =
        port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let allowed = |byte: u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&'
            | b'\'' | b'(' | b')' | b'*' | b'+' | b'=')
    };
    let is_name = match name.strip_prefix('[') {
        Some(address) => address
            .strip_suffix(']')
            .is_some_and(|address| address.bytes().all(|byte| allowed(byte) || byte == b':')),
        None => name.bytes().all(allowed) && !name.as_bytes().windows(2).any(|pair| pair == b".."),
    };
    !name.is_empty() && host.len() <= 512 && is_name && is_port
}

/// The element of a list that belongs to the client.
pub(super) fn element<'a>(headers: &'a HeaderMap, name: &HeaderName, client: &ClientIp) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    // The usual case: one value.
    if values.next().is_none() && !first.as_bytes().contains(&b',') {
        return text(first.as_bytes());
    }
    let elements: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter(|element| !element.trim_ascii().is_empty())
        .collect();
    text(at_the_client(&elements, client)?)
}

fn at_the_client<'a>(elements: &[&'a [u8]], client: &ClientIp) -> Option<&'a [u8]> {
    let aligned = client.hop.filter(|hop| hop.of == elements.len());
    elements.get(aligned.map_or(0, |hop| hop.at)).copied()
}

/// The element of `Forwarded` about the client, if it names the same client or none.
fn of_the_client<'a>(headers: &'a HeaderMap, client: &ClientIp) -> Option<&'a [u8]> {
    if headers.contains_key(&X_FORWARDED_FOR) {
        // A proxy that writes that one passes on `Forwarded` as clients write it, and they know their own address.
        return None;
    }
    let elements = elements(headers);
    let element = at_the_client(&elements, client)?;
    let said = parameter(element, "for").and_then(|node| parse_entry(node.as_bytes()));
    let is_of_it = said.is_some() && said == client.ip;
    // Some proxies write scheme or host, but no address.
    let names_nobody = parameter(element, "for").is_none();
    (is_of_it || names_nobody).then_some(element)
}

#[cfg(test)]
mod tests;
