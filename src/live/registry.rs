//! Registry of open connections: the limits on their number (L3), the connections of each session, and draining.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::close::Close;
use super::subscriber::Subscriber;
use crate::browser_session::BrowserSession;
use crate::ids::{BrowserSessionId, UserId};
use crate::rate_limit::network;

/// Upper bounds of connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    pub(super) total: usize,
    pub(super) per_user: usize,
    pub(super) per_address: usize,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// The limit of all connections.
    Total,
    /// The limit per user.
    User,
    /// The limit per address.
    Address,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A limit is reached.
    LimitReached(LimitReached),
    /// The process is ending.
    Draining,
    /// No snapshot in time: presence is away.
    Unavailable,
}

/// The registry.
pub(super) struct ConnectionRegistry {
    limits: ConnectionLimits,
    state: Mutex<State>,
    /// Notified when the last connection has ended.
    empty: Notify,
}

#[derive(Default)]
struct State {
    connections: HashMap<u64, Arc<Subscriber>>,
    /// The connections of each session.
    sessions: HashMap<BrowserSessionId, HashSet<u64>>,
    /// The number of connections of each user.
    users: HashMap<UserId, usize>,
    /// The number of connections of each address.
    addresses: HashMap<IpAddr, usize>,
    /// The connections of servers.
    servers: HashSet<u64>,
    latest_id: u64,
    draining: bool,
}

/// A registered connection, until dropped.
pub(super) struct Registration {
    registry: Arc<ConnectionRegistry>,
    pub(super) subscriber: Arc<Subscriber>,
    owner: Option<(Option<BrowserSessionId>, UserId)>,
    address: Option<IpAddr>,
}

impl ConnectionRegistry {
    /// Without connections.
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            state: Mutex::default(),
            empty: Notify::new(),
        })
    }

    /// Registers a connection of the session's user from the address.
    ///
    /// # Errors
    /// A limit is reached, or connections are drained.
    pub(super) fn register(
        self: &Arc<Self>,
        session: Option<&BrowserSession>,
        address: Option<IpAddr>,
    ) -> Result<Registration, Refused> {
        let owner = session.map(|session| (session.id.clone(), session.user_id.clone()));
        let address = address.map(network);
        let mut state = self.lock();
        state.check(
            self.limits,
            owner.as_ref().map(|(_, user)| user),
            address.as_ref(),
        )?;
        state.latest_id += 1;
        let id = state.latest_id;
        let subscriber = Arc::new(Subscriber::new(id));
        state.connections.insert(id, Arc::clone(&subscriber));
        if let Some((session, user)) = &owner {
            if let Some(session) = session {
                state.sessions.entry(session.clone()).or_default().insert(id);
            }
            *state.users.entry(user.clone()).or_default() += 1;
        }
        if let Some(address) = address {
            *state.addresses.entry(address).or_default() += 1;
        }
        Ok(Registration {
            registry: Arc::clone(self),
            subscriber,
            owner,
            address,
        })
    }

    /// Signals to the connections of these sessions that they have changed.
    pub(super) fn sessions_changed(&self, changed: &HashSet<BrowserSessionId>) {
        let state = self.lock();
        let ids = changed.iter().filter_map(|session| state.sessions.get(session));
        for subscriber in ids.flatten().filter_map(|id| state.connections.get(id)) {
            subscriber.session_changed();
        }
    }

    /// Signals to the connections of servers that their keys may have changed.
    pub(super) fn keys_changed(&self) {
        let state = self.lock();
        for subscriber in state.servers.iter().filter_map(|id| state.connections.get(id)) {
            subscriber.session_changed();
        }
    }

    /// Signals to all connections that their session may have changed.
    pub(super) fn any_session_changed(&self) {
        for subscriber in self.lock().connections.values() {
            subscriber.session_changed();
        }
    }

    /// Closes all connections, and refuses new ones.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        for subscriber in state.connections.values() {
            subscriber.close(Close::GoingAway);
        }
    }

    /// Waits until there are no connections.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.empty.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(
        &self,
        limits: ConnectionLimits,
        user: Option<&UserId>,
        address: Option<&IpAddr>,
    ) -> Result<(), Refused> {
        if self.connections.len() >= limits.total {
            return Err(Refused::LimitReached(LimitReached::Total));
        }
        if is_full(&self.users, user, limits.per_user) {
            return Err(Refused::LimitReached(LimitReached::User));
        }
        if is_full(&self.addresses, address, limits.per_address) {
            return Err(Refused::LimitReached(LimitReached::Address));
        }
        if self.draining {
            return Err(Refused::Draining);
        }
        Ok(())
    }
}

