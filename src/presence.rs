//! Presence: who is on the site, in each community, and in finer things now (step 5a, record).
//!
//! A user is present in a [`Scope`] for the window after the last touch. One score per member (P1), one
//! member per user (P12). Two implementations, in memory and in Redis, pass one contract test suite.
//!
//! A user is present while `now - last seen < window`, everywhere: in counts, in lists, in sweeps. `worker` keeps
//! the store up to date, outside the requests. In front of Redis stands `mirrored`: it remembers what this sidecar
//! touched, answers from that while Redis is away, and touches again what Redis lost.

mod answers;
pub mod changes;
pub mod coalesce;
pub mod failure_domain;
#[cfg(test)]
pub(crate) mod fake;
pub mod grants;
pub mod keys;
pub mod memory;
mod metrics;
pub mod mirrored;
pub mod moment;
mod open;
pub mod redis;
mod remarks;
pub mod scope;
pub mod shared_settings;
mod store_clock;
mod touch;
mod window;
pub mod worker;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::ids::{CommunityId, UserId};
pub use answers::{Answer, Count, CountChange, Seen, Sweep};
use failure_domain::FailureDomains;
use grants::{Grant, NotedGrant};
pub use metrics::Metrics;
pub use moment::SteadyClock;
pub use open::{open, open_to_read};
pub use remarks::remarks;
pub use scope::{Scope, Whereabouts};
pub use touch::{Touch, TouchedGroup};
pub use window::{KEPT, Window};

/// How long a scope's sequence number is remembered after its last visitor left.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// The same of what is finer than a community: there are as many as the app has pages. As long as in `common.lua`.
const FINER_REMEMBERED: Duration = Duration::from_secs(5 * 60);

/// Most groups that are touched together: what keeps one call near a millisecond of Redis' one thread.
const TOUCHED_TOGETHER: usize = 64;

/// Between two rounds of sweeps ([`Presence::sweep_in_turn`]); jittered by up to a quarter, so that sidecars do not sweep in
/// step.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause between two rounds, with its jitter. In each, a sidecar notices what a failure domain has lost. A round
/// itself takes no time to speak of while all of Redis answers; where a node of a Cluster hangs, it takes
/// `redis.response_timeout`, once for all of that node's partitions, and what other nodes lose meanwhile is noticed that much
/// later.
const LONGEST_LOOK: Duration = SWEEP_INTERVAL.saturating_mul(5).checked_div(4).unwrap();

/// A configuration with which presence cannot be opened. Never holds the URL: it may have a password in it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PresenceConfigError {
    /// The addresses of Redis are missing or not understood by the client, or a certificate is invalid.
    #[error("Redis cannot be reached as [redis] says: {0}")]
    Server(String),
    /// User or password are wrong.
    #[error("Redis refuses the user or the password of [redis] ({0}): correct redis.url or redis.url_file")]
    Refused(String),
    /// Braces mark the partition in key names.
    #[error("redis.key_prefix must not contain a brace")]
    KeyPrefix,
}

/// Scopes, each with its count.
pub type CountStream<'a> = BoxStream<'a, (Scope, Result<Answer<Count>, PresenceError>)>;

