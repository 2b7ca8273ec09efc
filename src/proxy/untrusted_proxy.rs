//! Notices a proxy in front that `limits.trusted_proxies` does not name: its visitors all have its address, and the app is
//! told http where they use https.
//!
//! Any client can send such headers. So only peers of this machine or a private network are looked at, and page
//! navigations only, of which nearly all have to carry them: health checks and clients of a container network do not. They
//! are counted for one address at a time, and anew when they come from another. Behind network address translation, such as
//! Docker's published ports, all clients may have one private address, and what they forge looks the same: so the sentence
//! says when not to name the address. It is logged once; what a stranger sends never makes the sidecar's state a bad one.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName};

use super::client_ip::{ClientIp, X_FORWARDED_FOR, X_REAL_IP};
use super::forwarded::FORWARDED;
use super::forwarding::PROTO;

/// Navigations with such headers, less those without, after which it is told.
const NAVIGATIONS: u32 = 20;

/// Whether it was told, and how much speaks for it.
#[derive(Debug, Default)]
pub(super) struct UntrustedProxy {
    is_told: AtomicBool,
    /// Whether anything is counted: until then requests without forwarding headers need no further look.
    has_carried: AtomicBool,
    /// The last address from which navigations came with forwarding headers, and how many of them; halved by each without.
    carrying: Mutex<Option<(IpAddr, u32)>>,
}

impl UntrustedProxy {
    /// Takes note of a request's head; logs once per process.
    pub(super) fn notice(&self, headers: &HeaderMap, client: &ClientIp) {
        let Some(peer) = client.ip else { return };
        // Without such headers only what others carried before changes.
        let may_carry = || headers.keys().any(|name| name.as_str().starts_with(['f', 'x']));
        if !self.has_carried.load(Ordering::Relaxed) && !may_carry() {
            return;
        }
        if client.peer_trusted
            || self.is_told.load(Ordering::Relaxed)
            || !is_near(peer)
            || !is_navigation(headers)
        {
            return;
        }
        let names = forwarding(headers);
        if self.count(peer, !names.is_empty()) >= NAVIGATIONS && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                headers = names.join(", "),
                "a peer that limits.trusted_proxies does not name sends forwarding headers, which are not used: if it is a \
                 proxy, its visitors all have its address, and the app sees http where they use https; add to [limits]: \
                 trusted_proxies = [\"{peer}\"]; not if clients without a proxy have this address, too, as behind Docker's \
                 published ports: each of them could then choose its address (logged once)"
            );
        }
    }

    /// Counts a navigation with forwarding headers or without. How much speaks for a proxy at this address.
    fn count(&self, peer: IpAddr, carries: bool) -> u32 {
        // Requests may count at the same time: it is no matter of one more or less.
        let Ok(mut counted) = self.carrying.try_lock() else {
            return 0;
        };
        let of_peer = counted.filter(|(address, _)| *address == peer);
        let before = of_peer.map_or(0, |(_, carrying)| carrying);
        if carries {
            self.has_carried.store(true, Ordering::Relaxed);
            *counted = Some((peer, before + 1));
            return before + 1;
        }
        if of_peer.is_some() {
            *counted = Some((peer, before / 2));
        }
        0
    }
}

/// Whether the address is one of this machine, or of a private network.
fn is_near(peer: IpAddr) -> bool {
    match peer {
        IpAddr::V4(peer) => {
            // 100.64.0.0/10 is shared by the machines of a provider (RFC 6598).
            let is_shared = peer.octets()[0] == 100 && peer.octets()[1] & 0b1100_0000 == 64;
            peer.is_loopback() || peer.is_private() || peer.is_link_local() || is_shared
        }
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local() || peer.is_unicast_link_local(),
    }
}

fn is_navigation(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT);
    accept.is_some_and(|accept| accept.as_bytes().starts_with(b"text/html"))
}