impl Registration {
    /// Its owner is a server.
    pub(super) fn is_a_servers(&self) {
        self.registry.lock().servers.insert(self.subscriber.id);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        let id = self.subscriber.id;
        state.connections.remove(&id);
        state.servers.remove(&id);
        if let Some((session, user)) = &self.owner {
            if let Some(session) = session
                && let Some(connections) = state.sessions.get_mut(session)
            {
                connections.remove(&id);
                if connections.is_empty() {
                    state.sessions.remove(session);
                }
            }
            decrement(&mut state.users, user);
        }
        if let Some(address) = &self.address {
            decrement(&mut state.addresses, address);
        }
        let is_empty = state.connections.is_empty();
        drop(state);
        if is_empty {
            self.registry.empty.notify_waiters();
        }
    }
}

fn is_full<K: Eq + Hash>(counts: &HashMap<K, usize>, key: Option<&K>, limit: usize) -> bool {
    key.and_then(|key| counts.get(key))
        .is_some_and(|count| *count >= limit)
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use chrono::DateTime;
    use futures_util::FutureExt as _;

    use super::super::subscriber::Signal;
    use super::*;

    fn registry(total: usize, per_user: usize, per_address: usize) -> Arc<ConnectionRegistry> {
        ConnectionRegistry::new(ConnectionLimits {
            total,
            per_user,
            per_address,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn session(user: &str) -> BrowserSession {
        BrowserSession::valid_until(&format!("session of {user}"), user, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn l3_each_user_and_each_address_has_so_many_places() {
        let registry = registry(100, 2, 3);
        let alice = session("alice");
        let of_alice = |address| registry.register(Some(&alice), Some(ip(address)));
        let first = of_alice("192.0.2.1").unwrap();
        let _second = of_alice("192.0.2.2").unwrap();
        assert_eq!(
            of_alice("192.0.2.3").err(),
            Some(Refused::LimitReached(LimitReached::User))
        );
        drop(first);
        let _third = of_alice("192.0.2.9").unwrap();
        let anybody = || registry.register(None, Some(ip("198.51.100.1")));
        let _others: Vec<_> = (0..3).map(|_| anybody().unwrap()).collect();
        assert_eq!(
            anybody().err(),
            Some(Refused::LimitReached(LimitReached::Address))
        );
        assert!(registry.register(None, None).is_ok(), "neither is known");
    }

    #[test]
    fn l3_an_ipv6_network_is_one_address() {
        let registry = registry(100, 1, 1);
        let from = |address| registry.register(None, Some(ip(address)));
        let _one = from("2001:db8::1").unwrap();
        assert_eq!(
            from("2001:db8::2").err(),
            Some(Refused::LimitReached(LimitReached::Address))
        );
        assert!(from("2001:db8:0:1::1").is_ok());
        let _v4 = from("192.0.2.1").unwrap();
        assert_eq!(
            from("::ffff:192.0.2.1").err(),
            Some(Refused::LimitReached(LimitReached::Address))
        );
    }

    #[test]
    fn a_place_that_was_given_back_leaves_nothing() {
        let registry = registry(1, 1, 1);
        let place = registry.register(Some(&session("a")), Some(ip("192.0.2.1")));
        assert_eq!(
            registry.register(None, None).err(),
            Some(Refused::LimitReached(LimitReached::Total))
        );
        drop(place);
        let state = registry.lock();
        assert!(state.connections.is_empty() && state.sessions.is_empty());
        assert!(state.users.is_empty() && state.addresses.is_empty());
    }

    #[test]
    fn i5_the_connections_of_a_session_that_changed_are_told_and_no_others() {
        let registry = registry(9, 9, 9);
        let [first, second, other] =
            ["alice", "alice", "bob"].map(|user| registry.register(Some(&session(user)), None).unwrap());
        let told = |registration: &Registration| {
            let next = poll_fn(|context| registration.subscriber.poll(context, true));
            matches!(next.now_or_never(), Some(Signal::SessionChanged))
        };
        registry.sessions_changed(&session("alice").id.into_iter().collect());
        assert_eq!([&first, &second, &other].map(told), [true, true, false]);
        registry.any_session_changed();
        assert_eq!([&first, &second, &other].map(told), [true, true, true]);
    }

    #[test]
    fn a17_the_connections_of_servers_are_told_that_keys_have_changed_and_no_others() {
        let registry = registry(9, 9, 9);
        let visitor = registry.register(Some(&session("alice")), None).unwrap();
        let [server, other] = [(); 2].map(|()| registry.register(None, None).unwrap());
        server.is_a_servers();
        let told = |registration: &Registration| {
            let next = poll_fn(|context| registration.subscriber.poll(context, true));
            matches!(next.now_or_never(), Some(Signal::SessionChanged))
        };
        registry.keys_changed();
        assert_eq!([&visitor, &server, &other].map(told), [false, true, false]);
        drop(server);
        assert!(registry.lock().servers.is_empty());
    }
}
