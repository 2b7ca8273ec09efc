//! Status: which components are up, down or off, since when and why. `/readyz`, the dashboard and the gauges of
//! [`StatusGauges`] are derived from it; no other place keeps such a state.
//!
//! A [`Component`] also notices when its state changes, so that a failure is logged once, and its end once. The text is
//! the caller's. One that no operator is shown is not part of [`Status`], and is kept by whoever uses it.
//!
//! Architecture invariant: imports no other module.

mod gauges;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use gauges::GaugeValue;

pub use gauges::StatusGauges;

/// Declares the components: help text and name of the gauge that shows each, and its first state.
macro_rules! components {
    ($(#[doc = $help:literal] $component:ident: $first:ident = $gauge:expr,)+) => {
        /// The components that operators are shown. Clones share them.
        #[derive(Clone, Debug)]
        pub struct Status {
            $(#[doc = $help] pub $component: Component,)+
            partitions_down: Arc<AtomicI32>,
            redis_servers: Arc<ArcSwap<RedisServers>>,
            backlog: Arc<ArcSwap<Backlog>>,
        }

        impl Default for Status {
            /// As long as nothing has been tried.
            fn default() -> Self {
                Self {
                    $($component: Component::new(ComponentState::$first),)+
                    partitions_down: Arc::default(),
                    redis_servers: Arc::default(),
                    backlog: Arc::default(),
                }
            }
        }

        impl Status {
            /// A copy that changes no more: an answer takes everything from one, for its lines to agree.
            #[must_use]
            pub fn frozen(&self) -> Self {
                Self {
                    $($component: Component::of(self.$component.condition()),)+
                    partitions_down: Arc::new(AtomicI32::new(self.partitions_down())),
                    redis_servers: Arc::new(ArcSwap::new(self.redis_servers())),
                    backlog: Arc::new(ArcSwap::new(self.backlog.load_full())),
                }
            }
        }

        /// Gauge, its help text, and value of each component.
        const COMPONENTS: &[(Option<&str>, &str, GaugeValue)] =
            &[$(($gauge, $help, |status| status.$component.condition().value().into()),)+];
    };
}

components! {
    /// Whether any of the app's servers answers
    app: Unknown = None,
    /// Down while some of the app's servers do not answer, and others do
    app_servers: Up = None,
    /// Down while this process lacks files, ports or memory for a connection to the app
    app_connections: Up = None,
    /// 0 while nobody is recognised: page navigations with cookies belong to no known session, and somebody has signed in
    recognition: Up = Some("recognition_ok"),
    /// 1 while the app's database answers, 0 while it does not
    database: Unknown = Some("database_up"),
    /// 1 unless the ledger of applied batches was found missing, newer or forbidden
    ledger: Up = Some("ledger_ok"),
    /// Down while the database refuses every page view
    writes: Up = None,
    /// Down while the app's tables are not as configured
    tables: Up = None,
    /// Down while something cannot be updated that is written beside the events
    updates: Up = None,
    /// 1 while the spool can be written, 0 while it cannot, -1 where nothing is written
    spool: Off = Some("spool_up"),
    /// The connection on which the database notifies of changes of sessions; off where that is not configured
    session_listener: Off = None,
    /// Down while the trigger that notifies is missing
    session_trigger: Up = None,
    /// 1 while Redis answers, 0 while it does not, -1 where presence is in memory
    redis: Unknown = Some("redis_up"),
    /// 1 while sweeps of presence succeed, 0 after three in a row that failed: Redis is away, or refuses the commands
    presence: Up = Some("presence_up"),
    /// Down while sidecars on the same keys of Redis have different settings
    presence_settings: Up = None,
    /// 1 while the subscription to changes in Redis is up, 0 while it is not, -1 where presence is in memory
    redis_changes: Unknown = Some("live_subscription_up"),
    /// 1 if the route files were valid when they were last read, else 0
    routes: Up = Some("config_last_reload_successful"),
    /// 1 if the listeners' certificates were valid when they were last read, else 0
    certificates: Up = Some("certificates_last_reload_successful"),
    /// 1 if the keys of JWTs were valid when they were last read, else 0
    jwt_keys: Up = Some("jwt_keys_last_reload_successful"),
    /// 1 if the file with the API keys of servers was valid when it was last read, else 0
    api_keys: Up = Some("api_keys_last_reload_successful"),
}

/// Addresses of Redis, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisServers {
    /// As configured: `server 127.0.0.1:6379`.
    pub configured: String,
    /// Those nodes of a Cluster that do not answer.
    pub down: Vec<String>,
}

/// Page views on disk, over all spools.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    missing_docs,
    reason = "named as the gauges `headcount_spool_…` and `headcount_dead_letters`"
)]
pub struct Backlog {
    pub views: f64,
    pub bytes: f64,
    pub kept_bytes: f64,
    pub limit_bytes: f64,
    pub oldest_seconds: f64,
    pub dead_letters: f64,
}

impl Status {
    /// Number of partitions whose Redis server does not answer.
    pub fn partitions_down(&self) -> i32 {
        self.partitions_down.load(Ordering::Relaxed)
    }

    /// So many of all partitions' Redis servers do not answer: Redis is down when none does. Its connections log that.
    pub fn set_partitions_down(&self, down: usize, all: usize) {
        let count = i32::try_from(down).unwrap_or(i32::MAX);
        let store = || self.partitions_down.store(count, Ordering::Relaxed);
        // Whoever sees all partitions down sees Redis down.
        if down < all {
            store();
            self.redis.up(|_| {});
        } else {
            self.redis.down("no server of Redis answers", |_| {});
            store();
        }
    }

