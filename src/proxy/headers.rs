//! Request headers for the app: sets what a good reverse proxy sets, and removes what clients must not send. Pure:
//! changes the headers that it is given, and nothing else.
//!
//! | header | |
//! |---|---|
//! | `X-Forwarded-For` | set: the client, trusted proxies, the peer; no entries of unknown origin |
//! | `X-Real-IP` | set: the client's address |
//! | `X-Forwarded-Proto` | set: a trusted proxy's value, in any spelling, else the scheme of our own listener |
//! | `X-Forwarded-Host` | a trusted proxy's host, else the request's own |
//! | `X-Forwarded-Port` | a trusted proxy's |
//! | `X-Forwarded-Ssl`, `X-Scheme` and the like | a trusted proxy's, where they say the same as `X-Forwarded-Proto` |
//! | `Forwarded` | where a trusted proxy sent it: the same facts once more |
//! | `X-Request-Id` | a trusted proxy's well-formed one, else a new one |
//! | `X-Headcount-Recorded` | set where this request is recorded here or, by a sidecar's statement, nearer to the client |
//! | `X-Headcount-Hops` | the sidecars that the request has passed; see `proxy::hops` |
//! | `Cookie` | several become one, joined by `; `, so that the app sees what `auth::cookie` sees |
//! | other forwarding headers | only from a trusted proxy |
//! | identity headers, other `X-Forwarded-*` | only from a trusted proxy, and only those that are configured |
//! | other `X-Headcount-*`, `Proxy` | never |
//! | names with `_` | dropped unless `limits.underscore_headers`; the above spelt with `_`, `SCRIPT_NAME`, `PATH_INFO` never: WSGI makes `_` and `-` the same |
//!
//! A trusted proxy appends to `X-Forwarded-For`. That does not mean that it removes what clients send: a usual nginx or
//! load balancer passes unknown headers on. So it can name the user in configured headers only.
//!
//! `Host` stays as it is. The framework handles hop-by-hop headers.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client_ip::{ClientIp, X_FORWARDED_FOR, X_REAL_IP};
use super::forwarded::{self, FORWARDED};
use super::forwarding::{self, ClientScheme, ForwardedValues, PORT, PROTOCOL, SCHEMES};
use super::hops::X_HEADCOUNT_HOPS;
use super::identity_headers::is_identity;
use crate::header_edits::EditHeaders;

pub(super) use super::forwarding::{HOST as X_FORWARDED_HOST, PROTO as X_FORWARDED_PROTO};

/// `X-Request-Id`
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Set where a sidecar nearer to the client records this exchange (V8).
pub static X_HEADCOUNT_RECORDED: HeaderName = HeaderName::from_static("x-headcount-recorded");

/// `Cookie`, as a name of the head for the app.
static ONE_COOKIE: HeaderName = COOKIE;

/// Longest request id that is accepted.
const MAX_REQUEST_ID: usize = 128;

/// Forwarding headers: they describe how a request came. Accepted from trusted proxies.
const FORWARDING: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-protocol",
    "x-forwarded-scheme",
    "x-forwarded-ssl",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-by",
    "x-original-forwarded-for",
    "x-original-forwarded-proto",
    "x-original-forwarded-host",
    "x-original-forwarded-port",
    "x-original-host",
    "x-host",
    "x-scheme",
    "x-url-scheme",
    "front-end-https",
    "x-script-name",
];

/// Facts about the request besides its headers.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Client and peer, as [`client_ip`](super::client_ip::client_ip) found them.
    pub client: &'a ClientIp,
    /// Names, in any case, of the headers in which trusted proxies name the user.
    pub identity_headers: &'a [String],
    /// Whether names with `_` pass, unless they are another spelling of a name that the sidecar controls.
    pub underscores: bool,
    /// Whether it came over TLS to our own listener.
    pub tls: bool,
    /// The header with the sidecars that the request has passed, this one included: see `proxy::hops`.
    pub hops: &'a HeaderValue,
    /// Whether this sidecar records requests at all.
    pub recording: bool,
    /// A fresh UUID, which becomes the request's id if no trusted proxy sends one.
    pub new_request_id: &'a str,
}

