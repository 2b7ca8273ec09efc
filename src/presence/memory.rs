//! Presence in this process' memory: the embedded default, for one sidecar.
//! Bounded, it is also the substitute for Redis while that is away.
//!
//! Scopes are spread over shards, each behind a lock that is held for one call about one group of scopes (or for
//! the sweep of one shard) and never across an await. Each scope indexes its users both by time (pages,
//! pruning) and by id (touches), so that every call costs the logarithm of the scope's size plus what it
//! returns or removes.

mod members;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::{NonZeroU16, NonZeroUsize};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use self::members::Members;
use super::changes::{CountChanges, Subscription};
use super::keys::{is_kept, partition_of};
use super::{
    Answer, Count, CountChange, CountStream, FINER_REMEMBERED, Presence, PresenceError, REMEMBERED, Scope,
    Seen, SteadyClock, Sweep, Touch, Window, millis,
};
use crate::ids::{CommunityId, Finer, UserId};

/// Number of locks that scopes are spread over.
const SHARDS: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Who is here now, in memory. Empty after a restart.
pub struct InMemory {
    window: Window,
    /// How long a scope without users is remembered, in milliseconds; of what is finer than a community less.
    remembered: i64,
    /// Most members in one shard.
    capacity: usize,
    clock: SteadyClock,
    shards: Vec<Mutex<Shard>>,
    /// Sent while the shard is locked, so that the changes of one scope are sent in order.
    changes: CountChanges,
}

#[derive(Default)]
struct Shard {
    scopes: HashMap<Scope, Members>,
    /// When each scope is due for a sweep; exactly one entry for each.
    due: BTreeSet<(i64, Scope)>,
    /// Members of all scopes.
    members: usize,
}

impl InMemory {
    /// Users are present for `window` after their last touch, by the steady time of `clock`.
    pub fn new(window: Duration, clock: SteadyClock) -> Self {
        Self::of(Window::new(window), clock)
    }

    fn of(window: Window, clock: SteadyClock) -> Self {
        Self {
            window,
            remembered: millis(REMEMBERED),
            capacity: usize::MAX,
            clock,
            shards: (0..SHARDS.get()).map(|_| Mutex::default()).collect(),
            changes: CountChanges::new(),
        }
    }

    /// The same for at most `capacity` members, a user in a scope each: beyond that, those seen longest ago
    /// are forgotten. Scopes without users are forgotten at once, with their sequence numbers.
    pub(super) fn bounded(window: Window, clock: SteadyClock, capacity: NonZeroUsize) -> Self {
        Self {
            remembered: 0,
            capacity: capacity.get(),
            // One shard, so that the oldest member of all can be found.
            shards: vec![Mutex::default()],
            ..Self::of(window, clock)
        }
    }

    /// The time by its clock.
    pub(super) fn time(&self) -> DateTime<Utc> {
        self.told(self.now())
    }

    /// Members remembered, including those not yet swept.
    pub(super) fn members(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).members).sum()
    }

    /// Every scope that has members, including those not yet swept.
    pub(super) fn occupied(&self) -> Vec<Scope> {
        let of_shard = |shard| {
            let shard: MutexGuard<'_, Shard> = lock(shard);
            let occupied = shard
                .scopes
                .iter()
                .filter(|(_, members)| !members.by_time.is_empty());
            occupied.map(|(scope, _)| scope.clone()).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// The users of a scope as touches of it that can be made again.
    pub(super) fn touches(&self, scope: &Scope) -> Vec<Touch> {
        let now = self.now();
        let shard = self.shard(scope);
        let Some(members) = shard.scopes.get(scope) else {
            return Vec::new();
        };
        members
            .by_time
            .iter()
            .skip_while(|(last_seen, _)| *last_seen <= now - self.window.millis())
            .map(|(last_seen, user)| Touch {
                user: user.clone(),
                age: Duration::from_millis(u64::try_from(now - last_seen).unwrap_or_default()),
                finer: None,
            })
            .collect()
    }

    /// As [`Presence::touch`]. Never waits.
    pub(super) fn take(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        if !is_kept(scope) {
            return Err(PresenceError::Community);
        }
        let now = self.now();
        let mut shard = self.shard(scope);
        let group = scope.group();
        let all = touches.iter().map(|touch| (&touch.user, touch.age));
        let count = self.touch_scope(&mut shard, &group, all, now);
        let mut finer: BTreeMap<&Finer, Vec<(&UserId, Duration)>> = BTreeMap::new();
        for touch in touches {
            if let Some(its) = touch.finer.as_ref().or(scope.finer()) {
                finer.entry(its).or_default().push((&touch.user, touch.age));
            }
        }
        if let Some(community) = group.community() {
            for (finer, touches) in finer {
                let scope = Scope::Finer(community.clone(), finer.clone());
                self.touch_scope(&mut shard, &scope, touches.into_iter(), now);
            }
        }
        while shard.members > self.capacity {
            shard.forget_oldest(now, self.window.millis(), self.remembered);
        }
        Ok(count)
    }

    fn touch_scope<'a>(
        &self,
        shard: &mut Shard,
        scope: &Scope,
        touches: impl Iterator<Item = (&'a UserId, Duration)>,
        now: i64,
    ) -> Count {
        let window = self.window.millis();
        let members = shard.scopes.entry(scope.clone()).or_default();
        let (before, told) = (members.by_time.len(), members.told);
        // Others may take the place of those who left: a count read in between differs from the one sent last.
        let left = members.settle(now, window);
        for (user, age) in touches {
            members.touch(user, now - millis(age));
        }
        if members.settle(now, window) || left {
            members.note_peak(told, self.told(now));
            self.changes.tell(scope, members.told_at(self.told(now)));
        }
        shard.members = shard.members - before + members.by_time.len();
        shard.due.remove(&(members.due, scope.clone()));
        members.due = members.next_due(now, window, remembered(scope, self.remembered));
        shard.due.insert((members.due, scope.clone()));
        members.told_at(self.told(now))
    }

    /// How many users are present in a scope.
    pub(super) fn count(&self, scope: &Scope) -> Count {
        let now = self.now();
        let shard = self.shard(scope);
        let members = shard.scopes.get(scope);
        Count {
            current: members.map_or(0, |members| members.present(now - self.window.millis())),
            seq: members.map_or(0, |members| members.seq),
            as_of: self.told(now),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now()
    }

    fn told(&self, millis: i64) -> DateTime<Utc> {
        self.clock.told(millis)
    }

    fn shard(&self, scope: &Scope) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(partition_of(scope, SHARDS)) % self.shards.len()])
    }
}

