//! What the request's headers become on their way to the app: what a good reverse proxy sets, and what
//! clients must not be able to say. Pure: returns edits, which a phase applies.
//!
//! | header | |
//! |---|---|
//! | `X-Forwarded-For` | set: the client, trusted proxies, the peer; nothing that nobody vouches for |
//! | `X-Real-IP` | set: the client's address |
//! | `X-Forwarded-Proto` | a trusted proxy's `http` or `https`, else the scheme of our own listener |
//! | `X-Forwarded-Host` | a trusted proxy's single value, else the request's own host |
//! | `X-Request-Id` | a trusted proxy's well-formed one, else a new one |
//! | `X-Headcount-Recorded` | set where this request is recorded here or, says a sidecar, nearer to the client |
//! | `Cookie` | several become one, joined by `; `, so that the app sees what `auth::cookie` sees |
//! | `Forwarded`, `X-Forwarded-Port` and the like | only from a trusted proxy |
//! | identity headers, other `X-Forwarded-*` | only from a trusted proxy, and only those that are configured |
//! | other `X-Headcount-*`, `Proxy` | never |
//! | the above spelt with `_`, `SCRIPT_NAME`, `PATH_INFO` | never: WSGI makes `_` and `-` the same |
//!
//! Trusted is who appends to `X-Forwarded-For`. That does not mean that it removes what clients send: a usual
//! nginx or load balancer passes unknown headers on. So who the user is, it can say in configured headers only.
//!
//! `Host` stays as it is. Hop-by-hop headers are the framework's.

use std::fmt::Write as _;

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client_ip::{ClientIp, X_FORWARDED_FOR};

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// `X-Forwarded-Proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Request-Id`
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that a sidecar nearer to the client records this exchange (V8).
pub const X_HEADCOUNT_RECORDED: HeaderName = HeaderName::from_static("x-headcount-recorded");

/// Longest request id that is taken over.
const MAX_REQUEST_ID: usize = 128;

/// Names that tell an app how a request came. Believed from trusted proxies.
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
];

/// Names, and beginnings of names, that tell an app who the client is, or make it answer for another path.
/// Believed from trusted proxies where the configuration says that they set or remove them.
const IDENTITY: &[&str] = &[
    "x-original-url",
    "x-rewrite-url",
    "x-client-ip",
    "x-cluster-client-ip",
    "client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "remote-user",
    "remote-addr",
    "x-remote-user",
    "x-remote-addr",
    "x-authenticated-user",
    "x-client-cert",
    "client-cert",
    "client-cert-chain",
];
const IDENTITY_PREFIXES: &[&str] = &[
    "x-forwarded-",
    "x-original-forwarded-",
    "x-auth-request-",
    "x-remote-",
    "remote-",
    "x-ssl-client-",
    "ssl-client-",
];

/// What is known of the request besides its headers.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// Client and peer, as [`client_ip`](super::client_ip::client_ip) found them.
    pub client: &'a ClientIp,
    /// Names, in any case, of the headers with which trusted proxies say who the user is.
    pub identity_headers: &'a [String],
    /// Whether it came over TLS to our own listener.
    pub tls: bool,
    /// The request's authority where it is not in `Host`: HTTP/2, absolute-form targets.
    pub authority: Option<&'a str>,
    /// Whether this sidecar records requests at all.
    pub recording: bool,
    /// The id that the request gets if it has no believable one: a fresh UUID.
    pub new_request_id: &'a str,
}

/// Changes to a request's headers: first the removals, then the settings, each replacing all of that name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<HeaderName>,
    /// Names to set, each once.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// Applies the edits to a plain header map. (Pingora's request header keeps a second map of spellings:
    /// there, use its own `remove_header` and `insert_header`.)
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        // Every value is made of addresses, checked tokens or another header's text; none is refused.
        match HeaderValue::from_str(value) {
            Ok(value) => self.set.push((name, value)),
            Err(_) => self.remove.push(name),
        }
    }
}

