//! Whose request it is: the client's address behind any number of proxies (I8). Pure.
//!
//! `X-Forwarded-For` is believed only as far as configured proxies wrote it: from the right, while each
//! address that we were told of is itself a trusted proxy. Whatever stands further left was written by
//! somebody unknown, and is neither used nor passed on.

use std::net::{IpAddr, Ipv6Addr};
use std::str;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// `X-Forwarded-For`
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Most hops that are followed.
const MAX_HOPS: usize = 32;

/// The client and the way from it to us. All addresses are canonical: IPv4-mapped IPv6 as IPv4 (W4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientIp {
    /// The client; `None` when the connection has no address, as on a Unix socket.
    pub ip: Option<IpAddr>,
    /// Whether the peer of the connection is a trusted proxy, whose forwarding headers are believed.
    pub peer_trusted: bool,
    /// Whether the peer is a sidecar, which is believed when it says that it records the request (V8).
    pub peer_is_sidecar: bool,
    /// From the client, through the trusted proxies, to the peer: what `X-Forwarded-For` should say.
    pub chain: Vec<IpAddr>,
}

/// Finds the client behind trusted proxies. A peer without an address is neither trusted nor a sidecar.
pub fn client_ip(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    trusted: &[IpNet],
    sidecars: &[IpNet],
) -> ClientIp {
    let Some(peer) = peer.map(|peer| peer.to_canonical()) else {
        return ClientIp::default();
    };
    let peer_trusted = is_in(peer, trusted);
    let mut chain = vec![peer];
    if peer_trusted {
        for entry in entries_from_right(headers) {
            let Some(ip) = parse_entry(entry) else {
                break;
            };
            chain.push(ip);
            if chain.len() >= MAX_HOPS || !is_in(ip, trusted) {
                break;
            }
        }
    }
    chain.reverse();
    ClientIp {
        ip: chain.first().copied(),
        peer_trusted,
        peer_is_sidecar: is_in(peer, sidecars),
        chain,
    }
}

/// Whether a configured network contains the address, in whichever family either is written.
fn is_in(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| match (network, ip) {
        // `::ffff:10.0.0.0/104` means 10.0.0.0/8. A shorter prefix, such as `::/0`, means IPv6 only.
        (IpNet::V6(mapped), IpAddr::V4(ip)) if mapped.prefix_len() >= 96 => {
            mapped.contains(&ip.to_ipv6_mapped())
        }
        _ => network.contains(&ip),
    })
}

/// The entries of all `X-Forwarded-For` headers, last first. Empty ones are no entries.
fn entries_from_right(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values: Vec<_> = headers.get_all(&X_FORWARDED_FOR).iter().collect();
    values
        .into_iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}

/// An address as proxies write it: bare, with a port, in brackets, with a zone id (which is dropped: it
/// means nothing elsewhere, and databases refuse it).
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, port) = bracketed.split_once(']')?;
        let port_is_valid = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return parse_v6(ip).filter(|_| port_is_valid);
    }
    if let Some((ip, port)) = text.split_once(':')
        && is_port(port)
    {
        return ip.parse().ok().map(IpAddr::V4);
    }
    parse_v6(text)
}

fn parse_v6(text: &str) -> Option<IpAddr> {
    let ip = match text.split_once('%') {
        Some((ip, zone)) if !zone.is_empty() => ip,
        Some(_) => return None,
        None => text,
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    Some(ip.to_canonical())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests;
