//! Step 5a, record: who is here now.
//!
//! A user is present in a community for the window after the last touch. One score per member (P1), one
//! member per user (P12). Two implementations, in memory and in Redis, pass one contract test suite.
//!
//! A user is present while `now - last seen < window`, everywhere: in counts, in lists, in sweeps. `worker`
//! keeps the store up to date, away from the requests. In front of Redis stands `mirrored`: it remembers what
//! this sidecar touched, answers from that while Redis is away, and touches again what Redis lost.

pub mod changes;
pub mod coalesce;
pub mod keys;
pub mod losses;
pub mod memory;
pub mod mirrored;
pub mod moment;
mod parts;
pub mod redis;
pub mod settings;
mod window;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::metrics::Metrics;
use crate::tasks::Tasks;
use mirrored::Mirrored;
pub use moment::SteadyClock;
pub use window::Window;

/// How long a community's sequence number is remembered after its last visitor left.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Opens what the configuration asks for: Redis where it says where that is, else this process' memory.
///
/// Nothing is awaited: the sidecar starts with Redis down, and calls fail until it is there. From then on what
/// this sidecar saw itself is remembered in front of Redis, unless it records no presence and so sees nobody;
/// a read waits for Redis at most for `patience` before it is answered from that memory.
///
/// The connection lives on the runtime of `tasks`, which must outlive everything that uses presence: hand in the process'
/// own runtime, never that of a Pingora service. Metrics of Redis and of the memory are kept here.
pub fn open(
    redis: &config::Redis,
    record: &config::Record,
    patience: Duration,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Arc<dyn Presence>, OpenError> {
    if !redis.is_used() {
        metrics.redis_up.set(-1);
        metrics.live_subscription_up.set(-1);
        let clock = SteadyClock::of_the_machine();
        return Ok(Arc::new(memory::Memory::new(record.window, clock)));
    }
    let store = redis::Redis::open(redis, window(record), metrics.clone(), tasks)?;
    if !record.presence {
        return Ok(Arc::new(store));
    }
    let (losses, window) = (store.losses(), store.in_force());
    let store = Arc::new(store);
    Ok(Arc::new(Mirrored::start(
        store, window, patience, losses, metrics, tasks,
    )))
}

fn window(record: &config::Record) -> Window {
    if record.presence {
        Window::new(record.window)
    } else {
        Window::of_the_others(record.window)
    }
}

/// What other sidecars that share Redis with this configuration have set otherwise, a sentence each; and if Redis cannot
/// tell, that. Asks once, on the current runtime.
///
/// # Errors
/// Redis cannot be asked as configured.
pub async fn remarks(redis: &config::Redis, record: &config::Record) -> Result<Vec<String>, OpenError> {
    if !redis.is_used() {
        return Ok(Vec::new());
    }
    let metrics = Arc::new(Metrics::new());
    let tasks = Tasks::on_current_runtime(&metrics);
    let store = redis::Redis::open(redis, window(record), metrics, &tasks)?;
    let differences = store.differences().await;
    tasks.end();
    Ok(differences.unwrap_or_else(|error| {
        let error = crate::telemetry::chain(&error);
        vec![format!(
            "Redis does not tell whether other sidecars have the same settings: {error}"
        )]
    }))
}

/// A configuration with which presence cannot be opened. Never holds the URL: it may have a password in it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    /// The addresses of Redis are missing or not ones that the client understands, or a certificate is none.
    #[error("Redis cannot be reached as [redis] says: {0}")]
    Server(String),
    /// Braces mark the partition in key names.
    #[error("redis.key_prefix must not contain a brace")]
    KeyPrefix,
}

