//! Health of the app's servers: what requests and probes find out about each address, and what that makes of the
//! configured servers and of the app as a whole.
//!
//! An answer is an answer, whatever its status: the app's own errors are the app's. A server is down when no connection
//! can be made to it, when its health path does not answer 200, or when it takes connections and answers nothing.
//!
//! Concurrency: on the request path only atomics are used, unless something has changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::Error;
use pingora_core::protocols::l4::socket::SocketAddr;
use tokio::time::Instant;

use crate::proxy::failure::{connect_reason, own_lack};
use crate::proxy::metrics::ServerGauges;
use crate::status::Component;

/// Time between two lines of the log that a server is down. A server may come and go with every request.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Why an address is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection can be made. Ends with a connection.
    Unreachable(String),
    /// Connections can be made, and nothing is answered. Ends with an answer.
    Silent(String),
    /// The health path is answered, but not with 200. Ends when it is.
    Unhealthy(String),
}

impl Trouble {
    fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason) | Self::Silent(reason) | Self::Unhealthy(reason) => reason,
        }
    }
}

/// What was found out about an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It takes connections.
    Connects,
    /// It answers requests.
    Answers,
    /// Its health path answers 200.
    Healthy,
    /// It is in trouble.
    Trouble(Trouble),
}

/// An address of a server.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Address {
    is_up: AtomicBool,
    is_down: AtomicBool,
    /// When a request was sent to it since which it has answered none, in milliseconds of [`Servers::start`] plus 1;
    /// 0 if it has answered.
    unanswered: AtomicU64,
    /// Requests that failed while it was down.
    failed: AtomicU64,
    /// Changed while [`Servers::state`] is locked.
    trouble: Mutex<Option<Trouble>>,
}

impl Address {
    /// Whether another server is to be preferred.
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A configured server, and the addresses that its name last resolved to.
struct Server {
    name: String,
    addresses: Vec<(SocketAddr, Arc<Address>)>,
    /// Why its name cannot be resolved now.
    unresolved: Option<String>,
    shown: Shown,
    /// When it was last logged that it is down.
    warned: Option<Instant>,
    /// Whether the log says that it is down, and since when.
    said_down: Option<Instant>,
}

/// The condition of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Unknown,
    Up,
    Down(Trouble),
}

/// The app's servers.
pub(in crate::proxy) struct Servers {
    start: Instant,
    in_use: ArcSwap<ServerAddresses>,
    /// In the configured order.
    state: Mutex<Vec<Server>>,
    components: AppComponents,
    gauges: ServerGauges,
}

/// The addresses of all servers.
#[derive(Default)]
struct ServerAddresses {
    by_address: HashMap<SocketAddr, Arc<Address>>,
    /// If there is one, which is the usual case: it needs no choice and no search.
    only: Option<(SocketAddr, Arc<Address>)>,
}

/// What operators are shown of the app.
#[derive(Debug, Clone)]
pub(super) struct AppComponents {
    /// Down while no server answers.
    pub(super) app: Component,
    /// Down while one of several does not.
    pub(super) some: Component,
    /// Down while this process has not what a connection needs.
    pub(super) own: Component,
}

impl Servers {
    /// Nothing is known of any.
    pub(super) fn new(names: &[String], components: AppComponents, gauges: ServerGauges) -> Self {
        let server = |name: &String| Server {
            name: name.clone(),
            addresses: Vec::new(),
            unresolved: None,
            shown: Shown::Unknown,
            warned: None,
            said_down: None,
        };
        for name in names {
            gauges.set(name, false);
        }
        Self {
            start: Instant::now(),
            in_use: ArcSwap::default(),
            state: Mutex::new(names.iter().map(server).collect()),
            components,
            gauges,
        }
    }