/// Turns the client's `headers`, which `head` begins with, into those for the app. Returns the first name that was dropped
/// for its `_`.
pub fn edit_for_app<'a>(
    headers: &'a HeaderMap,
    head: &mut impl EditHeaders,
    received: &Received<'_>,
) -> Option<&'a HeaderName> {
    let mut underscored = None;
    let mut may_have_ours = false;
    for name in headers.keys() {
        let text = name.as_str();
        may_have_ours |= text.starts_with('x');
        let is_dropped = if text.contains('_') {
            if !received.underscores {
                underscored = underscored.or(Some(name));
            }
            !received.underscores || is_stripped_underscored(text, received)
        } else {
            is_stripped(text, received)
        };
        if is_dropped {
            head.remove(name);
        }
    }
    match received.client.chain.as_slice() {
        [] => {
            head.remove(&X_FORWARDED_FOR);
            head.remove(&X_REAL_IP);
        }
        // Written once where there are no proxies.
        chain @ [client, proxies @ ..] => {
            let all = addresses(chain);
            let client = if proxies.is_empty() {
                all.clone()
            } else {
                addresses(&[*client])
            };
            head.set(&X_REAL_IP, client);
            head.set(&X_FORWARDED_FOR, all);
        }
    }
    way(headers, head, received);
    head.set_text(&X_REQUEST_ID, request_id(headers, received));
    if received.recording || recorded_elsewhere(headers, received.client) {
        head.set(&X_HEADCOUNT_RECORDED, HeaderValue::from_static("1"));
    } else if may_have_ours {
        head.remove(&X_HEADCOUNT_RECORDED);
    }
    head.set(&X_HEADCOUNT_HOPS, received.hops.clone());
    if let Some(cookie) = one_cookie(headers) {
        head.set(&ONE_COOKIE, cookie);
    }
    underscored
}

/// The request's id: a trusted proxy's, or the new one. The same that [`edit_for_app`] sets.
pub fn request_id<'a>(headers: &'a HeaderMap, received: &Received<'a>) -> &'a str {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
    trusted_value(headers, &X_REQUEST_ID, received.client)
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(allowed))
        .unwrap_or(received.new_request_id)
}

/// Whether a sidecar nearer to the client records this exchange (V8).
pub fn recorded_elsewhere(headers: &HeaderMap, client: &ClientIp) -> bool {
    client.peer_is_sidecar && only_value(headers, &X_HEADCOUNT_RECORDED) == Some("1")
}

/// Whether a name without `_` is dropped.
fn is_stripped(name: &str, received: &Received<'_>) -> bool {
    if is_never_passed(name) {
        return true;
    }
    if received.client.peer_trusted {
        is_identity_only(name) && !is_configured(name, received)
    } else {
        is_forwarding(name) || is_identity_only(name) || is_configured(name, received)
    }
}

/// Whether a name with `_` is dropped where such names pass: it is another spelling of one that the sidecar controls.
fn is_stripped_underscored(name: &str, received: &Received<'_>) -> bool {
    // Names in a header map are lower case.
    let dashed = name.replace('_', "-");
    matches!(
        dashed.as_str(),
        "script-name" | "path-info" | "x-real-ip" | "x-request-id"
    ) || dashed.starts_with("x-headcount")
        || is_never_passed(&dashed)
        || is_forwarding(&dashed)
        || is_identity_only(&dashed)
        || is_configured(&dashed, received)
}

fn is_configured(name: &str, received: &Received<'_>) -> bool {
    let mut configured = received.identity_headers.iter();
    configured.any(|configured| configured.eq_ignore_ascii_case(name))
}

fn is_never_passed(name: &str) -> bool {
    let is_ours = || name == X_HEADCOUNT_RECORDED.as_str() || name == X_HEADCOUNT_HOPS.as_str();
    name == "proxy" || name.starts_with("x-headcount") && !is_ours()
}

fn is_forwarding(name: &str) -> bool {
    // As all of them begin. Most headers of a request begin otherwise, and are compared with none.
    name.starts_with(['f', 'x']) && FORWARDING.contains(&name)
}

/// A name that identifies the client, and does not describe how the request came.
fn is_identity_only(name: &str) -> bool {
    is_identity(name) && !is_forwarding(name)
}

/// A header with these addresses.
fn addresses(ips: &[IpAddr]) -> HeaderValue {
    let mut text = String::with_capacity(ips.len() * 16);
    for ip in ips {
        if !text.is_empty() {
            text.push_str(", ");
        }
        match ip {
            IpAddr::V4(ip) => push_v4(&mut text, *ip),
            IpAddr::V6(ip) => {
                let _ = write!(text, "{ip}");
            }
        }
    }
    // Addresses are a header's value.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Appends the address as `Display` writes it, which takes ten times as long: nearly every request has one.
fn push_v4(text: &mut String, ip: Ipv4Addr) {
    let digit = |number: u8| char::from(b'0' + number);
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10 % 10));
        }
        text.push(digit(octet % 10));
    }
}

