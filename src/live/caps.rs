//! Limits on the number of live connections: in all, per user, and per address (L3).

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::UserId;
use crate::rate_limit::network;

/// Upper bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    pub(super) total: usize,
    pub(super) per_user: usize,
    pub(super) per_address: usize,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The limit of all connections.
    Total,
    /// The limit per user.
    User,
    /// The limit per address.
    Address,
}

/// Counts the connections in each limit.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    caps: Caps,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    users: HashMap<UserId, usize>,
    addresses: HashMap<IpAddr, usize>,
}

/// One counted connection, until dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    user: Option<UserId>,
    address: Option<IpAddr>,
}

impl Places {
    /// No connections.
    pub(super) fn new(caps: Caps) -> Self {
        Self(Arc::new(Shared {
            caps,
            taken: Mutex::default(),
        }))
    }

    /// Counts a connection, unless a limit is reached.
    pub(super) fn take(&self, user: Option<UserId>, address: Option<IpAddr>) -> Result<Place, Full> {
        let address = address.map(network);
        let caps = self.0.caps;
        let mut taken = self.0.lock();
        if taken.total >= caps.total {
            return Err(Full::Total);
        }
        if is_full(&taken.users, user.as_ref(), caps.per_user) {
            return Err(Full::User);
        }
        if is_full(&taken.addresses, address.as_ref(), caps.per_address) {
            return Err(Full::Address);
        }
        taken.total += 1;
        add(&mut taken.users, user.as_ref());
        add(&mut taken.addresses, address.as_ref());
        Ok(Place {
            shared: Arc::clone(&self.0),
            user,
            address,
        })
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.lock();
        taken.total -= 1;
        remove(&mut taken.users, self.user.as_ref());
        remove(&mut taken.addresses, self.address.as_ref());
    }
}

fn is_full<K: Eq + Hash>(taken: &HashMap<K, usize>, key: Option<&K>, cap: usize) -> bool {
    key.and_then(|key| taken.get(key))
        .is_some_and(|taken| *taken >= cap)
}

fn add<K: Eq + Hash + Clone>(taken: &mut HashMap<K, usize>, key: Option<&K>) {
    if let Some(key) = key {
        *taken.entry(key.clone()).or_default() += 1;
    }
}

fn remove<K: Eq + Hash>(taken: &mut HashMap<K, usize>, key: Option<&K>) {
    if let Some(key) = key
        && let Some(count) = taken.get_mut(key)
    {
        *count -= 1;
        if *count == 0 {
            taken.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(total: usize, per_user: usize, per_address: usize) -> Places {
        Places::new(Caps {
            total,
            per_user,
            per_address,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn l3_each_user_and_each_address_has_so_many_places() {
        let places = places(100, 2, 3);
        let alice = || Some(UserId::from("alice"));
        let first = places.take(alice(), Some(ip("192.0.2.1"))).unwrap();
        let _second = places.take(alice(), Some(ip("192.0.2.2"))).unwrap();
        assert_eq!(
            places.take(alice(), Some(ip("192.0.2.3"))).unwrap_err(),
            Full::User
        );
        drop(first);
        let _third = places.take(alice(), Some(ip("192.0.2.9"))).unwrap();
        let _others: Vec<_> = (0..3)
            .map(|_| places.take(None, Some(ip("198.51.100.1"))).unwrap())
            .collect();
        assert_eq!(
            places.take(None, Some(ip("198.51.100.1"))).unwrap_err(),
            Full::Address
        );
        assert!(places.take(None, None).is_ok(), "neither is known");
    }

    #[test]
    fn l3_an_ipv6_network_is_one_address() {
        let places = places(100, 1, 1);
        let _one = places.take(None, Some(ip("2001:db8::1"))).unwrap();
        assert_eq!(
            places.take(None, Some(ip("2001:db8::2"))).unwrap_err(),
            Full::Address
        );
        assert!(places.take(None, Some(ip("2001:db8:0:1::1"))).is_ok());
        let _v4 = places.take(None, Some(ip("192.0.2.1"))).unwrap();
        assert_eq!(
            places.take(None, Some(ip("::ffff:192.0.2.1"))).unwrap_err(),
            Full::Address
        );
    }

    #[test]
    fn a_place_that_was_given_back_leaves_nothing() {
        let places = places(1, 1, 1);
        let place = places.take(Some("a".into()), Some(ip("192.0.2.1"))).unwrap();
        assert_eq!(places.take(None, None).unwrap_err(), Full::Total);
        drop(place);
        let taken = places.0.lock();
        assert_eq!(taken.total, 0);
        assert!(taken.users.is_empty() && taken.addresses.is_empty());
    }
}
