//! Presence in this process' memory: the embedded default, for one sidecar.
//!
//! Communities are spread over shards, each behind a lock that is held for one call about one community (or
//! for the sweep of one shard) and never across an await. Per community, users stand both by time (pages,
//! pruning) and by id (touches), so that every call costs the logarithm of the community's size plus what it
//! returns or forgets.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::NonZeroU16;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::changes::{Changes, Subscription};
use super::keys::{is_keyable, partition};
use super::{Count, CountChange, Presence, PresenceError, REMEMBERED, Seen, Sweep, millis, next_seq};
use crate::ids::{CommunityId, UserId};

/// Tells the time; tests hand in their own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Locks that communities are spread over.
const SHARDS: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Who is here now, in memory. Empty after a restart.
pub struct Memory {
    window: i64,
    now: Clock,
    shards: Vec<Mutex<Shard>>,
    /// Told while the shard is locked, so that the changes of one community are told in their order.
    changes: Changes,
}

#[derive(Default)]
struct Shard {
    communities: HashMap<CommunityId, Community>,
    /// When to look at a community next. Exactly one entry for each.
    due: BTreeSet<(i64, CommunityId)>,
}

/// Times are milliseconds since 1970.
#[derive(Default)]
struct Community {
    by_time: BTreeSet<(i64, UserId)>,
    last_seen: HashMap<UserId, i64>,
    /// The count as it was last told, with its sequence number.
    told: u64,
    seq: u64,
    due: i64,
}

impl Memory {
    /// Users are present for `window` after their last touch, by `now`.
    pub fn new(window: Duration, now: Clock) -> Self {
        Self {
            window: millis(window),
            now,
            shards: (0..SHARDS.get()).map(|_| Mutex::default()).collect(),
            changes: Changes::new(),
        }
    }

    fn now(&self) -> i64 {
        (self.now)().timestamp_millis()
    }

    fn shard(&self, community: &CommunityId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(partition(community, SHARDS))])
    }
}

#[async_trait]
impl Presence for Memory {
    async fn touch(&self, community: &CommunityId, users: &[UserId]) -> Result<Count, PresenceError> {
        if !is_keyable(community) {
            return Err(PresenceError::Community);
        }
        let now = self.now();
        let mut shard = self.shard(community);
        let shard = &mut *shard;
        let place = shard.communities.entry(community.clone()).or_default();
        for user in users {
            place.touch(user, now);
        }
        if place.settle(now, self.window) {
            self.changes.tell(community, place.told_at(now));
        }
        shard.due.remove(&(place.due, community.clone()));
        place.due = place.next_due(now, self.window);
        shard.due.insert((place.due, community.clone()));
        Ok(place.told_at(now))
    }