    /// The addresses of each server, in the configured order, or why there are none. Those that were known keep their
    /// state; a server whose name cannot be resolved keeps its last addresses. Returns all that are in use.
    pub(super) fn resolved(&self, found: &[Result<Vec<SocketAddr>, String>]) -> Vec<SocketAddr> {
        let known = self.in_use.load_full();
        let mut by_address: HashMap<SocketAddr, Arc<Address>> = HashMap::new();
        let mut servers = self.state();
        for (server, found) in servers.iter_mut().zip(found) {
            server.note_resolution(found.as_ref().err());
            if let Ok(addresses) = found {
                let address = |address: &SocketAddr| {
                    let before = by_address.get(address).or_else(|| known.by_address.get(address));
                    (address.clone(), before.cloned().unwrap_or_default())
                };
                server.addresses = addresses.iter().map(address).collect();
            }
            by_address.extend(server.addresses.iter().cloned());
        }
        let all = by_address.keys().cloned().collect();
        let mut addresses = by_address.iter();
        let only = match (addresses.next(), addresses.next()) {
            (Some((address, known)), None) => Some((address.clone(), Arc::clone(known))),
            _ => None,
        };
        self.in_use.store(Arc::new(ServerAddresses { by_address, only }));
        self.publish(&mut servers);
        all
    }

    /// The address, if there is one in all.
    pub(super) fn only(&self) -> Option<(SocketAddr, Arc<Address>)> {
        self.in_use.load().only.clone()
    }

    /// What is known of an address.
    pub(super) fn of(&self, address: &SocketAddr) -> Option<Arc<Address>> {
        self.in_use.load().by_address.get(address).cloned()
    }

