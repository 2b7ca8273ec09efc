//! Client address: finds the client behind any number of proxies (I8). Pure.
//!
//! `X-Forwarded-For` is trusted only as far as configured proxies wrote it: from the right, while each address is
//! itself a trusted proxy. Entries further left were written by unknown parties, and are neither used nor passed on. If
//! a trusted proxy sends no `X-Forwarded-For`, its `Forwarded` is used, and without that its `X-Real-IP`.

use std::net::{IpAddr, Ipv6Addr};
use std::str;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::forwarded::{self, parameter};

/// `X-Forwarded-For`
pub(super) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Real-IP`
pub(super) static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Upper bound of hops that are followed.
const MAX_HOPS: usize = 32;

/// The client and the proxies between it and the sidecar. All addresses are canonical: IPv4-mapped IPv6 as IPv4 (W4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientIp {
    /// The client; `None` when the connection has no address, as on a Unix socket.
    pub ip: Option<IpAddr>,
    /// Whether the peer of the connection is a trusted proxy, whose forwarding headers are used.
    pub peer_trusted: bool,
    /// Whether the peer is a sidecar, whose statement that it records the request is trusted (V8).
    pub peer_is_sidecar: bool,
    /// From the client, through the trusted proxies, to the peer: the value for `X-Forwarded-For`.
    pub chain: Vec<IpAddr>,
    /// The client's position in the list in which it was found; `None` where it is the peer.
    pub hop: Option<Hop>,
}

/// A position in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Index from the left.
    pub at: usize,
    /// Length of the list.
    pub of: usize,
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
    let mut hop = None;
    if peer_trusted {
        let entries = entries(headers);
        for (at, entry) in entries.iter().enumerate().rev() {
            let Some(ip) = parse_entry(entry) else {
                break;
            };
            chain.push(ip);
            let of = entries.len();
            hop = Some(Hop { at, of });
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
        hop,
    }
}

/// Whether a configured network contains the address, in IPv4 or mapped notation.
fn is_in(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| match (network, ip) {
        // `::ffff:10.0.0.0/104` means 10.0.0.0/8. A shorter prefix, such as `::/0`, means IPv6 only.
        (IpNet::V6(mapped), IpAddr::V4(ip)) if mapped.prefix_len() >= 96 => {
            mapped.contains(&ip.to_ipv6_mapped())
        }
        _ => network.contains(&ip),
    })
}

/// The addresses that proxies wrote, the client's first. Empty entries are dropped.
fn entries(headers: &HeaderMap) -> Vec<&[u8]> {
    let of = |name: &HeaderName| -> Vec<&[u8]> {
        let values = headers.get_all(name).iter();
        values
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|entry| !entry.is_empty())
            .collect()
    };
    let entries = of(&X_FORWARDED_FOR);
    if !entries.is_empty() {
        return entries;
    }
    let elements = forwarded::elements(headers);
    // An element without an address is none, but it keeps its position.
    let named = |element: &&'_ [u8]| parameter(element, "for").is_some();
    if elements.iter().any(named) {
        let nodes = elements.into_iter().map(|element| parameter(element, "for"));
        return nodes.map(|node| node.unwrap_or_default().as_bytes()).collect();
    }
    // The header holds one address, so a list is ignored.
    Some(of(&X_REAL_IP))
        .filter(|entries| entries.len() == 1)
        .unwrap_or_default()
}

/// An address as proxies write it: bare, with a port, in brackets, with a zone id (which is dropped: it has no meaning
/// on other machines, and databases refuse it).
pub(super) fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
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
