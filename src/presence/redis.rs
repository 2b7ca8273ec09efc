//! Presence in Redis: shared by any number of sidecars.
//!
//! What changes anything is a script, and each script touches the keys of one partition only (see
//! [`super::keys`]). Time is Redis' own (P3); nothing here reads a clock.
//!
//! # Keys clean themselves up
//! Each touch and each sweep of a community puts off the expiry of its keys by `window` and a day. A live
//! deployment sweeps everybody who leaves long before that; an abandoned one leaves nothing behind. Expiry
//! is only this backstop, never how a user leaves (P1, P5).
//!
//! A community nobody was in for a day loses its sequence number with its keys, and so does every community
//! when Redis restarts empty. Numbers rise all the same, because a new one is never below Redis' clock in
//! milliseconds: subscribers who remember a number from before do not ignore the new ones.
//!
//! # What Redis loses
//! Redis may come back empty, be flushed, or be replaced by a replica that lacks the last writes. This module
//! only notices: `link` with each connection that it makes, `marks` with each sweep. Both tell [`Losses`], and
//! whoever remembers the touches makes them again.
//!
//! Touches may be made again at any time: they carry ages, and last seen never goes back. A touch that waited
//! in a hung Redis until its sender had given it up is not taken, because its age would no longer be true.
//!
//! # What the Redis user may do
//! Redis 6.2 or later. Commands `evalsha script|load time ping info get set zadd zcard zcount zrange
//! zrangebyscore zrevrange zrem zremrangebyscore hset hget hmget pexpire publish subscribe`, keys `headcount:*`,
//! channels `headcount:*` (`info` may be missing: then the warning about evictions is too).

mod clock;
mod link;
mod marks;
mod probe;
mod server;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::redis::{Client, RedisResult, Script};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::runtime::Handle;

use self::clock::Clock;
use self::link::{Connection, Link};
use self::marks::Marks;
use self::subscription::Listener;
use super::changes::Subscription;
use super::keys::{Keys, is_keyable};
use super::losses::Losses;
use super::{
    Answer, Count, CountChange, OpenError, Presence, PresenceError, REMEMBERED, Seen, Sweep, Touch, millis,
};
use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::metrics::Metrics;

/// Users per call of the touch script: what keeps one call near a millisecond of Redis' one thread.
const TOUCH_USERS: usize = 1_000;
/// Communities per round trip of a count.
const COUNT_COMMUNITIES: usize = 500;
/// Communities per call of the sweep script.
const SWEEP_COMMUNITIES: usize = 100;
/// Calls per partition and sweep; what is left waits for the next sweep.
const SWEEP_ROUNDS: usize = 50;
/// Partitions swept at a time.
const SWEEP_CONCURRENCY: usize = 8;
/// How long a mark outlives the last sweep: long beside the time between sweeps.
const MARK_KEPT: Duration = Duration::from_secs(60);
/// How often a touch is sent before Redis' clock is taken for unusable: once more after it was found to have
/// been set.
const CLOCK_TRIES: usize = 2;

/// Who is here now, in Redis.
pub struct Redis {
    link: Arc<Link>,
    listener: Listener,
    keys: Keys,
    window: i64,
    response_timeout: i64,
    clock: Clock,
    marks: Marks,
    losses: Losses,
    touch: Script,
    sweep: Script,
    list: Script,
}