/// Who is here now: the interface of both stores.
#[async_trait]
pub trait Presence: Send + Sync + 'static {
    /// Announces touches before the calls, which may take a while: an implementation with a memory remembers them from
    /// now on. Never waits.
    fn remember(&self, _scope: &Scope, _touches: &[Touch]) {}

    /// Users were seen on the site, or in a community, and some in something finer there. One call per community; each
    /// user counts once. Last seen never goes back, so any touch may be made again, late, and by several sidecars. A
    /// user who was seen a whole window ago is not present. A finer `scope` stands for its community, with every touch
    /// in it; the count is the community's.
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError>;

    /// The same of several groups that share a part of the store ([`Presence::part_of`]), in as few calls as it allows; they
    /// were announced before ([`Presence::remember`]). One outcome for each, in their order: a group that fails by itself
    /// takes none of the others with it.
    async fn touch_together(&self, groups: &[TouchedGroup]) -> Vec<Result<Count, PresenceError>> {
        let mut outcomes = Vec::with_capacity(groups.len());
        for group in groups {
            outcomes.push(self.touch(&group.scope, &group.touches).await);
        }
        outcomes
    }

    /// Number of the part of the store that keeps a scope: those of one part may be touched together. `None` where a call has
    /// one group.
    fn part_of(&self, _scope: &Scope) -> Option<u16> {
        None
    }

    /// How many users are present in each scope: one answer for each, as soon as it is known. Where the store
    /// keeps scopes on several servers, one that is away or slow delays none of the others' answers. Never
    /// writes (P2). Each count is at least as new as its sequence number, so a subscriber that takes it as a
    /// snapshot and then ignores changes that are not newer misses nothing (P7).
    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_>;

    /// The same together, in the order asked: stale if any is, an error if any scope has none.
    async fn all_counts(&self, scopes: &[Scope]) -> Result<Answer<Vec<Count>>, PresenceError> {
        let answers: HashMap<_, _> = self.counts(scopes.to_vec()).collect().await;
        let mut all = Answer::current(Vec::with_capacity(scopes.len()));
        for scope in scopes {
            let answer = answers.get(scope).cloned();
            let Answer { value, stale } = answer.unwrap_or_else(|| Err(PresenceError::no_count(scope)))?;
            all.value.push(value);
            all.stale |= stale;
        }
        Ok(all)
    }

    /// Communities with users present, now or until a moment ago: at most `limit`, in no order. Stale if those of
    /// a server that does not answer are missing. Never writes (P2).
    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError>;

    /// The same of one failure domain: its place among all of the store's. An error if any of them may be missing.
    async fn communities_of(
        &self,
        _domain: usize,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.communities(limit).await
    }

    /// One page of the users present, latest first, ties by user id descending. `after` is the last entry of the
    /// previous page. Users touched while a client pages may show on an earlier page than the client is on; a user
    /// who is not touched meanwhile is neither left out nor shown twice. Never writes (P2).
    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError>;

    /// Those of some users who are present, in any order. Never writes (P2).
    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError>;

    /// The most users present on the whole site at a time since midnight, UTC, as far as the store remembers: in Redis
    /// it is all sidecars' and outlives them, in memory it is this process'. Never writes (P2).
    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError>;

    /// Removes users whose window has passed. Each change is returned to one sweeper only, however many share the
    /// store.
    async fn sweep(&self) -> Result<Sweep, PresenceError>;

    /// The part of a sweep that is this process' turn now: sidecars that share a store leave most of it to one of them. To be
    /// called every second or so.
    async fn sweep_in_turn(&self) -> Result<Sweep, PresenceError> {
        self.sweep().await
    }

    /// This process sweeps no more: where it is the one that sweeps for all, another takes over at once. Best effort, within
    /// the time that the store has for an answer.
    async fn leave_sweeps(&self) {}

    /// The window in force, if the store may have another than the configuration: the longest of all sidecars that
    /// share it.
    fn window(&self) -> Option<Duration> {
        None
    }

    /// The same, or where the store tells of none, as `configured`.
    fn window_in_force(&self, configured: Duration) -> Duration {
        self.window().unwrap_or(configured)
    }

    /// Whether sidecars tell each other by this store what the app has answered: [`grants`].
    fn shares_grants(&self) -> bool {
        false
    }

    /// Where the store may lose data, what tells of that: for each of its failure domains.
    fn losses(&self) -> Option<FailureDomains> {
        None
    }

    /// Notes what the app has answered users who asked for a community or something in it. Of two answers the later one stays, so any may be
    /// noted again, late, and by several sidecars. Returns what is noted then of each, in the same order.
    async fn note_grants(
        &self,
        _community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        Ok(vec![None; grants.len()])
    }

    /// The app's last answer to a user who asked for a community or something in it, as far as it is noted. Never writes.
    async fn grant(&self, _scope: &Scope, _user: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        Ok(None)
    }

    /// A trivial round trip.
    async fn ping(&self) -> Result<(), PresenceError>;

    /// Every change of a count from now on, by touches and sweeps of all sidecars that share the store. Best
    /// effort: after a possible gap an event says so, and the counts must be read again (P6). The first call may
    /// start the subscription to the store.
    fn subscribe(&self) -> changes::Subscription;
}

/// An error of presence.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PresenceError {
    /// Not reachable or too slow.
    #[error("presence is not available")]
    Unavailable(#[source] ::redis::RedisError),
    /// The store answered something that is not of the expected form.
    #[error("unexpected answer from the presence store: {0}")]
    Unexpected(String),
    /// The store has lost what the app has shown a visitor, and is told again in a moment.
    #[error("what the app has shown is to be written once more")]
    GrantLost,
    /// Only from `touch`: see [`keys::is_keyable`]. Other calls treat such a community as empty.
    #[error("the community's id is empty, too long, or has a character that separates scopes in keys")]
    Community,
}

impl PresenceError {
    /// Whether the server refuses this user or password.
    fn is_refused(&self) -> bool {
        let Self::Unavailable(error) = self else {
            return false;
        };
        error.kind() == ::redis::ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
    }

    /// The store did not answer for a scope.
    fn no_count(scope: &Scope) -> Self {
        Self::Unexpected(format!("no count of {scope}"))
    }
}

/// Milliseconds, bounded so that sums with a time stay exact in Redis' scores.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(1 << 50, |millis| millis.min(1 << 50))
}

/// The sequence number of a change: above the previous one, and not below the clock, so that numbers rise even
/// where the previous one was lost with the store.
fn next_seq(previous: u64, now: i64) -> u64 {
    u64::try_from(now).unwrap_or_default().max(previous + 1)
}