    /// A request was sent to it.
    pub(in crate::proxy) fn asked(&self, address: &Address) {
        let unanswered = &address.unanswered;
        if unanswered.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            let now = now.saturating_add(1);
            // Whoever is first.
            let _ = unanswered.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// It has sent the head of an answer.
    pub(in crate::proxy) fn answered(&self, address: &Address) {
        if address.unanswered.load(Ordering::Relaxed) != 0 {
            address.unanswered.store(0, Ordering::Relaxed);
        }
        if !address.is_up.load(Ordering::Relaxed) {
            self.found(address, Finding::Answers);
        }
    }

    /// A request could not be sent to it, for lack of a connection.
    pub(in crate::proxy) fn no_connection(&self, address: &Address, error: &Error) {
        address.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(finding) = self.without_connection(address, error) {
            self.found(address, finding);
        }
    }

    /// What an error says about a server to which no connection could be made; nothing where it is our own.
    pub(super) fn without_connection(&self, address: &Address, error: &Error) -> Option<Finding> {
        if let Some(lack) = own_lack(error, address.is_up.load(Ordering::Relaxed)) {
            self.lacks(lack);
            return None;
        }
        Some(Finding::Trouble(Trouble::Unreachable(connect_reason(error))))
    }

    /// No connection could be made for lack of something that this process needs for one: that says nothing about the
    /// server.
    fn lacks(&self, what: String) {
        self.components.own.down(what, |reason| {
            tracing::error!(
                reason,
                "this process cannot connect to the app: it lacks files, ports or memory; see its limits \
                 (LimitNOFILE, limits.max_connections)"
            );
        });
    }

    /// A connection was made.
    fn connected(&self) {
        self.components
            .own
            .up(|_| tracing::info!("this process can connect to the app again"));
    }

    /// Whether it owes answers for at least `patience`, or is known to answer nothing.
    pub(super) fn is_doubtful(&self, address: &Address, patience: Duration) -> bool {
        let since = address.unanswered.load(Ordering::Relaxed);
        let waits = u128::from(since) + patience.as_millis() <= self.start.elapsed().as_millis() + 1;
        (since > 0 && waits) || matches!(&*address.trouble(), Some(Trouble::Silent(_)))
    }

    /// Takes note of a finding.
    pub(super) fn found(&self, address: &Address, finding: Finding) {
        if !matches!(finding, Finding::Trouble(Trouble::Unreachable(_))) {
            self.connected();
        }
        let mut servers = self.state();
        let mut trouble = address.trouble();
        let settles = !matches!(finding, Finding::Connects | Finding::Trouble(Trouble::Silent(_)));
        let next = match (finding, trouble.take()) {
            (Finding::Connects, Some(former @ (Trouble::Silent(_) | Trouble::Unhealthy(_))))
            | (Finding::Answers, Some(former @ Trouble::Unhealthy(_))) => Some(former),
            (Finding::Connects | Finding::Answers | Finding::Healthy, _) => None,
            (Finding::Trouble(trouble), _) => Some(trouble),
        };
        address.is_up.store(next.is_none(), Ordering::Relaxed);
        address.is_down.store(next.is_some(), Ordering::Relaxed);
        if settles {
            // It owes nothing any more.
            address.unanswered.store(0, Ordering::Relaxed);
        }
        *trouble = next;
        drop(trouble);
        self.publish(&mut servers);
    }

    fn state(&self) -> MutexGuard<'_, Vec<Server>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what has changed in gauges, status and log.
    fn publish(&self, servers: &mut [Server]) {
        let now = Instant::now();
        let mut has_changed = false;
        for server in &mut *servers {
            let condition = server.condition();
            has_changed |= condition != server.shown;
            server.shown = condition;
            server.log(now);
        }
        if !has_changed {
            return;
        }
        let mut down = Vec::new();
        for server in &*servers {
            self.gauges.set(&server.name, server.shown == Shown::Up);
            if let Shown::Down(trouble) = &server.shown {
                down.push(format!("{}: {}", server.name, trouble.reason()));
            }
        }
        if down.len() == servers.len() {
            self.components.app.show(down);
            self.components.some.up(|_| {});
        } else {
            if servers.iter().any(|server| server.shown == Shown::Up) {
                self.components.app.up(|_| {});
            }
            self.components.some.show(down);
        }
    }
}

impl Server {
    /// Up if one of its addresses is.
    fn condition(&self) -> Shown {
        let (mut trouble, mut is_unknown) = (None, false);
        for (_, address) in &self.addresses {
            match &*address.trouble() {
                None if address.is_up.load(Ordering::Relaxed) => return Shown::Up,
                None => is_unknown = true,
                Some(found) => trouble = trouble.or_else(|| Some(found.clone())),
            }
        }
        match (trouble, &self.unresolved) {
            (_, None) if is_unknown => Shown::Unknown,
            (Some(trouble), _) => Shown::Down(trouble),
            (None, Some(reason)) => Shown::Down(Trouble::Unreachable(reason.clone())),
            (None, None) => Shown::Unknown,
        }
    }

    /// Whether its name could be resolved. Told once where its former addresses stay in use.
    fn note_resolution(&mut self, problem: Option<&String>) {
        let server = &self.name;
        match (problem, &self.unresolved) {
            (Some(reason), None) if !self.addresses.is_empty() => {
                tracing::warn!(
                    server,
                    reason,
                    "a server of the app stays in use at its last known addresses"
                );
            }
            (None, Some(_)) => tracing::info!(server, "the name of a server of the app is resolved again"),
            _ => {}
        }
        self.unresolved = problem.cloned();
    }

    fn log(&mut self, now: Instant) {
        let server = &self.name;
        match (&self.shown, self.said_down) {
            (Shown::Down(trouble), None) if self.warned.is_none_or(|at| now >= at + BETWEEN_LINES) => {
                let reason = trouble.reason();
                tracing::warn!(server, reason, "a server of the app does not answer");
                (self.warned, self.said_down) = (Some(now), Some(now));
            }
            (Shown::Up, Some(since)) => {
                let failed: u64 = self
                    .addresses
                    .iter()
                    .map(|(_, address)| address.failed.swap(0, Ordering::Relaxed))
                    .sum();
                let seconds = (now - since).as_secs();
                tracing::info!(
                    server,
                    seconds,
                    failed_connections = failed,
                    "a server of the app answers again"
                );
                self.said_down = None;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
