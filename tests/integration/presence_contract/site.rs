//! A store under test that can be told to be older, whichever it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::DateTime;
use headcount::config;
use headcount::presence::changes::{Event, Subscription};
use headcount::presence::memory::InMemory;
use headcount::presence::moment::Clock;
use headcount::presence::redis::Redis as RedisPresence;
use headcount::presence::{Count, Presence, Seen, SteadyClock, Touch};
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

use super::{WINDOW, names};
use crate::support::redis::{self as servers, RedisServer};
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_presence;
use crate::support::sentinels::Watched;
use crate::support::tls::Authority;

/// A store, and the power to let time pass for it.
pub(super) struct Site {
    pub(super) presence: Arc<dyn Presence>,
    /// Where it is in Redis.
    redis: Option<(Arc<RedisPresence>, config::Redis)>,
    time: Time,
}

#[derive(Clone)]
enum Time {
    /// Memory is told the time: what passes, and what the machine's clock says.
    Told {
        passes: Arc<AtomicI64>,
        machine: Arc<AtomicI64>,
    },
    /// Redis has its own: what it knows is made older instead, on every server.
    OfRedis {
        servers: Vec<MultiplexedConnection>,
        prefix: String,
    },
}

impl Site {
    #[expect(clippy::unused_async, reason = "as the others")]
    pub(super) async fn in_memory() -> Self {
        let [passes, machine] = [(); 2].map(|()| Arc::new(AtomicI64::new(1_763_884_800_000)));
        let clock = |time: &Arc<AtomicI64>| -> Clock {
            let time = Arc::clone(time);
            Arc::new(move || DateTime::from_timestamp_millis(time.load(Ordering::Relaxed)).unwrap())
        };
        let clock = SteadyClock::new(clock(&passes), clock(&machine));
        Self {
            presence: Arc::new(InMemory::new(WINDOW, clock)),
            redis: None,
            time: Time::Told { passes, machine },
        }
    }

    pub(super) async fn in_redis() -> Self {
        let server = servers::shared();
        Self::of_redis(server.config(), vec![server.raw().await])
    }

    pub(super) async fn in_redis_over_tls() -> Self {
        static SHARED: OnceLock<(RedisServer, Arc<Authority>)> = OnceLock::new();
        let (server, authority) = SHARED.get_or_init(|| {
            let authority = Arc::new(Authority::new());
            (RedisServer::start_with(Some(&authority), &[]), authority)
        });
        Self::of_redis(server.config_with(authority), vec![server.raw().await])
    }

    pub(super) async fn behind_sentinels() -> Self {
        static SHARED: OnceCell<Watched> = OnceCell::const_new();
        let watched = SHARED.get_or_init(Watched::start).await;
        Self::of_redis(watched.config(), vec![watched.servers[0].raw().await])
    }

    pub(super) async fn in_a_cluster() -> Self {
        static SHARED: OnceCell<RedisCluster> = OnceCell::const_new();
        let cluster = SHARED.get_or_init(RedisCluster::start).await;
        Self::of_redis(cluster.config(), cluster.raw().await)
    }

    /// With a connection to each of the servers that keep something.
    fn of_redis(config: config::Redis, servers: Vec<MultiplexedConnection>) -> Self {
        let prefix = config.key_prefix.clone();
        let presence = redis_presence::open(&config, WINDOW);
        Self::sidecar(presence, config, Time::OfRedis { servers, prefix })
    }

    fn sidecar(presence: RedisPresence, config: config::Redis, time: Time) -> Self {
        let presence = Arc::new(presence);
        Self {
            presence: presence.clone(),
            redis: Some((presence, config)),
            time,
        }
    }

    /// Another sidecar on the same keys of Redis.
    pub(super) fn another(&self, window: Duration, partitions: Option<u16>) -> Self {
        let (_, config) = self.redis.as_ref().expect("a store to share");
        let mut config = config.clone();
        if let Some(partitions) = partitions {
            config.partitions = partitions.try_into().expect("not zero");
        }
        let presence = redis_presence::open(&config, window);
        Self::sidecar(presence, config, self.time.clone())
    }

    /// Another one that touches nobody.
    pub(super) fn reader(&self, window: Duration) -> Self {
        let (_, config) = self.redis.as_ref().expect("a store to share");
        let presence = redis_presence::open_to_read(config, window);
        Self::sidecar(presence, config.clone(), self.time.clone())
    }

