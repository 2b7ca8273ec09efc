//! Presence in Redis: shared by any number of sidecars.
//!
//! Every write is a script, and each script touches the keys of one partition only (see [`super::keys`]). Time is
//! Redis' own (P3); nothing here reads a clock. In a Cluster each partition uses the clock of the node that keeps
//! it.
//!
//! `servers` finds the server of a partition: the one there is, directly or by Sentinels, or a node of a Cluster.
//!
//! # Expiry of keys
//! Each touch and each sweep of a community extends the expiry of its keys to `window` and a day; of what is finer than a
//! community, to `window` and five minutes. In a live
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
//! `marks` at each sweep. They note it of the [`FailureDomain`]; the module that remembers the touches makes them again.
//!
//! Touches may be made again at any time: they carry ages, and last seen never goes back. They also carry when they were
//! sent, by the estimate of Redis' clock: a hung Redis that reads them late adds the time since. A touch that waited much
//! longer than its sender does is refused: the estimate may be wrong, because the clock was set.
//!
//! That estimate is never late but by the drift of the clocks, so a touch is not taken for younger than it is; it is early
//! by no more than the fastest answer was under way. Where the clock was set since the last answer, by less than a touch may
//! wait, a touch counts as older or younger by as much until the next answer; where that tells of more than a second,
//! all are touched again with their age.
//!
//! # Permissions of the Redis user
//! Redis 6.2 or later. Commands `evalsha script|load time ping info get set zadd zcard zcount zrange
//! zrangebyscore zrevrange zrem zremrangebyscore zmscore hset hget hmget pexpire publish subscribe`, keys `headcount:*`,
//! channels `headcount:*` (`info` may be missing: then the warning about evictions is too). For a database other
//! than 0 also `select`. Behind Sentinels also
//! `role`, in a Cluster also `cluster|slots` and `asking`. At the Sentinels, where they have users of their own,
//! `role` and `sentinel|masters`.

mod access;
mod cluster;
mod counts;
mod grants;
mod link;
mod marks;
mod node;
mod present;
mod probe;
mod sentinels;
mod server;
mod servers;
mod slots;
mod subscription;
mod sweeps;
mod touches;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use ::redis::{FromRedisValue, RedisResult, Script, ScriptInvocation};
use async_trait::async_trait;
use chrono::{DateTime, Utc};

use self::marks::Marks;
use self::node::Node;
use self::servers::ServerRouter;
use self::subscription::Listener;
use self::turns::Turns;
use super::changes::Subscription;
use super::failure_domain::{FailureDomain, FailureDomains};
use super::grants::{Grant, NotedGrant};
use super::keys::{Keys, is_kept};
use super::moment::Moment;
use super::shared_settings::Settings;
use super::window::KEPT;
use super::{
    Answer, Count, CountStream, Presence, PresenceConfigError, PresenceError, Scope, Seen, Sweep, Touch,
    TouchedGroup, Window, millis,
};
use crate::config;
use crate::ids::{CommunityId, SiteIdentity, UserId};
use crate::presence::Metrics;
use crate::status::{Component, Status};
use crate::tasks::Tasks;

/// Calls to a server at a time, of those that belong to one question or one sweep.
const CONCURRENCY: usize = 8;
/// Users per call of a script that notes something of each: what keeps one call near a millisecond of Redis' one thread.
const TOLD_USERS: usize = 1_000;
/// The partition where sidecars compare their settings: it exists whatever the number of partitions.
const COMMON_PARTITION: u16 = 0;
/// How far Redis' clock may be off every time that an answer allows, before it counts as set.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);

/// Who is here now, in Redis.
pub struct Redis {
    servers: Arc<ServerRouter>,
    listener: Listener,
    keys: Keys,
    window: Window,
    settings: Settings,
    /// Which site this is; the others on these keys are told.
    site: SiteIdentity,
    /// Whether the other sidecars on these keys have the same settings.
    agreement: Component,
    response_timeout: Duration,
    marks: Marks,
    turns: Turns,
    domains: FailureDomains,
    touch: Script,
    sweep: Script,
    leave: Script,
    list: Script,
    grants: Script,
}

