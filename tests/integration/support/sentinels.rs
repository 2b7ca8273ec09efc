//! A primary, a replica, and three Sentinels that watch over them.

use std::fmt::Write as _;
use std::sync::Arc;

use headcount::config;

use super::redis::{RedisServer, any_config, eventually};
use super::tls::Authority;

/// What the Sentinels call the server.
pub(crate) const NAME: &str = "visitors";

/// Five processes.
pub(crate) struct Watched {
    /// Primary and replica, as at the start.
    pub(crate) servers: [RedisServer; 2],
    pub(crate) sentinels: Vec<RedisServer>,
    authority: Option<Arc<Authority>>,
}

impl Watched {
    /// All are well and know each other.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same, encrypted if an authority is given.
    pub(crate) async fn start_with(authority: Option<&Arc<Authority>>) -> Self {
        let primary = RedisServer::start_with(authority, &["--repl-diskless-sync-delay", "0"]);
        let port = primary.port().to_string();
        let replica = RedisServer::start_with(authority, &["--replicaof", "127.0.0.1", &port]);
        replica.is_in_step().await;
        let mut settings = format!("sentinel monitor {NAME} 127.0.0.1 {port} 2\n");
        for (setting, value) in [("down-after-milliseconds", "1000"), ("failover-timeout", "5000")] {
            writeln!(settings, "sentinel {setting} {NAME} {value}").expect("memory");
        }
        let watched = Self {
            sentinels: (0..3).map(|_| RedisServer::sentinel(authority, &settings)).collect(),
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
        let file = |name: &str| self.authority.as_ref().map(|authority| authority.file(name));
        let away = format!("127.0.0.1:{}", super::service::free_port());
        config::Redis {
            sentinels: std::iter::once(away).chain(self.addresses()).collect(),
            master_name: Some(NAME.into()),
            tls: self.authority.is_some(),
            tls_ca_file: file("ca.pem"),
            tls_cert_file: file("client.pem"),
            tls_key_file: file("client.key"),
            ..any_config()
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
