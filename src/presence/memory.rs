//! Presence in this process' memory: the embedded default, for one sidecar.
//! Bounded, it is also the substitute for Redis while that is away.
//!
//! Communities are spread over shards, each behind a lock that is held for one call about one community (or for
//! the sweep of one shard) and never across an await. Each community indexes its users both by time (pages,
//! pruning) and by id (touches), so that every call costs the logarithm of the community's size plus what it
//! returns or removes.

mod community;

use std::collections::{BTreeSet, HashMap};
use std::num::{NonZeroU16, NonZeroUsize};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use self::community::Community;
use super::changes::{CountChanges, Subscription};
use super::keys::{is_keyable, partition};
use super::{
    Answer, Count, CountChange, CountStream, Presence, PresenceError, REMEMBERED, Seen, SteadyClock, Sweep,
    Touch, Window, millis,
};
use crate::ids::CommunityId;

/// Number of locks that communities are spread over.
const SHARDS: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Who is here now, in memory. Empty after a restart.
pub struct InMemory {
    window: Window,
    /// How long a community without users is remembered, in milliseconds.
    remembered: i64,
    /// Most members in one shard.
    capacity: usize,
    clock: SteadyClock,
    shards: Vec<Mutex<Shard>>,
    /// Sent while the shard is locked, so that the changes of one community are sent in order.
    changes: CountChanges,
}

#[derive(Default)]
struct Shard {
    communities: HashMap<CommunityId, Community>,
    /// When each community is due for a sweep; exactly one entry for each.
    due: BTreeSet<(i64, CommunityId)>,
    /// Members of all communities.
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

    /// The same for at most `capacity` members, a user in a community each: beyond that, those seen longest ago
    /// are forgotten. Communities without users are forgotten at once, with their sequence numbers.
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

    /// The users of a community as touches that can be made again.
    pub(super) fn touches(&self, community: &CommunityId) -> Vec<Touch> {
        let now = self.now();
        let shard = self.shard(community);
        let Some(place) = shard.communities.get(community) else {
            return Vec::new();
        };
        place
            .by_time
            .iter()
            .skip_while(|(last_seen, _)| *last_seen <= now - self.window.millis())
            .map(|(last_seen, user)| Touch {
                user: user.clone(),
                age: Duration::from_millis(u64::try_from(now - last_seen).unwrap_or_default()),
            })
            .collect()
    }

    /// As [`Presence::touch`]. Never waits.
    pub(super) fn take(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        if !is_keyable(community) {
            return Err(PresenceError::Community);
        }
        let (now, window) = (self.now(), self.window.millis());
        let mut shard = self.shard(community);
        let shard = &mut *shard;
        let place = shard.communities.entry(community.clone()).or_default();
        let before = place.by_time.len();
        // Others may take the place of those who left: a count read in between differs from the one sent last.
        let left = place.settle(now, window);
        for touch in touches {
            place.touch(&touch.user, now - millis(touch.age));
        }
        if place.settle(now, window) || left {
            self.changes.tell(community, place.told_at(self.told(now)));
        }
        shard.members = shard.members - before + place.by_time.len();
        shard.due.remove(&(place.due, community.clone()));
        place.due = place.next_due(now, window, self.remembered);
        shard.due.insert((place.due, community.clone()));
        let count = place.told_at(self.told(now));
        while shard.members > self.capacity {
            shard.forget_oldest(now, window, self.remembered);
        }
        Ok(count)
    }

    /// How many users are present in a community.
    pub(super) fn count(&self, community: &CommunityId) -> Count {
        let now = self.now();
        let shard = self.shard(community);
        let place = shard.communities.get(community);
        Count {
            current: place.map_or(0, |place| place.present(now - self.window.millis())),
            seq: place.map_or(0, |place| place.seq),
            as_of: self.told(now),
        }
    }

    fn now(&self) -> i64 {
        self.clock.now()
    }

    fn told(&self, millis: i64) -> DateTime<Utc> {
        self.clock.told(millis)
    }

    fn shard(&self, community: &CommunityId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(partition(community, SHARDS)) % self.shards.len()])
    }
}

#[async_trait]
impl Presence for InMemory {
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        self.take(community, touches)
    }

    fn counts(&self, communities: Vec<CommunityId>) -> CountStream<'_> {
        let answers = communities.into_iter().map(move |community| {
            let count = self.count(&community);
            (community, Ok(Answer::current(count)))
        });
        stream::iter(answers).boxed()
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let mut communities = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let occupied = shard
                .communities
                .iter()
                .filter(|(_, place)| !place.by_time.is_empty());
            let left = limit - communities.len();
            communities.extend(occupied.take(left).map(|(community, _)| community.clone()));
        }
        Ok(Answer::current(communities))
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        let expired = self.now() - self.window.millis();
        let upper = after.map_or(Bound::Unbounded, |last| {
            Bound::Excluded((self.clock.reckoned(last.last_seen), last.user.clone()))
        });
        let shard = self.shard(community);
        let Some(place) = shard.communities.get(community) else {
            return Ok(Answer::current(Vec::new()));
        };
        let page = place
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
                self.changes.tell(&change.community, change.count);
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
    fn sweep(&mut self, now: i64, as_of: DateTime<Utc>, window: i64, remembered: i64, sweep: &mut Sweep) {
        while let Some((due, community)) = self.due.pop_first() {
            if due > now {
                self.due.insert((due, community));
                break;
            }
            let Some(place) = self.communities.get_mut(&community) else {
                continue;
            };
            if place.by_time.is_empty() {
                self.communities.remove(&community);
                continue;
            }
            sweep.lag = sweep.lag.max(Duration::from_millis((now - due).unsigned_abs()));
            let before = place.by_time.len();
            let changed = place.settle(now, window);
            self.members = self.members - before + place.by_time.len();
            place.due = place.next_due(now, window, remembered);
            self.due.insert((place.due, community.clone()));
            if changed {
                let count = place.told_at(as_of);
                sweep.changes.push(CountChange { community, count });
            }
        }
    }

    /// Forgets the member seen longest ago, if there is one: the first of the community that is due first.
    fn forget_oldest(&mut self, now: i64, window: i64, remembered: i64) {
        while let Some((_, community)) = self.due.pop_first() {
            let Some(place) = self.communities.get_mut(&community) else {
                continue;
            };
            let Some((_, user)) = place.by_time.pop_first() else {
                self.communities.remove(&community);
                continue;
            };
            place.last_seen.remove(&user);
            self.members -= 1;
            place.due = place.next_due(now, window, remembered);
            self.due.insert((place.due, community));
            return;
        }
    }
}

/// No call panics while it holds the lock; if one did, the state would still be consistent enough.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