    async fn counts(&self, communities: &[CommunityId]) -> Result<Vec<Count>, PresenceError> {
        let now = self.now();
        let count = |community| {
            let shard = self.shard(community);
            let place = shard.communities.get(community);
            Count {
                current: place.map_or(0, |place| place.present(now - self.window)),
                seq: place.map_or(0, |place| place.seq),
                as_of: at(now),
            }
        };
        Ok(communities.iter().map(count).collect())
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Vec<Seen>, PresenceError> {
        let expired = self.now() - self.window;
        let upper = after.map_or(Bound::Unbounded, |last| {
            Bound::Excluded((last.last_seen.timestamp_millis(), last.user.clone()))
        });
        let shard = self.shard(community);
        let Some(place) = shard.communities.get(community) else {
            return Ok(Vec::new());
        };
        Ok(place
            .by_time
            .range((Bound::Unbounded, upper))
            .rev()
            .take_while(|(last_seen, _)| *last_seen > expired)
            .take(limit)
            .map(|(last_seen, user)| Seen {
                user: user.clone(),
                last_seen: at(*last_seen),
            })
            .collect())
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        let now = self.now();
        let mut sweep = Sweep::default();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let told = sweep.changes.len();
            shard.sweep(now, self.window, &mut sweep);
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

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Shard {
    fn sweep(&mut self, now: i64, window: i64, sweep: &mut Sweep) {
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
            let changed = place.settle(now, window);
            place.due = place.next_due(now, window);
            self.due.insert((place.due, community.clone()));
            if changed {
                let count = place.told_at(now);
                sweep.changes.push(CountChange { community, count });
            }
        }
    }
}

impl Community {
    fn touch(&mut self, user: &UserId, now: i64) {
        match self.last_seen.get_mut(user) {
            Some(last_seen) if *last_seen >= now => {}
            Some(last_seen) => {
                self.by_time.remove(&(*last_seen, user.clone()));
                *last_seen = now;
                self.by_time.insert((now, user.clone()));
            }
            None => {
                self.last_seen.insert(user.clone(), now);
                self.by_time.insert((now, user.clone()));
            }
        }
    }

    /// Forgets users whose window has passed; says whether the count is another than the one told last.
    fn settle(&mut self, now: i64, window: i64) -> bool {
        while let Some((last_seen, _)) = self.by_time.first()
            && *last_seen <= now - window
        {
            if let Some((_, user)) = self.by_time.pop_first() {
                self.last_seen.remove(&user);
            }
        }
        let count = self.by_time.len() as u64;
        let changed = count != self.told;
        if changed {
            self.told = count;
            self.seq = next_seq(self.seq, now);
        }
        changed
    }

    /// When the next window passes; without users, when the sequence number may be forgotten.
    fn next_due(&self, now: i64, window: i64) -> i64 {
        self.by_time
            .first()
            .map_or(now + millis(REMEMBERED), |(oldest, _)| oldest + window)
    }

    /// Users seen after `expired`. Costs those not yet swept, not those present.
    fn present(&self, expired: i64) -> u64 {
        let unswept = self
            .by_time
            .iter()
            .take_while(|(last_seen, _)| *last_seen <= expired)
            .count();
        (self.by_time.len() - unswept) as u64
    }

    fn told_at(&self, now: i64) -> Count {
        Count {
            current: self.told,
            seq: self.seq,
            as_of: at(now),
        }
    }
}

fn at(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

/// No call panics while it holds the lock; if one did, the next would find a consistent enough state.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn memory() -> (Memory, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1_763_884_800_000));
        let clock = Arc::clone(&time);
        (
            Memory::new(WINDOW, Arc::new(move || at(clock.load(Ordering::Relaxed)))),
            time,
        )
    }

    #[tokio::test]
    async fn p2_reading_forgets_nobody() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        memory.touch(&community, &["a".into(), "b".into()]).await.unwrap();
        time.fetch_add(millis(WINDOW), Ordering::Relaxed);
        assert_eq!(
            memory.counts(std::slice::from_ref(&community)).await.unwrap()[0].current,
            0
        );
        assert!(memory.list(&community, None, 10).await.unwrap().is_empty());
        let kept = memory.shard(&community).communities[&community].by_time.len();
        assert_eq!(kept, 2, "only sweeps and touches forget");
    }

    #[tokio::test]
    async fn a_deserted_community_is_forgotten_after_a_day() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        memory.touch(&community, &["a".into()]).await.unwrap();
        time.fetch_add(millis(WINDOW), Ordering::Relaxed);
        assert_eq!(memory.sweep().await.unwrap().changes.len(), 1);
        assert_eq!(memory.shard(&community).communities.len(), 1);
        time.fetch_add(millis(REMEMBERED), Ordering::Relaxed);
        assert_eq!(memory.sweep().await.unwrap(), Sweep::default());
        let shard = memory.shard(&community);
        assert!(shard.communities.is_empty() && shard.due.is_empty());
    }

    #[tokio::test]
    async fn last_seen_does_not_go_back_with_the_clock() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        memory.touch(&community, &["a".into()]).await.unwrap();
        let before = memory.list(&community, None, 1).await.unwrap();
        time.fetch_sub(60_000, Ordering::Relaxed);
        memory.touch(&community, &["a".into()]).await.unwrap();
        assert_eq!(memory.list(&community, None, 1).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_sweep_tells_how_late_it_is() {
        let (memory, time) = memory();
        memory.touch(&"1".into(), &["a".into()]).await.unwrap();
        time.fetch_add(2_000, Ordering::Relaxed);
        memory.touch(&"2".into(), &["a".into()]).await.unwrap();
        time.fetch_add(millis(WINDOW) + 500, Ordering::Relaxed);
        let sweep = memory.sweep().await.unwrap();
        assert_eq!(sweep.changes.len(), 2);
        assert_eq!(sweep.lag, Duration::from_millis(2_500));
    }

    #[tokio::test]
    async fn one_entry_per_community_is_due() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        for _ in 0..10 {
            memory.touch(&community, &["a".into(), "b".into()]).await.unwrap();
            time.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(memory.shard(&community).due.len(), 1);
    }
}