/// The first forwarding header of a trusted proxy with an invalid value, and that value.
pub fn not_understood<'a>(headers: &'a HeaderMap, client: &ClientIp) -> Option<(HeaderName, &'a str)> {
    let values = client.peer_trusted.then(|| forwarding::read(headers, client));
    values.and_then(|values| values.odd)
}

/// Sets scheme, host and port consistently: app servers refuse headers that contradict each other.
fn way(headers: &HeaderMap, head: &mut impl EditHeaders, received: &Received<'_>) {
    let client = received.client;
    let values = if client.peer_trusted {
        forwarding::read(headers, client)
    } else {
        ForwardedValues::default()
    };
    let own = if received.tls {
        ClientScheme::Https
    } else {
        ClientScheme::Http
    };
    let scheme = values.scheme.unwrap_or(own);
    let own_host = own_host(headers);
    match (values.host, own_host) {
        (Some(host), _) => head.set_text(&X_FORWARDED_HOST, host),
        (None, Some(host)) => head.set(&X_FORWARDED_HOST, host.clone()),
        (None, None) => head.remove(&X_FORWARDED_HOST),
    }
    if !client.peer_trusted {
        // The other spellings are removed with all forwarding headers.
        head.set(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
        return;
    }
    if headers.contains_key(&PORT) {
        match values.port {
            Some(port) => head.set_text(&PORT, &port.to_string()),
            None => head.remove(&PORT),
        }
    }
    if headers.contains_key(&FORWARDED) {
        let host = values.host.or_else(|| own_host?.to_str().ok());
        head.set_text(
            &FORWARDED,
            &forwarded::made_of(&client.chain, scheme.as_str(), host),
        );
    }
    if repeat_scheme(headers, head, client, scheme) {
        head.remove(&X_FORWARDED_PROTO);
    } else {
        head.set(&X_FORWARDED_PROTO, HeaderValue::from_static(scheme.as_str()));
    }
}

/// Leaves the scheme where a trusted proxy has written it, in the spellings other than `X-Forwarded-Proto`. Whether one of
/// them is `X-Forwarded-Protocol: https`, which gunicorn does not accept beside that.
fn repeat_scheme(
    headers: &HeaderMap,
    head: &mut impl EditHeaders,
    client: &ClientIp,
    scheme: ClientScheme,
) -> bool {
    let mut speaks_protocol = false;
    for name in SCHEMES.iter().filter(|name| headers.contains_key(*name)) {
        let said = forwarding::element(headers, name, client);
        match said.filter(|said| ClientScheme::read(said) == Some(scheme)) {
            // gunicorn takes `https` there for plain text, and then refuses `X-Forwarded-Proto: https` beside it.
            Some(said) if *name == PROTOCOL && said.eq_ignore_ascii_case("https") => {
                if headers.contains_key(&X_FORWARDED_PROTO) {
                    head.remove(name);
                } else {
                    speaks_protocol = true;
                    head.set_text(name, "https");
                }
            }
            // gunicorn takes any other value than `on` for plain text.
            Some(_) if name.as_str() == "x-forwarded-ssl" => {
                head.set_text(
                    name,
                    if scheme == ClientScheme::Https {
                        "on"
                    } else {
                        "off"
                    },
                );
            }
            Some(said) => head.set_text(name, said),
            None => head.remove(name),
        }
    }
    speaks_protocol
}

/// The host of the request itself.
fn own_host(headers: &HeaderMap) -> Option<&HeaderValue> {
    let host = headers.get(HOST)?;
    host.to_str().is_ok_and(forwarding::is_host).then_some(host)
}

/// The value of a header that occurs once and comes from a trusted proxy.
fn trusted_value<'a>(headers: &'a HeaderMap, name: &HeaderName, client: &ClientIp) -> Option<&'a str> {
    if client.peer_trusted {
        only_value(headers, name)
    } else {
        None
    }
}

/// The value of a header that occurs once.
fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let only = values.next()?;
    if values.next().is_some() {
        return None;
    }
    Some(only.to_str().ok()?.trim())
}

/// All cookies in one header, where there are several.
fn one_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    if headers.len() == headers.keys_len() {
        // No name occurs twice.
        return None;
    }
    let values = headers.get_all(COOKIE);
    values.iter().nth(1)?;
    let values: Vec<&[u8]> = values.iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&values.join(&b"; "[..])).ok()
}

#[cfg(test)]
mod tests;
