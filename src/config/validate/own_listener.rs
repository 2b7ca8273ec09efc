//! Whether an address leads back to one of the sidecar's own listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use crate::config::Listen;

/// Whether a server is one of the sidecar's listeners. Names other than `localhost` are not resolved: if one leads
/// here, the first request that comes back is refused.
pub(super) fn is_own_listener(server: &str, listen: &Listen) -> bool {
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
    let mut own = listen.site().chain([listen.admin]);
    own.any(|own| addresses.iter().any(|server| reaches(*server, own)))
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
