//! Presence in Redis: shared by any number of sidecars.
//!
//! Every write is a script, and each script touches the keys of one partition only (see [`super::keys`]). Time is
//! Redis' own (P3); nothing here reads a clock. In a Cluster each partition uses the clock of the node that keeps
//! it.
//!
//! `servers` finds the server of a partition: the one there is, directly or by Sentinels, or a node of a Cluster.
//!
//! # Expiry of keys
//! Each touch and each sweep of a community extends the expiry of its keys to `window` and a day. In a live
//! deployment sweeps remove everyone who leaves long before that; an abandoned one leaves nothing behind. Expiry
//! is only this backstop, never how a user leaves (P1, P5).
//!
//! A community without visitors for a day loses its sequence number with its keys, and so does every community
//! when Redis restarts empty. Numbers rise all the same, because a new one is never below Redis' clock in
//! milliseconds: subscribers that remember an earlier number do not ignore the new ones.
//!
//! # Data loss in Redis
//! Redis may restart empty, be flushed, or be replaced by a replica that lacks the last writes. This module only
//! detects that: `link` at each connection that it makes, `cluster` at each partition that moves to another node,
//! `marks` at each sweep. They notify [`Losses`]; the module that remembers the touches makes them again.
//!
//! Touches may be made again at any time: they carry ages, and last seen never goes back. A touch that waited in a
//! hung Redis until its sender had given up on it is refused, because its age would no longer be true.
//!
//! # Permissions of the Redis user
//! Redis 6.2 or later. Commands `evalsha script|load time ping info get set zadd zcard zcount zrange
//! zrangebyscore zrevrange zrem zremrangebyscore hset hget hmget pexpire publish subscribe`, keys `headcount:*`,
//! channels `headcount:*` (`info` may be missing: then the warning about evictions is too). For a database other
//! than 0 also `select`. Behind Sentinels also
//! `role`, in a Cluster also `cluster|slots` and `asking`. At the Sentinels, where they have users of their own,
//! `role` and `sentinel|masters`.

mod access;
mod agreement;
mod clock;
mod cluster;
mod link;
mod marks;
mod node;
mod probe;
mod sentinels;
mod server;
mod servers;
mod slots;
mod subscription;
mod sweeps;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{FromRedisValue, RedisResult, Script, ScriptInvocation};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use self::agreement::Agreement;
use self::clock::Clock;
use self::marks::Marks;
use self::node::Node;
use self::servers::Servers;
use self::subscription::Listener;
use super::changes::Subscription;
use super::keys::{Keys, is_keyable};
use super::losses::Losses;
use super::moment::Moment;
use super::parts::counts_by_part;
use super::settings::{KEPT, Settings, longest_window};
use super::{
    Answer, Count, OpenError, Presence, PresenceError, REMEMBERED, Seen, Sweep, Touch, Window, millis,
};
use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::presence::Metrics;
use crate::tasks::Tasks;

/// Users per call of the touch script: what keeps one call near a millisecond of Redis' one thread.
const TOUCH_USERS: usize = 1_000;
/// Communities per round trip when counting.
const COUNT_COMMUNITIES: usize = 500;
/// Partitions asked or swept at a time.
const CONCURRENCY: usize = 8;
/// The partition where sidecars compare their settings: it exists whatever the number of partitions.
const COMMON_PARTITION: u16 = 0;
/// How far Redis' clock may be off the expected time, in addition to the time that answers are under way.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// How often a touch is sent before Redis' clock counts as unusable: once more after it was found to have been
/// set.
const CLOCK_TRIES: usize = 2;

/// Who is here now, in Redis.
pub struct Redis {
    servers: Arc<Servers>,
    listener: Listener,
    keys: Keys,
    window: Window,
    settings: Settings,
    agreement: Agreement,
    response_timeout: Duration,
    /// By part: each server has its own clock.
    clocks: Vec<Clock>,
    marks: Marks,
    losses: Losses,
    touch: Script,
    sweep: Script,
    list: Script,
}