/// The edits that make the app's request out of the client's.
pub fn upstream_edits(headers: &HeaderMap, received: &Received<'_>) -> HeaderEdits {
    let mut edits = HeaderEdits {
        remove: headers
            .keys()
            .filter(|name| is_stripped(name.as_str(), received))
            .cloned()
            .collect(),
        set: Vec::with_capacity(6),
    };
    if let Some(client) = received.client.ip {
        edits.set(X_FORWARDED_FOR, &joined(received.client));
        edits.set(X_REAL_IP, &client.to_string());
    } else {
        edits.remove.extend([X_FORWARDED_FOR, X_REAL_IP]);
    }
    edits.set(X_FORWARDED_PROTO, scheme(headers, received));
    match host(headers, received) {
        Some(host) => edits.set(X_FORWARDED_HOST, host),
        None => edits.remove.push(X_FORWARDED_HOST),
    }
    edits.set(X_REQUEST_ID, request_id(headers, received));
    if received.recording || recorded_elsewhere(headers, received.client) {
        edits.set(X_HEADCOUNT_RECORDED, "1");
    } else {
        edits.remove.push(X_HEADCOUNT_RECORDED);
    }
    if let Some(cookie) = one_cookie(headers) {
        edits.set.push((COOKIE, cookie));
    }
    edits
}

/// The request's id: a trusted proxy's, or the new one. The same that [`upstream_edits`] sets.
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

fn is_stripped(name: &str, received: &Received<'_>) -> bool {
    let is_configured = |name: &str| {
        let mut configured = received.identity_headers.iter();
        configured.any(|configured| configured.eq_ignore_ascii_case(name))
    };
    if name.contains('_') {
        // Names in a header map are lower case.
        let dashed = name.replace('_', "-");
        return matches!(
            dashed.as_str(),
            "script-name" | "path-info" | "x-real-ip" | "x-request-id"
        ) || dashed == X_HEADCOUNT_RECORDED.as_str()
            || is_never_passed(&dashed)
            || is_forwarding(&dashed)
            || is_identity(&dashed)
            || is_configured(&dashed);
    }
    if is_never_passed(name) {
        return true;
    }
    if received.client.peer_trusted {
        is_identity(name) && !is_configured(name)
    } else {
        is_forwarding(name) || is_identity(name) || is_configured(name)
    }
}

fn is_never_passed(name: &str) -> bool {
    name == "proxy" || name.starts_with("x-headcount") && name != X_HEADCOUNT_RECORDED.as_str()
}

fn is_forwarding(name: &str) -> bool {
    FORWARDING.contains(&name)
}

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
        || IDENTITY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_forwarding(name)
}

fn joined(client: &ClientIp) -> String {
    let mut text = String::with_capacity(client.chain.len() * 16);
    for ip in &client.chain {
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{ip}");
    }
    text
}

fn scheme<'a>(headers: &'a HeaderMap, received: &Received<'_>) -> &'a str {
    let own = if received.tls { "https" } else { "http" };
    trusted_value(headers, &X_FORWARDED_PROTO, received.client)
        .filter(|scheme| matches!(*scheme, "http" | "https"))
        .unwrap_or(own)
}

fn host<'a>(headers: &'a HeaderMap, received: &Received<'a>) -> Option<&'a str> {
    let is_host = |host: &&str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+=".contains(&byte);
        !host.is_empty() && host.len() <= 512 && host.bytes().all(allowed)
    };
    trusted_value(headers, &X_FORWARDED_HOST, received.client)
        .filter(is_host)
        .or(received.authority.filter(is_host))
        .or_else(|| headers.get(HOST)?.to_str().ok().filter(is_host))
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
    let values: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if values.len() < 2 {
        return None;
    }
    HeaderValue::from_bytes(&values.join(&b"; "[..])).ok()
}

#[cfg(test)]
mod tests;