impl Redis {
    /// Starts connecting, on `runtime`, and returns at once. Users are present for `window`. Occasions on which
    /// Redis may have lost something are noted in `losses`.
    pub fn open(
        config: &config::Redis,
        window: Duration,
        losses: Losses,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Result<Self, OpenError> {
        let keys = Keys::new(&config.key_prefix, config.partitions).ok_or(OpenError::KeyPrefix)?;
        let url = config.url.as_ref().map_or("", config::Secret::expose);
        // Only the fixed part of the message: the detail may quote the URL.
        let client = Client::open(url)
            .map_err(|error| OpenError::Url(error.to_string().split(" - ").next().unwrap_or("").into()))?;
        let link = Arc::new(Link::open(
            client.clone(),
            config,
            losses.clone(),
            Arc::clone(&metrics),
            runtime,
        ));
        Ok(Self {
            listener: Listener::new(
                client,
                config,
                keys.changes(),
                Arc::clone(&link),
                metrics,
                runtime,
            ),
            link,
            keys,
            window: millis(window),
            response_timeout: millis(config.response_timeout),
            clock: Clock::default(),
            marks: Marks::new(format!("{:016x}", rand::random::<u64>()), config.partitions),
            losses,
            touch: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/touch.lua")
            )),
            sweep: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/sweep.lua")
            )),
            list: Script::new(include_str!("scripts/list.lua")),
        })
    }

    /// How long keys outlive the last call that changed them.
    fn keep(&self) -> i64 {
        self.window + millis(REMEMBERED)
    }

    /// Touches of one call of the script; their ages are as of `called`.
    async fn touch_some(
        &self,
        community: &CommunityId,
        touches: &[Touch],
        called: Instant,
    ) -> Result<Count, PresenceError> {
        for _ in 0..CLOCK_TRIES {
            let (current, seq, now) = self
                .link
                .call(|redis| self.send_touches(redis, community, touches, called))
                .await?;
            let as_of = self.heard(now)?;
            if let Some(current) = current {
                return Ok(Count { current, seq, as_of });
            }
            // Its clock was set, or it is another Redis: this answer told the time.
        }
        Err(PresenceError::Unexpected(
            "the clock of Redis does not stand still".into(),
        ))
    }

    /// Until when Redis may take the touch: while somebody waits for it, and as long again, because the answer
    /// that told the time may itself have been under way for so long.
    async fn send_touches(
        &self,
        mut redis: Connection,
        community: &CommunityId,
        touches: &[Touch],
        called: Instant,
    ) -> RedisResult<TouchReply> {
        let now = match self.clock.now(Instant::now()) {
            Some(now) => now,
            None => ask_the_time(&mut redis).await?,
        };
        let not_after = now.saturating_add(2 * self.response_timeout);
        let keys = self.keys.community(community);
        let mut call = self.touch.prepare_invoke();
        call.key(keys.seen).key(keys.state).key(keys.due);
        call.arg(self.window).arg(self.keep()).arg(self.keys.changes());
        call.arg(community.as_str()).arg(not_after);
        let waited = called.elapsed();
        for touch in touches {
            call.arg(touch.user.as_str())
                .arg(millis(touch.age.saturating_add(waited)));
        }
        call.invoke_async(&mut redis).await
    }

    /// An answer told the time.
    fn heard(&self, now: i64) -> Result<DateTime<Utc>, PresenceError> {
        let time = time(now)?;
        self.clock.heard(now, Instant::now());
        Ok(time)
    }

    /// Two round trips: Redis' time, then all counts. Each sequence number is read before its count: a count
    /// that changes in between is then newer than its number says, never older.
    async fn count_some(&self, communities: &[CommunityId]) -> Result<Vec<Count>, PresenceError> {
        let now = self
            .link
            .call(async |mut redis| ask_the_time(&mut redis).await)
            .await?;
        let as_of = self.heard(now)?;
        let mut pipeline = ::redis::pipe();
        for community in communities.iter().filter(|community| is_keyable(community)) {
            let keys = self.keys.community(community);
            pipeline.hget(keys.state, "seq");
            pipeline.zcount(keys.seen, format!("({}", now - self.window), "+inf");
        }
        let answers: Vec<Option<u64>> = if pipeline.is_empty() {
            Vec::new()
        } else {
            self.link
                .call(async move |mut redis| pipeline.query_async(&mut redis).await)
                .await?
        };
        let mut answers = answers.chunks_exact(2);
        let count = |community| {
            let answer = is_keyable(community).then(|| answers.next()).flatten();
            let [seq, current] = answer.map_or([None; 2], |answer| [answer[0], answer[1]]);
            Count {
                current: current.unwrap_or(0),
                seq: seq.unwrap_or(0),
                as_of,
            }
        };
        Ok(communities.iter().map(count).collect())
    }

    /// A community is due for a look from its first visitor until its last one was noticed to have left.
    async fn communities_of(&self, partition: u16, limit: usize) -> Result<Vec<String>, PresenceError> {
        let Some(last) = limit.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let mut range = ::redis::cmd("ZRANGE");
        range.arg(self.keys.due(partition)).arg(0).arg(last);
        self.link
            .call(async move |mut redis| range.query_async(&mut redis).await)
            .await
    }

    /// Also says whether Redis may have `lost` something since the sweep before.
    async fn sweep_partition(&self, partition: u16, lost: &AtomicBool) -> Result<Sweep, PresenceError> {
        let mut swept = Sweep::default();
        for _ in 0..SWEEP_ROUNDS {
            let number = self.marks.next();
            let mut call = self.sweep.prepare_invoke();
            call.key(self.keys.due(partition));
            call.key(self.keys.mark(partition, self.marks.id()));
            call.arg(self.window).arg(self.keep()).arg(self.keys.changes());
            call.arg(self.keys.seen_prefix(partition));
            call.arg(self.keys.state_prefix(partition));
            call.arg(SWEEP_COMMUNITIES);
            call.arg(number).arg(millis(MARK_KEPT));
            let (now, lag, looked_at, mark, changes): SweepReply = self
                .link
                .call(async move |mut redis| call.invoke_async(&mut redis).await)
                .await?;
            if self.marks.written(partition, number, mark) {
                lost.store(true, Ordering::Relaxed);
            }
            let as_of = self.heard(now)?;
            swept.lag = swept.lag.max(Duration::from_millis(lag.unsigned_abs()));
            swept
                .changes
                .extend(changes.into_iter().map(|(community, current, seq)| CountChange {
                    community: CommunityId::new(community),
                    count: Count { current, seq, as_of },
                }));
            if looked_at < SWEEP_COMMUNITIES {
                break;
            }
        }
        Ok(swept)
    }
}