impl Redis {
    /// Starts connecting, as one of `tasks`, and returns at once. Users are present for `window`; where it is that of
    /// the others, this sidecar only reads. `site` may become known later.
    pub fn open(
        config: &config::Redis,
        window: Window,
        site: SiteIdentity,
        status: &Status,
        metrics: Arc<Metrics>,
        tasks: &Tasks,
    ) -> Result<Self, PresenceConfigError> {
        let keys = Keys::new(&config.key_prefix, config.partitions).ok_or(PresenceConfigError::KeyPrefix)?;
        let domains = FailureDomains::new(config.parts());
        let slots = keys
            .partitions()
            .map(|partition| slots::slot(&keys.tag(partition)));
        let servers = Arc::new(ServerRouter::open(
            config,
            slots.collect(),
            domains.clone(),
            status,
            metrics,
            tasks,
        )?);
        Ok(Self {
            listener: Listener::new(
                Arc::clone(&servers),
                config,
                keys.changes(),
                status.redis_changes.clone(),
                tasks,
            ),
            servers,
            settings: Settings::new(config.partitions.get(), &window),
            site,
            agreement: status.presence_settings.clone(),
            window,
            response_timeout: config.response_timeout,
            keys,
            marks: Marks::new(format!("{:016x}", rand::random::<u64>()), config.partitions),
            turns: Turns::new(config.partitions, &domains),
            domains,
            touch: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/touch.lua")
            )),
            sweep: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/sweep.lua")
            )),
            leave: Script::new(include_str!("scripts/leave.lua")),
            list: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/list.lua")
            )),
            grants: Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/grants.lua")
            )),
        })
    }

    /// What is known of each server, or of each partition of a Cluster.
    pub fn failure_domains(&self) -> FailureDomains {
        self.domains.clone()
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
        Ok(self.settings().differences(&still_in_use(now, in_use)))
    }

    /// What this sidecar uses, for the others.
    fn settings(&self) -> Settings {
        self.settings.of_site(self.site.get())
    }

    fn domain(&self, partition: u16) -> &FailureDomain {
        self.domains.of_partition(partition)
    }

    /// Updates the clock from the answer to a call that began at `called`, and notes a possible loss if it was set.
    fn heard(&self, partition: u16, now: i64, called: Moment) -> Result<DateTime<Utc>, PresenceError> {
        let time = time(now)?;
        let domain = self.domain(partition);
        if domain
            .clock
            .note_answer(now, called, Moment::now(), CLOCK_TOLERANCE)
        {
            tracing::warn!(
                partition,
                "the clock of Redis was set; the users that this sidecar remembers are touched again with their age"
            );
            domain.note_loss();
        }
        Ok(time)
    }

    /// One round trip: the time, and the settings of sidecars that share a partition.
    async fn ask_what_is_in_use(&self, redis: &mut Node, partition: u16) -> RedisResult<(i64, UsedSettings)> {
        let mut pipeline = ::redis::pipe();
        pipeline.cmd("TIME");
        let range = pipeline.cmd("ZRANGE");
        range.arg(self.keys.settings(partition)).arg(0).arg(-1);
        range.arg("WITHSCORES");
        let (time, in_use): ((i64, i64), UsedSettings) = pipeline.query_async(redis).await?;
        Ok((in_millis(time), in_use))
    }

    /// An answer told the longest window in use. Where presence is recorded, the sweeps say what is in force: they hear of
    /// it in every partition, and notice what is lost.
    fn read_window(&self, longest: i64) {
        if !self.window.records() {
            self.window.set(longest);
        }
    }
}

/// Settings, each with when it was last used.
type UsedSettings = Vec<(String, i64)>;

/// The settings that have not expired.
fn still_in_use(now: i64, in_use: UsedSettings) -> Vec<String> {
    let counts = in_use.into_iter().filter(|(_, at)| now - at < millis(KEPT));
    counts.map(|(settings, _)| settings).collect()
}

#[async_trait]
impl Presence for Redis {
    async fn touch(&self, scope: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        self.touch_one(scope, touches).await
    }

    async fn touch_together(&self, groups: &[TouchedGroup]) -> Vec<Result<Count, PresenceError>> {
        self.touch_groups(groups).await
    }

    fn part_of(&self, scope: &Scope) -> Option<u16> {
        Some(self.keys.partition_of(scope))
    }

    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        self.count_all(scopes)
    }

    async fn communities(&self, limit: usize) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.all_communities(limit).await
    }

    async fn communities_of(
        &self,
        domain: usize,
        limit: usize,
    ) -> Result<Answer<Vec<CommunityId>>, PresenceError> {
        self.communities_of_domain(domain, limit).await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<&Seen>,
        limit: usize,
    ) -> Result<Answer<Vec<Seen>>, PresenceError> {
        if !is_kept(scope) {
            return Ok(Answer::current(Vec::new()));
        }
        let partition = self.keys.partition_of(scope);
        let mut call = self.list.prepare_invoke();
        call.key(self.keys.scope(scope).seen);
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

    async fn present(&self, scope: &Scope, users: &[UserId]) -> Result<Answer<Vec<Seen>>, PresenceError> {
        self.ask_who_is_present(scope, users).await.map(Answer::current)
    }

    async fn peak_of_the_day(&self) -> Result<Answer<u64>, PresenceError> {
        self.ask_for_the_peak().await.map(Answer::current)
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        self.sweep_all().await
    }

    async fn sweep_in_turn(&self) -> Result<Sweep, PresenceError> {
        self.sweep_due().await
    }

    async fn leave_sweeps(&self) {
        self.give_up_lease().await;
    }

    fn window(&self) -> Option<Duration> {
        Some(self.window.time())
    }

    fn shares_grants(&self) -> bool {
        true
    }

    fn losses(&self) -> Option<FailureDomains> {
        Some(self.failure_domains())
    }

    async fn note_grants(
        &self,
        community: &CommunityId,
        grants: &[Grant],
    ) -> Result<Vec<Option<NotedGrant>>, PresenceError> {
        self.note_all_grants(community, grants).await
    }

    async fn grant(&self, scope: &Scope, user: &UserId) -> Result<Option<NotedGrant>, PresenceError> {
        self.ask_for_grant(scope, user).await
    }

    async fn ping(&self) -> Result<(), PresenceError> {
        let ping = async |mut redis: Node| ::redis::cmd("PING").exec_async(&mut redis).await;
        self.servers.call_any(None, ping).await
    }

    fn subscribe(&self) -> Subscription {
        self.listener.subscribe()
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