#[async_trait]
impl Presence for InMemory {
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        self.take(scope, touches)
    }

    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        let answers = scopes.into_iter().map(move |scope| {
            let count = self.count(&scope);
            (scope, Ok(Answer::current(count)))
        });
        stream::iter(answers).boxed()
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let mut communities = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let occupied = shard.scopes.iter().filter_map(|(scope, members)| match scope {
                Scope::Community(community) if !members.by_time.is_empty() => Some(community),
                _ => None,
            });
            let left = limit - communities.len();
            communities.extend(occupied.take(left).cloned());
        }
        Ok(Answer::current(communities))
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let expired = self.now() - self.window.millis();
        let upper = after.map_or(Bound::Unbounded, |last| {
            Bound::Excluded((self.clock.reckoned(last.last_seen), last.user.clone()))
        });
        let shard = self.shard(scope);
        let Some(members) = shard.scopes.get(scope) else {
            return Ok(Answer::current(Vec::new()));
        };
        let page = members
            .by_time
            .range((Bound::Unbounded, upper))
            .rev()
            .take_while(|(last_seen, _)| *last_seen > expired)
            .take(limit)
            .map(|(last_seen, user)| Seen {
                user: user.clone(),
                last_seen: self.told(*last_seen),
            });
        Ok(Answer::current(page.collect()))
    }

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let expired = self.now() - self.window.millis();
        let shard = self.shard(scope);
        let members = shard.scopes.get(scope);
        let seen = users.iter().filter_map(|user| {
            let last_seen = *members?.last_seen.get(user)?;
            (last_seen > expired).then(|| Seen {
                user: user.clone(),
                last_seen: self.told(last_seen),
            })
        });
        Ok(Answer::current(seen.collect()))
    }

    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        let now = self.now();
        let shard = self.shard(&Scope::Site);
        let peak = shard
            .scopes
            .get(&Scope::Site)
            .map_or(0, |members| members.peak_of_the_day(self.told(now)));
        Ok(Answer::current(peak))
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        let now = self.now();
        let mut sweep = Sweep::default();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let told = sweep.changes.len();
            shard.sweep(
                now,
                self.told(now),
                self.window.millis(),
                self.remembered,
                &mut sweep,
            );
            for change in &sweep.changes[told..] {
                self.changes.tell(&change.scope, change.count);
            }
        }
        Ok(sweep)
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        self.changes.subscribe()
    }
}

impl Shard {
    fn sweep(&mut self, now: i64, as_of: DateTime<Utc>, window: i64, longest: i64, sweep: &mut Sweep) {
        while let Some((due, scope)) = self.due.pop_first() {
            if due > now {
                self.due.insert((due, scope));
                break;
            }
            let Some(members) = self.scopes.get_mut(&scope) else {
                continue;
            };
            if members.by_time.is_empty() {
                self.scopes.remove(&scope);
                continue;
            }
            sweep.lag = sweep.lag.max(Duration::from_millis((now - due).unsigned_abs()));
            let (before, told) = (members.by_time.len(), members.told);
            let changed = members.settle(now, window);
            self.members = self.members - before + members.by_time.len();
            members.due = members.next_due(now, window, remembered(&scope, longest));
            self.due.insert((members.due, scope.clone()));
            if changed {
                members.note_peak(told, as_of);
                let count = members.told_at(as_of);
                sweep.changes.push(CountChange { scope, count });
            }
        }
    }

    /// Forgets the member seen longest ago, if there is one: the first of the scope that is due first.
    fn forget_oldest(&mut self, now: i64, window: i64, longest: i64) {
        while let Some((_, scope)) = self.due.pop_first() {
            let Some(members) = self.scopes.get_mut(&scope) else {
                continue;
            };
            let Some((_, user)) = members.by_time.pop_first() else {
                self.scopes.remove(&scope);
                continue;
            };
            members.last_seen.remove(&user);
            self.members -= 1;
            members.due = members.next_due(now, window, remembered(&scope, longest));
            self.due.insert((members.due, scope));
            return;
        }
    }
}

/// How long a scope without users is remembered, in milliseconds, where that is `longest` at most.
fn remembered(scope: &Scope, longest: i64) -> i64 {
    match scope {
        Scope::Site | Scope::Community(_) => longest,
        Scope::Finer(..) => longest.min(millis(FINER_REMEMBERED)),
    }
}

/// No call panics while it holds the lock; if one did, the state would still be consistent enough.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
