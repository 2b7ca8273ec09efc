//! Presence in this process' memory: the embedded default, for one sidecar.
//! Bounded, it is also the substitute for Redis while that is away.
//!
//! Communities are spread over shards, each behind a lock that is held for one call about one community (or for
//! the sweep of one shard) and never across an await. Each community indexes its users both by time (pages,
//! pruning) and by id (touches), so that every call costs the logarithm of the community's size plus what it
//! returns or removes.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::num::{NonZeroU16, NonZeroUsize};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use super::changes::{Changes, Subscription};
use super::keys::{is_keyable, partition};
use super::{
    Answer, Count, CountChange, Counts, Presence, PresenceError, REMEMBERED, Seen, SteadyClock, Sweep, Touch,
    Window, millis, next_seq,
};
use crate::ids::{CommunityId, UserId};

/// Number of locks that communities are spread over.
const SHARDS: NonZeroU16 = NonZeroU16::new(16).unwrap();

/// Who is here now, in memory. Empty after a restart.
pub struct Memory {
    window: Window,
    /// How long a community without users is remembered, in milliseconds.
    remembered: i64,
    /// Most members in one shard.
    capacity: usize,
    clock: SteadyClock,
    shards: Vec<Mutex<Shard>>,
    /// Sent while the shard is locked, so that the changes of one community are sent in order.
    changes: Changes,
}

#[derive(Default)]
struct Shard {
    communities: HashMap<CommunityId, Community>,
    /// When each community is due for a sweep; exactly one entry for each.
    due: BTreeSet<(i64, CommunityId)>,
    /// Members of all communities.
    members: usize,
}

/// Times are milliseconds since 1970, by the steady time of the clock.
#[derive(Default)]
struct Community {
    by_time: BTreeSet<(i64, UserId)>,
    last_seen: HashMap<UserId, i64>,
    /// The count that was last sent, with its sequence number.
    told: u64,
    seq: u64,
    due: i64,
}

impl Memory {
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
            changes: Changes::new(),
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
impl Presence for Memory {
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        self.take(community, touches)
    }

    fn counts(&self, communities: Vec<CommunityId>) -> Counts<'_> {
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

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("window", &self.window)
            .finish_non_exhaustive()
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

impl Community {
    fn touch(&mut self, user: &UserId, seen: i64) {
        match self.last_seen.get_mut(user) {
            Some(last_seen) if *last_seen >= seen => {}
            Some(last_seen) => {
                self.by_time.remove(&(*last_seen, user.clone()));
                *last_seen = seen;
                self.by_time.insert((seen, user.clone()));
            }
            None => {
                self.last_seen.insert(user.clone(), seen);
                self.by_time.insert((seen, user.clone()));
            }
        }
    }

    /// Removes users whose window has passed; returns whether the count differs from the one sent last.
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
    fn next_due(&self, now: i64, window: i64, remembered: i64) -> i64 {
        self.by_time
            .first()
            .map_or(now + remembered, |(oldest, _)| oldest + window)
    }

    /// Users seen after `expired`. The cost grows with the unswept users, not with those present.
    fn present(&self, expired: i64) -> u64 {
        let unswept = self
            .by_time
            .iter()
            .take_while(|(last_seen, _)| *last_seen <= expired)
            .count();
        (self.by_time.len() - unswept) as u64
    }

