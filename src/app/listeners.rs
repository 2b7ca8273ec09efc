//! Listening sockets: bound before anything else is started, or taken over from a running sidecar. So a port in use is
//! an error message, and not a panic on Pingora's own thread. Each is bound only once: Pingora (`site`) and the next
//! process get these same sockets.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;

use super::StartError;
use crate::config::Listen;

/// Every socket that the sidecar listens on.
pub(super) struct Listeners {
    /// The addresses, with ports in place of 0.
    pub(super) addresses: Listen,
    /// The admin listener, which is ours.
    pub(super) admin: TcpListener,
    /// The site's, in the order of [`Listen::site`].
    pub(super) site: Vec<(SocketAddr, TcpListener)>,
}

impl Listeners {
    /// Duplicates of the sockets, for a successor. The ports stay open while the duplicates live.
    pub(super) fn copies(&self) -> std::io::Result<Vec<TcpListener>> {
        let site = self.site.iter().map(|(_, listener)| listener);
        site.chain([&self.admin]).map(TcpListener::try_clone).collect()
    }
}

/// Binds every port: all at once, so that two listeners cannot be given the same one.
///
/// # Errors
/// The first address that cannot be bound.
pub(super) fn claim(listen: &Listen) -> Result<Listeners, StartError> {
    let mut addresses = listen.clone();
    let mut site = Vec::new();
    let https = addresses.https.iter_mut().map(|listener| &mut listener.address);
    for address in addresses.http.iter_mut().chain(https) {
        let listener = bind(*address)?;
        *address = listener.local_addr().map_err(anyhow::Error::new)?;
        site.push((*address, listener));
    }
    let admin = bind(addresses.admin)?;
    addresses.admin = admin.local_addr().map_err(anyhow::Error::new)?;
    Ok(Listeners {
        addresses,
        admin,
        site,
    })
}

/// Takes the configured addresses from `inherited`, and binds those that are new. Unused ones are closed when the
/// process that handed them over ends.
///
/// # Errors
/// A new address cannot be bound.
pub(super) fn take_over(listen: &Listen, inherited: Vec<TcpListener>) -> anyhow::Result<Listeners> {
    let mut inherited =
        by_address(inherited).context("a descriptor that was handed over is no listening socket")?;
    let mut take = |address: SocketAddr| match inherited.remove(&address) {
        Some(listener) => Ok(listener),
        None => bind(address).map_err(|error| overlapping(error, address, &inherited)),
    };
    let site = listen.site().map(|address| Ok((address, take(address)?)));
    let site = site.collect::<anyhow::Result<_>>()?;
    let admin = take(listen.admin)?;
    for address in inherited.keys() {
        tracing::info!(%address, "no longer configured; the running sidecar closes it when it ends");
    }
    Ok(Listeners {
        addresses: listen.clone(),
        admin,
        site,
    })
}

/// Checks that every address can be matched with one of another process: port 0 is another one each time.
///
/// # Errors
/// The remedy.
pub(super) fn check_fixed(listen: &Listen) -> Result<(), StartError> {
    match listen.site().chain([listen.admin]).find(|a| a.port() == 0) {
        None => Ok(()),
        Some(address) => Err(StartError::Configuration(format!(
            "{address} cannot be taken over from a running sidecar; give every address under [listen] a port"
        ))),
    }
}

fn by_address(listeners: Vec<TcpListener>) -> std::io::Result<BTreeMap<SocketAddr, TcpListener>> {
    let listeners = listeners.into_iter();
    listeners
        .map(|listener| Ok((listener.local_addr()?, listener)))
        .collect()
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| {
        StartError::Other(anyhow::anyhow!(
            "{address} cannot be listened on ({error}); {} under [listen]",
            remedy(error.kind(), address)
        ))
    })
}

/// What to do where an address cannot be bound.
fn remedy(why: ErrorKind, address: SocketAddr) -> &'static str {
    match why {
        ErrorKind::AddrInUse => "stop what uses it, or choose another address",
        ErrorKind::AddrNotAvailable => {
            "no interface of this machine has that address now: choose one that it has, or 0.0.0.0 or [::] for all of them,"
        }
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            "a port below 1024 takes root or CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE): \
             give the sidecar that, or choose a port from 1024 on"
        }
        // Such as one of IPv6 where the system has none.
        _ => "choose another address",
    }
}