/// Answer of the touch script: count, sequence number, now.
type TouchReply = (Option<u64>, u64, i64);

/// Answer of the sweep script: now, lag, communities looked at, the mark before, changes.
type SweepReply = (i64, i64, usize, Option<u64>, Vec<(String, u64, u64)>);

#[async_trait]
impl Presence for Redis {
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        if !is_keyable(community) {
            return Err(PresenceError::Community);
        }
        let called = Instant::now();
        let (most, last) = touches.split_at(touches.len().saturating_sub(1) / TOUCH_USERS * TOUCH_USERS);
        for touches in most.chunks(TOUCH_USERS) {
            self.touch_some(community, touches, called).await?;
        }
        self.touch_some(community, last, called).await
    }

    async fn counts(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError> {
        let mut counts = Vec::with_capacity(communities.len());
        for communities in communities.chunks(COUNT_COMMUNITIES) {
            counts.append(&mut self.count_some(communities).await?);
        }
        Ok(Answer::current(counts))
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let parts: Vec<Vec<String>> = stream::iter(self.keys.partitions())
            .map(|partition| self.communities_of(partition, limit))
            .buffer_unordered(SWEEP_CONCURRENCY)
            .try_collect()
            .await?;
        let communities = parts.into_iter().flatten().take(limit).map(CommunityId::new);
        Ok(Answer::current(communities.collect()))
    }

    async fn list(
        &self,
        community: &CommunityId,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        if !is_keyable(community) {
            return Ok(Answer::current(Vec::new()));
        }
        let mut call = self.list.prepare_invoke();
        call.key(self.keys.community(community).seen);
        call.arg(self.window).arg(limit);
        if let Some(last) = after {
            call.arg(last.last_seen.timestamp_millis())
                .arg(last.user.as_str());
        }
        let page: Vec<(String, i64)> = self
            .link
            .call(async move |mut redis| call.invoke_async(&mut redis).await)
            .await?;
        let seen = page.into_iter().map(|(user, last_seen)| {
            let last_seen = time(last_seen)?;
            let user = UserId::new(user);
            Ok(Seen { user, last_seen })
        });
        seen.collect::<Result<_, _>>().map(Answer::current)
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        let lost = AtomicBool::new(false);
        let swept = stream::iter(self.keys.partitions())
            .map(|partition| self.sweep_partition(partition, &lost))
            .buffer_unordered(SWEEP_CONCURRENCY)
            .try_fold(Sweep::default(), async |mut all, part| {
                all.changes.extend(part.changes);
                all.lag = all.lag.max(part.lag);
                Ok(all)
            })
            .await;
        // Also if other partitions could not be swept: the mark is written, and tells it once only.
        if lost.into_inner() {
            self.losses.note();
        }
        swept
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        self.link
            .call(async |mut redis| ::redis::cmd("PING").exec_async(&mut redis).await)
            .await
    }

    fn subscribe(&self) -> Subscription {
        self.listener.subscribe()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

async fn ask_the_time(redis: &mut Connection) -> RedisResult<i64> {
    let (seconds, micros): (i64, i64) = ::redis::cmd("TIME").query_async(redis).await?;
    Ok(seconds * 1_000 + micros / 1_000)
}

fn time(millis: i64) -> Result<DateTime<Utc>, PresenceError> {
    DateTime::from_timestamp_millis(millis)
        .ok_or_else(|| PresenceError::Unexpected(format!("{millis} is no time")))
}