impl Redis {
    /// Starts connecting, as one of `tasks`, and returns at once. Users are present for `window`; where it is that of
    /// the others, this sidecar only reads.
    pub fn open(
        config: &config::Redis,
        window: Window,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let keys = Keys::new(&config.key_prefix, config.partitions).ok_or(OpenError::KeyPrefix)?;
        let losses = Losses::new(config.parts());
        let slots = keys
            .partitions()
            .map(|partition| slots::slot(&keys.tag(partition)));
        let servers = Arc::new(Servers::open(
            config,
            slots.collect(),
            losses.clone(),
            Arc::clone(&metrics),
            tasks,
        )?);
        Ok(Self {
            listener: Listener::new(
                Arc::clone(&servers),
                config,
                keys.changes(),
                Arc::clone(&metrics),
                tasks,
            ),
            servers,
            settings: Settings::new(config.partitions.get(), &window),
            agreement: Agreement::new(metrics),
            window,
            response_timeout: config.response_timeout,
            clocks: losses.parts().map(|_| Clock::default()).collect(),
            keys,
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
            list: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/list.lua")
            )),
        })
    }

    /// Where possible losses of Redis are noted.
    pub fn losses(&self) -> Losses {
        self.losses.clone()
    }

    /// The window in force.
    pub fn in_force(&self) -> Window {
        self.window.clone()
    }

    /// Settings of other sidecars on these keys that differ from this one's, a sentence each.
    ///
    /// # Errors
    /// Redis cannot tell.
    pub async fn differences(&self) -> Result<Vec<String>, PresenceError> {
        let (now, in_use) = self
            .servers
            .call(COMMON_PARTITION, |mut redis| async move {
                self.ask_what_is_in_use(&mut redis, COMMON_PARTITION).await
            })
            .await?;
        Ok(self.settings.differences(&still_in_use(now, in_use)))
    }

    /// Touches of one call of the script; their ages are as of `called`.
    async fn touch_some(
        &self,
        community: &CommunityId,
        touches: &[Touch],
        called: Moment,
    ) -> Result<Count, PresenceError> {
        let partition = self.keys.partition(community);
        for _ in 0..CLOCK_TRIES {
            let (current, seq, now) = self
                .servers
                .call(partition, |redis| {
                    self.send_touches(redis, partition, community, touches, called)
                })
                .await?;
            let as_of = self.heard(partition, now)?;
            if let Some(current) = current {
                return Ok(Count { current, seq, as_of });
            }
            // Redis' clock was set, or it is another server: this answer has the current time.
        }
        Err(PresenceError::Unexpected(
            "the clock of Redis is set repeatedly".into(),
        ))
    }

    /// Sends touches with the time until which Redis may take them: while the caller waits, and as long again,
    /// because the answer that gave the time may itself have been under way that long.
    async fn send_touches(
        &self,
        mut redis: Node,
        partition: u16,
        community: &CommunityId,
        touches: &[Touch],
        called: Moment,
    ) -> RedisResult<TouchReply> {
        let now = match self.clock(partition).now(Moment::now()) {
            Some(now) => now,
            None => ask_the_time(&mut redis).await?,
        };
        let not_after = now.saturating_add(2 * millis(self.response_timeout));
        let keys = self.keys.community(community);
        let mut call = self.touch.prepare_invoke();
        call.key(keys.seen).key(keys.state).key(keys.due);
        call.key(self.keys.settings(partition));
        call.arg(self.window.at_least()).arg(millis(REMEMBERED));
        call.arg(self.keys.changes()).arg(community.as_str());
        call.arg(not_after).arg(self.settings.to_string());
        let waited = called.elapsed();
        for touch in touches {
            call.arg(touch.user.as_str())
                .arg(millis(touch.age.saturating_add(waited)));
        }
        call.invoke_async(&mut redis).await
    }

    fn clock(&self, partition: u16) -> &Clock {
        &self.clocks[usize::from(self.losses.part_of(partition))]
    }

    /// Updates the clock from an answer, and notes a possible loss if it was set.
    fn heard(&self, partition: u16, now: i64) -> Result<DateTime<Utc>, PresenceError> {
        let time = time(now)?;
        let tolerance = self.response_timeout * 2 + CLOCK_TOLERANCE;
        if self.clock(partition).heard(now, Moment::now(), tolerance) {
            tracing::warn!(
                partition,
                "the clock of Redis was set; the users that this sidecar remembers are touched again with their age"
            );
            self.losses.note(self.losses.part_of(partition));
        }
        Ok(time)
    }

    /// Counts of one part of the store.
    async fn count_part(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError> {
        let mut counts = Vec::with_capacity(communities.len());
        for communities in communities.chunks(COUNT_COMMUNITIES) {
            counts.append(&mut self.count_some(communities).await?);
        }
        Ok(Answer::current(counts))
    }

    /// Two round trips to one server: its time and the window, then all counts. Each sequence number is read
    /// before its count: a count that changes in between is then newer than its number says, never older.
    async fn count_some(&self, communities: &[CommunityId]) -> Result<Vec<Count>, PresenceError> {
        let Some(first) = communities.first() else {
            return Ok(Vec::new());
        };
        let partition = self.keys.partition(first);
        let (now, answers) = self
            .servers
            .call(partition, |redis| {
                self.ask_for_counts(redis, partition, communities)
            })
            .await?;
        let as_of = self.heard(partition, now)?;
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

    /// A community is in the due set from its first visitor until the sweep after its last one left.
    async fn communities_of_partition(
        &self,
        partition: u16,
        limit: usize,
    ) -> Result<Vec<String>, PresenceError> {
        let Some(last) = limit.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let mut range = ::redis::cmd("ZRANGE");
        range.arg(self.keys.due(partition)).arg(0).arg(last);
        let range = &range;
        let ask = |mut redis: Node| async move { range.query_async(&mut redis).await };
        self.servers.call(partition, ask).await
    }

    async fn communities_of(
        &self,
        partitions: impl Iterator<Item = u16> + Send,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let parts: Vec<Vec<String>> = stream::iter(partitions)
            .map(|partition| self.communities_of_partition(partition, limit))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        let communities = parts.into_iter().flatten().take(limit).map(CommunityId::new);
        Ok(Answer::current(communities.collect()))
    }

    /// One round trip: the time, and the settings of sidecars that share a partition.
    async fn ask_what_is_in_use(&self, redis: &mut Node, partition: u16) -> RedisResult<(i64, InUse)> {
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("TIME");
        let range = pipeline.cmd("ZRANGE");
        range.arg(self.keys.settings(partition)).arg(0).arg(-1);
        range.arg("WITHSCORES");
        let (time, in_use): ((i64, i64), InUse) = pipeline.query_async(redis).await?;
        Ok((in_millis(time), in_use))
    }

    /// An answer told the longest window in use. Where presence is recorded, the sweeps say what is in force: they hear of
    /// it in every partition, and notice what is lost.
    fn read_window(&self, longest: i64) {
        if !self.window.records() {
            self.window.set(longest);
        }
    }

    async fn ask_for_counts(
        &self,
        mut redis: Node,
        partition: u16,
        communities: &[CommunityId],
    ) -> RedisResult<(i64, Vec<Option<u64>>)> {
        let (now, in_use) = self.ask_what_is_in_use(&mut redis, partition).await?;
        let longest = longest_window(&still_in_use(now, in_use));
        self.read_window(longest);
        let window = self.window.by(longest);
        let mut pipeline = ::redis::pipe();
        for community in communities.iter().filter(|community| is_keyable(community)) {
            let keys = self.keys.community(community);
            pipeline.hget(keys.state, "seq");
            pipeline.zcount(keys.seen, format!("({}", now - window), "+inf");
        }
        let answers = if pipeline.is_empty() {
            Vec::new()
        } else {
            pipeline.query_async(&mut redis).await?
        };
        Ok((now, answers))
    }
}

/// Settings, each with when it was last used.
type InUse = Vec<(String, i64)>;

/// The settings that have not expired.
fn still_in_use(now: i64, in_use: InUse) -> Vec<String> {
    let counts = in_use.into_iter().filter(|(_, at)| now - at < millis(KEPT));
    counts.map(|(settings, _)| settings).collect()
}

/// Answer of the touch script: count, sequence number, now.
type TouchReply = (Option<u64>, u64, i64);

#[async_trait]
impl Presence for Redis {
    async fn touch(&self, community: &CommunityId, touches: &[Touch]) -> Result<Count, PresenceError> {
        if !is_keyable(community) {
            return Err(PresenceError::Community);
        }
        let called = Moment::now();
        let (most, last) = touches.split_at(touches.len().saturating_sub(1) / TOUCH_USERS * TOUCH_USERS);
        for touches in most.chunks(TOUCH_USERS) {
            self.touch_some(community, touches, called).await?;
        }
        self.touch_some(community, last, called).await
    }

    async fn counts(&self, communities: &[CommunityId]) -> Result<Answer<Vec<Count>>, PresenceError> {
        counts_by_part(
            communities,
            |community| self.part(community),
            async |_, communities| self.count_part(&communities).await,
        )
        .await
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.communities_of(self.keys.partitions(), limit).await
    }

    async fn communities_of_part(
        &self,
        part: u16,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        let partitions = self.keys.partitions();
        let of_part = partitions.filter(|partition| self.losses.part_of(*partition) == part);
        self.communities_of(of_part, limit).await
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
        let partition = self.keys.partition(community);
        let mut call = self.list.prepare_invoke();
        call.key(self.keys.community(community).seen);
        call.key(self.keys.settings(partition));
        call.arg(self.window.at_least()).arg(limit);
        call.arg(self.window.own());
        if let Some(last) = after {
            call.arg(last.last_seen.timestamp_millis())
                .arg(last.user.as_str());
        }
        let (window, page): (i64, Vec<(String, i64)>) =
            self.servers.call(partition, |redis| invoke(&call, redis)).await?;
        self.read_window(window);
        let seen = page.into_iter().map(|(user, last_seen)| {
            let last_seen = time(last_seen)?;
            let user = UserId::new(user);
            Ok(Seen { user, last_seen })
        });
        seen.collect::<Result<_, _>>().map(Answer::current)
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        self.sweep_all().await
    }

    fn window(&self) -> Option<Duration> {
        Some(self.window.time())
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        let ping = async |mut redis: Node| ::redis::cmd("PING").exec_async(&mut redis).await;
        self.servers.call_any(None, ping).await
    }

    fn subscribe(&self) -> Subscription {
        self.listener.subscribe()
    }

    fn part(&self, community: &CommunityId) -> u16 {
        self.losses.part(community)
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

async fn invoke<T: FromRedisValue>(call: &ScriptInvocation<'_>, mut redis: Node) -> RedisResult<T> {
    call.invoke_async(&mut redis).await
}

async fn ask_the_time(redis: &mut Node) -> RedisResult<i64> {
    ::redis::cmd("TIME").query_async(redis).await.map(in_millis)
}

fn in_millis((seconds, micros): (i64, i64)) -> i64 {
    seconds * 1_000 + micros / 1_000
}

fn time(millis: i64) -> Result<DateTime<Utc>, PresenceError> {
    DateTime::from_timestamp_millis(millis)
        .ok_or_else(|| PresenceError::Unexpected(format!("{millis} is no time")))
}