/// `0.0.0.0:80` and `10.0.0.1:80` cannot be listened on at the same time, not even for the time of a hand-over.
fn overlapping(
    error: StartError,
    address: SocketAddr,
    inherited: &BTreeMap<SocketAddr, TcpListener>,
) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    match inherited.keys().find(|other| other.port() == address.port()) {
        Some(other) => anyhow::anyhow!(
            "{address} cannot be listened on while the running sidecar listens on {other}; restart instead of \
             handing over, or choose another port ({error})"
        ),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d12_each_reason_has_its_remedy() {
        for (why, port, says) in [
            (ErrorKind::AddrInUse, 80, "stop what uses it"),
            (ErrorKind::AddrNotAvailable, 80, "no interface of this machine"),
            (ErrorKind::PermissionDenied, 80, "CAP_NET_BIND_SERVICE"),
            (ErrorKind::PermissionDenied, 8080, "choose another address"),
            (ErrorKind::Unsupported, 8080, "choose another address"),
        ] {
            let remedy = remedy(why, SocketAddr::from(([127, 0, 0, 1], port)));
            assert!(remedy.contains(says), "{why}: {remedy}");
        }
    }

    /// Any port of a loopback address that only one test uses, so that no other process takes it.
    fn any_port(own: u8) -> SocketAddr {
        SocketAddr::from(([127, 77, 0, own], 0))
    }

    fn listen(http: Vec<SocketAddr>, admin: SocketAddr) -> Listen {
        Listen {
            http,
            admin,
            ..Listen::default()
        }
    }

    fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
        listeners.iter().map(|l| l.local_addr().unwrap()).collect()
    }

    #[test]
    fn claimed_ports_are_never_free_again_while_a_copy_lives() {
        let claimed = claim(&listen(vec![any_port(1)], any_port(1))).unwrap();
        let copies = claimed.copies().unwrap();
        let taken = [claimed.addresses.http[0], claimed.addresses.admin];
        assert_eq!(addresses(&copies), taken);
        drop(claimed);
        for address in taken {
            assert!(bind(address).is_err());
        }
        drop(copies);
        for address in taken {
            assert!(bind(address).is_ok());
        }
    }

    #[test]
    fn known_addresses_are_taken_over_new_ones_bound_and_others_left() {
        let old = claim(&listen(vec![any_port(2), any_port(2)], any_port(2))).unwrap();
        let [kept, left] = old.addresses.http[..] else {
            panic!("two")
        };
        let old_admin = old.addresses.admin;
        let fresh = SocketAddr::from(([127, 77, 0, 3], kept.port()));
        let new = listen(vec![fresh, kept], old_admin);
        let taken = take_over(&new, old.copies().unwrap()).unwrap();
        assert_eq!(taken.addresses.http, [fresh, kept]);
        assert_eq!(addresses(&taken.copies().unwrap()), [fresh, kept, old_admin]);
        drop(old);
        assert!(bind(kept).is_err() && bind(old_admin).is_err());
        assert!(bind(left).is_ok());
    }

    #[test]
    fn a_new_address_that_overlaps_with_an_old_one_is_refused_with_both_named() {
        let old = claim(&listen(vec![any_port(4)], any_port(4))).unwrap();
        let wildcard = SocketAddr::from(([0, 0, 0, 0], old.addresses.http[0].port()));
        let new = listen(vec![wildcard], old.addresses.admin);
        let error = take_over(&new, old.copies().unwrap()).err().unwrap().to_string();
        assert!(error.contains(&wildcard.to_string()), "{error}");
        assert!(error.contains(&old.addresses.http[0].to_string()), "{error}");
    }

    #[test]
    fn port_zero_cannot_be_taken_over() {
        assert!(check_fixed(&Listen::default()).is_ok());
        let error = check_fixed(&listen(vec![any_port(5)], any_port(5))).unwrap_err();
        assert!(matches!(error, StartError::Configuration(_)));
    }
}
