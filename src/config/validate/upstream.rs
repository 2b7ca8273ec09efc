//! Validation of `[upstream]`: addresses of the app that are not the sidecar's own, and limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use super::{Problem, ensure, positive};
use crate::config::{Config, Listen};

pub(super) fn upstream(config: &Config) -> Result<(), Problem> {
    let upstream = &config.upstream;
    ensure(
        !upstream.servers.is_empty(),
        "upstream.servers",
        "no server is given; write where the app listens, for example servers = [\"127.0.0.1:8000\"]",
    )?;
    for (index, server) in upstream.servers.iter().enumerate() {
        let problem = match server.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => None,
            Some(_) => Some("needs an absolute path, for example \"unix:/run/app.sock\""),
            None if server.contains("://") => {
                Some("is a URL; write host:port or unix:/path without a scheme")
            }
            None if is_own_listener(server, &config.listen) => Some(
                "is the sidecar's own listener, so that each request would come back; write where the app listens",
            ),
            None if is_host_and_port(server) => None,
            None => Some("is neither host:port nor unix:/path"),
        };
        if let Some(problem) = problem {
            return Err((
                format!("upstream.servers[{index}]"),
                format!("\"{server}\" {problem}"),
            ));
        }
    }
    ensure(
        upstream.retries <= 10,
        "upstream.retries",
        format!("is {}, must be at most 10", upstream.retries),
    )?;
    ensure(
        http::HeaderValue::from_str(&upstream.health_host).is_ok() && !upstream.health_host.is_empty(),
        "upstream.health_host",
        "is no host name",
    )?;
    if let Some(path) = &upstream.health_path {
        ensure(path.starts_with('/'), "upstream.health_path", "must start with /")?;
    }
    positive(&[
        ("upstream.connect_timeout", upstream.connect_timeout),
        ("upstream.read_timeout", upstream.read_timeout),
        ("upstream.write_timeout", upstream.write_timeout),
        ("upstream.tunnel_timeout", upstream.tunnel_timeout),
        ("upstream.health_interval", upstream.health_interval),
    ])
}

pub(super) fn is_host_and_port(server: &str) -> bool {
    if server.parse::<SocketAddr>().is_ok() {
        return true;
    }
    server.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok_and(|port| port != 0)
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    })
}

/// Whether a server is one of the sidecar's listeners. Names other than `localhost` are not resolved: if one leads
/// here, the first request that comes back is refused.
fn is_own_listener(server: &str, listen: &Listen) -> bool {
    let addresses: Vec<SocketAddr> = match (server.parse(), server.rsplit_once(':')) {
        (Ok(address), _) => vec![address],
        (Err(_), Some((name, port))) if name.eq_ignore_ascii_case("localhost") => {
            let loopback = [
                IpAddr::from(Ipv4Addr::LOCALHOST),
                IpAddr::from(Ipv6Addr::LOCALHOST),
            ];
            let port = port.parse::<u16>().ok();
            let addresses = loopback.into_iter().zip(port.into_iter().cycle());
            addresses.map(SocketAddr::from).collect()
        }
        _ => return false,
    };
    let own = listen.http.iter().copied();
    let own = own.chain(listen.https.iter().map(|listener| listener.address));
    let own: Vec<SocketAddr> = own.chain([listen.admin]).collect();
    addresses
        .iter()
        .any(|server| own.iter().any(|own| reaches(*server, *own)))
}

/// Whether a connection to `address` may reach a listener on `listener`.
fn reaches(address: SocketAddr, listener: SocketAddr) -> bool {
    let (ip, on) = (address.ip().to_canonical(), listener.ip().to_canonical());
    let is_taken_in = on.is_unspecified() && (on.is_ipv6() || ip.is_ipv4());
    listener.port() != 0
        && address.port() == listener.port()
        && (ip == on || is_taken_in && is_of_this_machine(ip))
}

/// Whether an interface of this machine has the address. A trial bind would not show that: with
/// `net.ipv4.ip_nonlocal_bind` any address can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    // The loopback interface lists one address of 127.0.0.0/8, and accepts all.
    ip.is_unspecified() || ip.is_loopback() || interfaces().any(|own| own == ip)
}

/// The addresses of the machine's interfaces; none where the system does not list them.
fn interfaces() -> impl Iterator<Item = IpAddr> {
    let told = getifaddrs().into_iter().flatten();
    told.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn e22_an_address_is_of_this_machine_when_an_interface_has_it() {
        for own in ["127.0.0.1", "127.0.0.5", "::1", "0.0.0.0"] {
            assert!(is_of_this_machine(own.parse().unwrap()), "{own}");
        }
        for other in ["192.0.2.7", "2001:db8::7"] {
            assert!(!is_of_this_machine(other.parse().unwrap()), "{other}");
        }
        // The address of outgoing connections is an own one, where there is a route at all.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.7:9").is_ok() {
            assert!(is_of_this_machine(socket.local_addr().unwrap().ip()));
        }
    }
}