    fn told_at(&self, as_of: DateTime<Utc>) -> Count {
        Count {
            current: self.told,
            seq: self.seq,
            as_of,
        }
    }
}

/// No call panics while it holds the lock; if one did, the state would still be consistent enough.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn memory() -> (Memory, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(1_763_884_800_000));
        let clock = Arc::clone(&time);
        let now = move || DateTime::from_timestamp_millis(clock.load(Ordering::Relaxed)).unwrap();
        (Memory::new(WINDOW, SteadyClock::steady(Arc::new(now))), time)
    }

    #[tokio::test]
    async fn p2_reading_forgets_nobody() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        memory
            .touch(&community, &[Touch::now("a"), Touch::now("b")])
            .await
            .unwrap();
        time.fetch_add(millis(WINDOW), Ordering::Relaxed);
        let counts = memory.all_counts(std::slice::from_ref(&community)).await;
        assert_eq!(counts.unwrap().value[0].current, 0);
        assert!(memory.list(&community, None, 10).await.unwrap().value.is_empty());
        let kept = memory.shard(&community).communities[&community].by_time.len();
        assert_eq!(kept, 2, "only sweeps and touches forget");
    }

    #[tokio::test]
    async fn a_deserted_community_is_forgotten_after_a_day() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        memory.touch(&community, &[Touch::now("a")]).await.unwrap();
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
        memory.touch(&community, &[Touch::now("a")]).await.unwrap();
        let before = memory.list(&community, None, 1).await.unwrap();
        time.fetch_sub(60_000, Ordering::Relaxed);
        memory.touch(&community, &[Touch::now("a")]).await.unwrap();
        assert_eq!(memory.list(&community, None, 1).await.unwrap(), before);
    }

    #[tokio::test]
    async fn a_sweep_tells_how_late_it_is() {
        let (memory, time) = memory();
        memory.touch(&"1".into(), &[Touch::now("a")]).await.unwrap();
        time.fetch_add(2_000, Ordering::Relaxed);
        memory.touch(&"2".into(), &[Touch::now("a")]).await.unwrap();
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
            memory
                .touch(&community, &[Touch::now("a"), Touch::now("b")])
                .await
                .unwrap();
            time.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(memory.shard(&community).due.len(), 1);
    }

    fn bounded(capacity: usize) -> (Memory, Arc<AtomicI64>) {
        let (Memory { clock, .. }, time) = memory();
        let capacity = NonZeroUsize::new(capacity).unwrap();
        (Memory::bounded(Window::new(WINDOW), clock, capacity), time)
    }

    async fn users(memory: &Memory, community: &str) -> Vec<String> {
        let page = memory.list(&community.into(), None, 1_000).await.unwrap().value;
        page.iter().map(|seen| seen.user.to_string()).collect()
    }

    #[tokio::test]
    async fn promise_6_with_a_bound_the_oldest_are_forgotten_first_wherever_they_are() {
        let (memory, time) = bounded(3);
        for (community, user) in [
            ("1", "a"),
            ("2", "b"),
            ("1", "c"),
            ("3", "d"),
            ("2", "b"),
            ("4", "e"),
        ] {
            memory
                .touch(&community.into(), &[Touch::now(user)])
                .await
                .unwrap();
            time.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(memory.members(), 3);
        assert_eq!(users(&memory, "1").await, [""; 0], "a went for d, c for e");
        assert_eq!(users(&memory, "2").await, ["b"], "seen again");
        assert_eq!(users(&memory, "3").await, ["d"]);
        assert_eq!(users(&memory, "4").await, ["e"]);

        let crowd: Vec<_> = (0..10).map(|user| Touch::now(&*format!("u{user}"))).collect();
        memory.touch(&"5".into(), &crowd).await.unwrap();
        assert_eq!(users(&memory, "5").await, ["u9", "u8", "u7"]);
        assert_eq!(memory.members(), 3);
        time.fetch_add(millis(WINDOW), Ordering::Relaxed);
        memory.sweep().await.unwrap();
        time.fetch_add(1, Ordering::Relaxed);
        memory.sweep().await.unwrap();
        assert_eq!(memory.members(), 0);
        let shard = memory.shard(&"1".into());
        assert!(shard.communities.is_empty() && shard.due.is_empty());
    }

    #[tokio::test]
    async fn members_are_counted_as_they_come_and_go() {
        let (memory, time) = memory();
        for (community, users) in [("1", &["a", "b"][..]), ("2", &["a"]), ("1", &["b", "c"])] {
            let touches: Vec<_> = users.iter().map(|user| Touch::now(*user)).collect();
            memory.touch(&community.into(), &touches).await.unwrap();
            time.fetch_add(millis(WINDOW) / 2, Ordering::Relaxed);
        }
        // b and c, and in 2 nobody who has not been swept yet.
        assert_eq!(memory.members(), 3);
        memory.sweep().await.unwrap();
        assert_eq!(memory.members(), 2);
    }

    #[tokio::test]
    async fn p14_what_is_remembered_can_be_touched_again_with_its_age() {
        let (memory, time) = memory();
        let community = CommunityId::from("42");
        let touch = |user, age| Touch {
            age: Duration::from_secs(age),
            ..Touch::now(user)
        };
        let touches = [touch("a", 299), touch("b", 10), touch("c", 0)];
        memory.touch(&community, &touches).await.unwrap();
        assert_eq!(memory.touches(&community), touches);
        time.fetch_add(2_000, Ordering::Relaxed);
        let older = [touch("b", 12), touch("c", 2)];
        assert_eq!(memory.touches(&community), older, "a has left");
        assert_eq!(memory.communities(10).await.unwrap().value, [community]);
        assert_eq!(memory.touches(&"43".into()), []);
    }
}