/// Names of the forwarding headers, as proxies' manuals write them.
fn forwarding(headers: &HeaderMap) -> Vec<&'static str> {
    let known: [(&HeaderName, &'static str); 4] = [
        (&X_FORWARDED_FOR, "X-Forwarded-For"),
        (&PROTO, "X-Forwarded-Proto"),
        (&FORWARDED, "Forwarded"),
        (&X_REAL_IP, "X-Real-IP"),
    ];
    let sent = known.into_iter().filter(|(name, _)| headers.contains_key(*name));
    sent.map(|(_, written)| written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is told after so many navigations of this peer.
    fn is_told(peer: &str, trusted: bool, heads: &[(&[(&str, &str)], usize)]) -> bool {
        let proxy = UntrustedProxy::default();
        sees(&proxy, peer, trusted, heads);
        proxy.is_told.into_inner()
    }

    fn sees(proxy: &UntrustedProxy, peer: &str, trusted: bool, heads: &[(&[(&str, &str)], usize)]) {
        let client = ClientIp {
            ip: Some(peer.parse().expect("an address")),
            peer_trusted: trusted,
            ..ClientIp::default()
        };
        for (head, times) in heads {
            let headers = head.iter().map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
                (name, value.parse().expect("a value"))
            });
            let headers: HeaderMap = headers.collect();
            for _ in 0..*times {
                proxy.notice(&headers, &client);
            }
        }
    }

    const PAGE: (&str, &str) = ("accept", "text/html,*/*;q=0.8");
    const FOR: (&str, &str) = ("x-forwarded-for", "192.0.2.7");

    #[test]
    fn v46_a_proxy_nearby_that_is_not_trusted_is_told_of() {
        for peer in [
            "127.0.0.1",
            "10.1.2.3",
            "172.18.0.2",
            "100.64.0.1",
            "::1",
            "fd00::2",
        ] {
            assert!(is_told(peer, false, &[(&[PAGE, FOR], 20)]), "{peer}");
            assert!(!is_told(peer, true, &[(&[PAGE, FOR], 20)]), "{peer}");
        }
        for header in ["forwarded", "x-forwarded-proto", "x-real-ip"] {
            let named: &[_] = &[PAGE, (header, "https")];
            assert!(is_told("10.0.0.1", false, &[(named, 20)]), "{header}");
        }
    }

    #[test]
    fn v46_what_strangers_forge_and_health_checks_lack_says_nothing() {
        for peer in ["198.51.100.7", "100.128.0.1", "2001:db8::1"] {
            assert!(!is_told(peer, false, &[(&[PAGE, FOR], 1_000)]), "{peer}");
        }
        // Few among many.
        let mixed: Vec<(&[_], usize)> = (0..100)
            .flat_map(|_| [(&[PAGE, FOR][..], 3), (&[PAGE][..], 1)])
            .collect();
        assert!(!is_told("10.0.0.1", false, &mixed));
        // No navigations, with or without.
        let checked: Vec<(&[_], usize)> = (0..20)
            .flat_map(|_| [(&[PAGE, FOR][..], 1), (&[("accept", "*/*")][..], 9)])
            .collect();
        assert!(is_told("10.0.0.1", false, &checked));
        assert!(!is_told("10.0.0.1", false, &[(&[("accept", "*/*"), FOR], 1_000)]));
    }

    #[test]
    fn v46_navigations_are_counted_for_one_address() {
        let proxy = UntrustedProxy::default();
        let carries = |peer: &str, times: usize| {
            sees(&proxy, peer, false, &[(&[PAGE, FOR], times)]);
            proxy.is_told.load(Ordering::Relaxed)
        };
        // Two may each forge some: nobody is to be trusted for what another has sent.
        for _ in 0..10 {
            assert!(!carries("10.0.0.1", 19));
            assert!(!carries("10.0.0.2", 19));
        }
        // What others send without headers says nothing of a proxy.
        assert!(!carries("10.0.0.1", 19));
        sees(&proxy, "10.0.0.3", false, &[(&[PAGE], 5)]);
        assert!(carries("10.0.0.1", 1));
    }
}
