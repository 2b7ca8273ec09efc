//! A primary, a replica, and three Sentinels that watch over them.

use std::fmt::Write as _;
use std::sync::Arc;

use headcount::config;

use super::redis::{RedisServer, any_config, eventually};
use super::tls::Authority;

/// What the Sentinels call the server.
pub(crate) const NAME: &str = "visitors";

/// After this time of silence the server is replaced by its replica, in milliseconds: never in a test, or soon, but
/// not because the machine is busy.
const DOWN_AFTER: (&str, &str) = ("60000", "2000");

/// Five processes.
pub(crate) struct Watched {
    /// Primary and replica, as at the start.
    pub(crate) servers: [RedisServer; 2],
    pub(crate) sentinels: Vec<RedisServer>,
    authority: Option<Arc<Authority>>,
}

impl Watched {
    /// All are well and know each other, and no replica takes over by itself.
    pub(crate) async fn start() -> Self {
        Self::start_with(None, DOWN_AFTER.0).await
    }

    /// The replica takes over soon.
    pub(crate) async fn start_failing_over() -> Self {
        Self::start_with(None, DOWN_AFTER.1).await
    }

    /// With encrypted connections only.
    pub(crate) async fn start_with_tls(authority: &Arc<Authority>) -> Self {
        Self::start_with(Some(authority), DOWN_AFTER.0).await
    }

    async fn start_with(authority: Option<&Arc<Authority>>, down_after: &str) -> Self {
        let primary = RedisServer::start_with(authority, &["--repl-diskless-sync-delay", "0"]);
        let port = primary.port().to_string();
        let replica = RedisServer::start_with(authority, &["--replicaof", "127.0.0.1", &port]);
        replica.is_in_step().await;
        let mut settings = format!("sentinel monitor {NAME} 127.0.0.1 {port} 2\n");
        for (setting, value) in [
            ("down-after-milliseconds", down_after),
            ("failover-timeout", "5000"),
        ] {
            writeln!(settings, "sentinel {setting} {NAME} {value}").expect("memory");
        }
        let watched = Self {
            sentinels: (0..3)
                .map(|_| RedisServer::sentinel(authority, &settings))
                .collect(),
            servers: [primary, replica],
            authority: authority.cloned(),
        };
        for sentinel in &watched.sentinels {
            for (what, known) in [("num-slaves", "1"), ("num-other-sentinels", "2")] {
                eventually(async || {
                    let master: Vec<String> = sentinel.does(&["SENTINEL", "MASTER", NAME]).await;
                    master.windows(2).any(|pair| pair == [what, known])
                })
                .await;
            }
        }
        watched
    }

    /// Configuration for a test: a key prefix that no other test has. The first Sentinel named is not there.
    pub(crate) fn config(&self) -> config::Redis {
        let away = format!("127.0.0.1:{}", super::service::free_port());
        let config = config::Redis {
            sentinels: std::iter::once(away).chain(self.addresses()).collect(),
            master_name: Some(NAME.into()),
            ..any_config()
        };
        match &self.authority {
            Some(authority) => authority.trusted(config),
            None => config,
        }
    }

    /// Keys of `[redis]` that lead a sidecar here.
    pub(crate) fn keys(&self) -> String {
        let addresses: Vec<_> = self.addresses().collect();
        format!("sentinels = {addresses:?}\nmaster_name = \"{NAME}\"\n")
    }

    fn addresses(&self) -> impl Iterator<Item = String> {
        self.sentinels.iter().map(RedisServer::address)
    }
}