    /// What other sidecars use that this one does not.
    pub(super) async fn differences(&self) -> Vec<String> {
        let (presence, _) = self.redis.as_ref().expect("a store to share");
        presence.differences().await.unwrap()
    }

    /// Hears of every change from now on.
    pub(super) async fn listen(&self) -> Subscription {
        let mut changes = self.presence.subscribe();
        if matches!(self.time, Time::OfRedis { .. }) {
            assert_eq!(changes.recv().await.unwrap(), Event::Listening);
        }
        changes
    }

    pub(super) async fn pass(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        if let Time::Told { passes, .. } = &self.time {
            passes.fetch_add(millis, Ordering::Relaxed);
        }
        self.clock_moves(millis).await;
    }

    /// The clock by which the store tells the time is put back.
    pub(super) async fn is_set_back(&self, time: Duration) {
        self.clock_moves(-i64::try_from(time.as_millis()).unwrap()).await;
    }

    async fn clock_moves(&self, millis: i64) {
        match &self.time {
            Time::Told { machine, .. } => {
                machine.fetch_add(millis, Ordering::Relaxed);
            }
            Time::OfRedis { servers, prefix } => {
                let script = redis::Script::new(
                    "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do
                       if redis.call('TYPE', key).ok == 'zset' then
                         for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                           if member ~= 'shift' then
                             redis.call('ZINCRBY', key, -ARGV[2], member)
                           end
                         end
                       end
                     end",
                );
                let mut call = script.prepare_invoke();
                call.arg(prefix).arg(millis);
                for server in servers {
                    let () = call.invoke_async(&mut server.clone()).await.unwrap();
                }
            }
        }
    }

    /// Gives all members of a community the same last seen. In memory they have it: its clock stands.
    pub(super) async fn tie(&self, community: &str) {
        if let Time::OfRedis { servers, prefix } = &self.time {
            let script = redis::Script::new(
                "local key = redis.call('KEYS', ARGV[1])[1]
                 if not key then
                   return
                 end
                 local score = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
                 for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
                   redis.call('ZADD', key, score, member)
                 end",
            );
            let mut call = script.prepare_invoke();
            call.arg(format!("{prefix}:*:seen:{community}"));
            for server in servers {
                let () = call.invoke_async(&mut server.clone()).await.unwrap();
            }
        }
    }

    pub(super) async fn touch(&self, community: &str, users: &[&str]) -> Count {
        let touches: Vec<_> = users.iter().map(|user| Touch::now(*user)).collect();
        self.presence.touch(&community.into(), &touches).await.unwrap()
    }

    /// Users who were seen some time ago.
    pub(super) async fn touch_late(&self, community: &str, users: &[(&str, Duration)]) -> Count {
        let touches: Vec<_> = users
            .iter()
            .map(|(user, age)| redis_presence::seen(user, *age))
            .collect();
        self.presence.touch(&community.into(), &touches).await.unwrap()
    }

    pub(super) async fn touch_many(&self, community: &str, users: impl Iterator<Item = usize>) {
        let touches: Vec<_> = users.map(|user| Touch::now(&*format!("u{user:05}"))).collect();
        self.presence.touch(&community.into(), &touches).await.unwrap();
    }

    pub(super) async fn count(&self, community: &str) -> Count {
        let answer = self.presence.all_counts(&[community.into()]).await.unwrap();
        assert!(!answer.stale);
        answer.value[0]
    }

    /// Sorted.
    pub(super) async fn communities(&self, limit: usize) -> Vec<String> {
        let answer = self.presence.communities(limit).await.unwrap();
        assert!(!answer.stale);
        let mut communities: Vec<_> = answer.value.iter().map(ToString::to_string).collect();
        communities.sort();
        communities
    }

    pub(super) async fn page(&self, community: &str, after: Option<&Seen>, limit: usize) -> Vec<Seen> {
        let answer = self.presence.list(&community.into(), after, limit).await.unwrap();
        assert!(!answer.stale);
        answer.value
    }

    /// Every page, as a client reads them.
    pub(super) async fn pages(&self, community: &str, limit: usize) -> Vec<Seen> {
        let mut all: Vec<Seen> = Vec::new();
        loop {
            let page = self.page(community, all.last(), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    pub(super) async fn users(&self, community: &str) -> Vec<String> {
        names(&self.page(community, None, usize::from(u16::MAX)).await)
    }
}