    /// Where Redis is, and which of its servers do not answer.
    pub fn redis_servers(&self) -> Arc<RedisServers> {
        self.redis_servers.load_full()
    }

    /// Sets [`Status::redis_servers`].
    pub fn set_redis_servers(&self, servers: RedisServers) {
        self.redis_servers.store(Arc::new(servers));
    }

    /// The page views on disk at the last look.
    pub fn backlog(&self) -> Backlog {
        **self.backlog.load()
    }

    /// Sets [`Status::backlog`].
    pub fn set_backlog(&self, backlog: Backlog) {
        self.backlog.store(Arc::new(backlog));
    }
}

/// Whether a component works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentState {
    /// It is not used.
    Off,
    /// It has not been tried yet. Shown as down; that it works then is not logged.
    Unknown,
    /// It works.
    Up,
    /// It does not, which was logged.
    Down,
}

/// A component's state, since when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it works.
    pub state: ComponentState,
    /// When it came up, went down, or was switched off.
    pub since: DateTime<Utc>,
    /// Why it is down, one sentence or error each.
    pub reasons: Vec<String>,
}

/// One component. Clones share its condition. Setters call their `log` while other setters wait, so that the lines have
/// the order of the changes: it must be quick, and must not use the component.
#[derive(Clone, Debug)]
pub struct Component(Arc<Mutex<Condition>>);

impl Default for Component {
    /// Up.
    fn default() -> Self {
        Self::new(ComponentState::Up)
    }
}

impl Component {
    /// In this state, from now on.
    pub fn new(state: ComponentState) -> Self {
        let (since, reasons) = (Utc::now(), Vec::new());
        Self::of(Condition {
            state,
            since,
            reasons,
        })
    }

    fn of(condition: Condition) -> Self {
        Self(Arc::new(Mutex::new(condition)))
    }

    /// It works. If it did not, calls `log` with how long.
    pub fn up(&self, log: impl FnOnce(Duration)) {
        let mut condition = self.lock();
        let former = condition.turn(ComponentState::Up, Vec::new());
        if former.state == ComponentState::Down {
            let lasted = condition.since - former.since;
            log(lasted.to_std().unwrap_or_default());
        }
    }

    /// It does not work. Calls `log` with the reason if that is new: once per outage.
    pub fn down(&self, reason: impl Into<String>, log: impl FnOnce(&str)) {
        let mut condition = self.lock();
        let former = condition.turn(ComponentState::Down, vec![reason.into()]);
        if former.state != ComponentState::Down {
            log(&condition.reasons[0]);
        }
    }

    /// The same; calls `log` if the reason is another one than the last: once per reason.
    pub fn down_for(&self, reason: impl Into<String>, log: impl FnMut(&str)) {
        self.down_for_all(vec![reason.into()], log);
    }

    /// It does not work for `reasons`, of which there may be several at a time; with none it works. Calls `log` with each
    /// that was not among the last ones, and `log_up` as [`Component::up`] does, when all are gone.
    pub fn set(&self, reasons: impl Into<Vec<String>>, log: impl FnMut(&str), log_up: impl FnOnce(Duration)) {
        let reasons = reasons.into();
        if reasons.is_empty() {
            self.up(log_up);
        } else {
            self.down_for_all(reasons, log);
        }
    }

    /// The same without a log: both changes are logged by whoever calls.
    pub fn show(&self, reasons: impl Into<Vec<String>>) {
        self.set(reasons, |_| {}, |_| {});
    }

    fn down_for_all(&self, reasons: Vec<String>, log: impl FnMut(&str)) {
        let mut condition = self.lock();
        let former = condition.turn(ComponentState::Down, reasons);
        let is_new = |reason: &&String| !former.reasons.contains(reason);
        condition
            .reasons
            .iter()
            .filter(is_new)
            .map(String::as_str)
            .for_each(log);
    }

    /// It is not used.
    pub fn off(&self) {
        self.lock().turn(ComponentState::Off, Vec::new());
    }

    /// It is tried from now on: the next failure is logged, and the next success is not.
    pub fn unknown(&self) {
        self.lock().turn(ComponentState::Unknown, Vec::new());
    }

    /// Its current condition.
    pub fn condition(&self) -> Condition {
        self.lock().clone()
    }

    /// As [`Condition::is_down`].
    pub fn is_down(&self) -> bool {
        self.lock().is_down()
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// Whether it should work, and is not known to.
    pub fn is_down(&self) -> bool {
        self.value() == 0
    }

    /// As a gauge: 1 (up), 0 (down) or -1 (off).
    pub fn value(&self) -> i32 {
        match self.state {
            ComponentState::Up => 1,
            ComponentState::Down | ComponentState::Unknown => 0,
            ComponentState::Off => -1,
        }
    }

    /// "up", "down" or "off".
    pub fn label(&self) -> &'static str {
        match self.value() {
            1 => "up",
            0 => "down",
            _ => "off",
        }
    }

    /// Changes to another condition, and returns the former one.
    fn turn(&mut self, state: ComponentState, reasons: Vec<String>) -> Self {
        let former = self.clone();
        (self.state, self.reasons) = (state, reasons);
        if self.value() != former.value() {
            self.since = Utc::now();
        }
        former
    }
}