/// Who is here now, behind one small interface.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Users are about to be touched in a community, and the calls may take a while: what remembers them does so from
    /// now on. Never waits.
    fn remember(&self, _community: &CommunityId, _touches: &[Touch]) {}

    /// Users were seen in a community. One call per community; each user counts once. Last seen never goes
    /// back, so that any touch may be made again, late, and by several sidecars. Who was seen a whole window
    /// ago is not present.
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError>;

    /// How many users are present in each community, in the order asked. Never writes (P2). Each count is
    /// at least as new as its sequence number, so that whoever takes it as a snapshot and then ignores what
    /// is not newer misses nothing (P7).
    async fn counts(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError>;

    /// The communities that somebody is in, or was in until a moment ago: at most `limit`, in no order. Never
    /// writes (P2).
    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError>;

    /// One page of the users present, latest first, ties by user id descending. `after` is the last entry of
    /// the page before. Users touched while a client pages may show on an earlier page than the client is
    /// on; nobody who stays untouched is left out or shown twice. Never writes (P2).
    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError>;

    /// Forgets users whose window has passed. Each change is returned to one sweeper only, however many
    /// share the store.
    async fn sweep(&self) -> Result<Sweep, PresenceError>;

    /// By which window users are present, where the store may have another than the configuration: the longest of all
    /// sidecars that share it.
    fn window(&self) -> Option<Duration> {
        None
    }

    /// The same, or where the store tells of none, as `configured`.
    fn window_in_force(&self, configured: Duration) -> Duration {
        self.window().unwrap_or(configured)
    }

    /// A trivial round trip.
    async fn ping(&self) -> Result<(), PresenceError>;

    /// Every change of a count from now on, whoever made it: touches and sweeps of all who share the store.
    /// Best effort: what may have been missed is told, and is to be asked for (P6). The first call may start
    /// what listens.
    fn subscribe(&self) -> changes::Subscription;

    /// The same as [`Presence::communities`], of one part of the store only.
    async fn communities_of_part(
        &self,
        _part: u16,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.communities(limit).await
    }

    /// Which part of the store keeps a community. Parts are away and come back each by itself: whoever asks for
    /// the counts of several communities learns more by asking for those of each part by themselves.
    fn part(&self, _community: &CommunityId) -> u16 {
        0
    }
}

/// A user who was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Who.
    pub user: UserId,
    /// How long ago, at the time of the call. An age rather than a time: no clock but the store's matters
    /// (P3).
    pub age: Duration,
}

impl Touch {
    /// Seen just now.
    pub fn now(user: impl Into<UserId>) -> Self {
        Self {
            user: user.into(),
            age: Duration::ZERO,
        }
    }
}

/// An answer, and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// The store could not tell, so this is what this sidecar remembers: those whom it has seen itself. What
    /// other sidecars saw is missing. Counts have sequence number 0 then: they have no place in the
    /// community's history.
    pub stale: bool,
}

impl<T> Answer<T> {
    /// What the store says.
    pub fn current(value: T) -> Self {
        Self { value, stale: false }
    }

    /// What this sidecar remembers.
    pub fn stale(value: T) -> Self {
        Self { value, stale: true }
    }
}

/// An absolute count with its place in the community's history (P6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Users present.
    pub current: u64,
    /// Grows with each change of the count, also across a restart of the store: a new number is at least
    /// the milliseconds since 1970. 0 for a community that nobody was in for a day.
    pub seq: u64,
    /// When this was true, by the presence store's clock (P3).
    pub as_of: DateTime<Utc>,
}

/// A count that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountChange {
    /// Where.
    pub community: CommunityId,
    /// The new count.
    pub count: Count,
}

/// What a sweep found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sweep {
    /// The counts that went down.
    pub changes: Vec<CountChange>,
    /// How long ago the window of the user noticed latest had passed.
    pub lag: Duration,
}

/// One user present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// Last touch, milliseconds precision.
    pub last_seen: DateTime<Utc>,
}

/// What can go wrong with presence.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// Not reachable or too slow.
    #[error("presence is not available")]
    Unavailable(#[source] ::redis::RedisError),
    /// The store answered something that is not of the expected form.
    #[error("unexpected answer from the presence store: {0}")]
    Unexpected(String),
    /// Only from `touch`: see [`keys::is_keyable`]. In other calls nobody is present there.
    #[error("the community's id is empty or too long")]
    Community,
}

/// Milliseconds, bounded so that sums with a time stay exact in Redis' scores.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(1 << 50, |millis| millis.min(1 << 50))
}

/// The sequence number of a change: above the one before, and not below the clock, so that numbers rise even
/// where the one before was lost with the store.
fn next_seq(previous: u64, now: i64) -> u64 {
    u64::try_from(now).unwrap_or_default().max(previous + 1)
}
