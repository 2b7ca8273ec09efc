//! Redis for tests: one server for all of them, or one of a test's own to stop and start.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use headcount::config;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::moved_clock::MovedClock;
use super::service::{LONGEST_WAIT, Service, free_port, wait_for_port, wait_until};
use super::tls::Authority;

/// Longest wait for one answer: no test reaches it unless its server does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What the module's documentation says that it needs; `info` is left out.
pub(crate) const PERMISSIONS: &[&str] = &[
    ">s3cret",
    "~headcount:*",
    "&headcount:*",
    "+evalsha",
    "+script|load",
    "+time",
    "+ping",
    "+get",
    "+set",
    "+zadd",
    "+zcard",
    "+zcount",
    "+zrange",
    "+zrangebyscore",
    "+zrevrange",
    "+zrem",
    "+zremrangebyscore",
    "+zmscore",
    "+hset",
    "+hget",
    "+hmget",
    "+pexpire",
    "+publish",
    "+subscribe",
];

/// A Redis server without persistence.
pub(crate) struct RedisServer {
    port: u16,
    directory: TempDir,
    arguments: Vec<String>,
    /// Who signed its certificate, where connections are encrypted.
    authority: Option<Arc<Authority>>,
    environment: Vec<(&'static str, String)>,
    service: Option<Service>,
}

/// The server that tests share. Each uses a key prefix of its own.
pub(crate) fn shared() -> &'static RedisServer {
    static SHARED: OnceLock<RedisServer> = OnceLock::new();
    SHARED.get_or_init(|| RedisServer::start(&[]))
}

impl RedisServer {
    /// A server of the test's own, with further settings as on Redis' command line.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_with(None, settings)
    }

    /// The same, with encrypted connections only if an authority is given; clients need certificates then.
    pub(crate) fn start_with(authority: Option<&Arc<Authority>>, settings: &[&str]) -> Self {
        let port = free_port();
        let mut server = Self {
            port,
            directory: super::cleaner::folder(),
            arguments: listening(authority.map(|authority| &**authority), port)
                .into_iter()
                .chain(["--save", "", "--appendonly", "no"].map(ToOwned::to_owned))
                .chain(settings.iter().map(|setting| (*setting).to_owned()))
                .collect(),
            authority: authority.cloned(),
            environment: Vec::new(),
            service: None,
        };
        server.restart();
        server
    }

    /// A server with a clock of its own.
    pub(crate) fn start_by(clock: &MovedClock) -> Self {
        let mut server = Self::start(&[]);
        server.environment = clock.environment().into();
        server.restart();
        server
    }

    /// A Sentinel, which keeps what it learns in its configuration file: `settings`, one a line.
    pub(crate) fn sentinel(authority: Option<&Arc<Authority>>, settings: &str) -> Self {
        let port = free_port();
        let directory = super::cleaner::folder();
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, settings).expect("a configuration");
        let mut arguments = vec![file.to_str().expect("UTF-8").to_owned(), "--sentinel".to_owned()];
        arguments.extend(listening(authority.map(|authority| &**authority), port));
        let mut sentinel = Self {
            port,
            directory,
            arguments,
            authority: authority.cloned(),
            environment: Vec::new(),
            service: None,
        };
        sentinel.start_service("Sentinel ID is");
        sentinel
    }

    /// A server that follows another one, which it reaches on `port`. Returns when it has what that one has.
    pub(crate) async fn replica_of(port: u16) -> Self {
        let replica = Self::start(&["--replicaof", "127.0.0.1", &port.to_string()]);
        replica.is_in_step().await;
        replica
    }

    /// Its replicas get no more writes from now on, and keep what they have.
    pub(crate) async fn leaves_its_replicas_behind(&self) {
        self.does::<()>(&["ACL", "SETUSER", "default", "-psync", "-sync"])
            .await;
        self.does::<()>(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    /// Waits until a replica has every byte that its primary has sent.
    pub(crate) async fn is_level_with(&self, primary: &Self) {
        eventually(async || {
            let info: redis::InfoDict = primary.does(&["INFO", "replication"]).await;
            let sent: Option<u64> = info.get("master_repl_offset");
            let info: redis::InfoDict = self.does(&["INFO", "replication"]).await;
            info.get("slave_repl_offset") == sent
        })
        .await;
    }

    /// Waits until a replica has what its primary had when it came. A server that becomes one may first cut its
    /// connections: Sentinels have it do so.
    pub(crate) async fn is_in_step(&self) {
        eventually(async || {
            let Ok(mut connection) = self.try_raw().await else {
                return false;
            };
            let info = redis::cmd("INFO")
                .arg("replication")
                .query_async(&mut connection)
                .await;
            info.is_ok_and(|info: String| info.contains("master_link_status:up"))
        })
        .await;
    }

    /// A replica becomes a server of its own, with what it has got.
    pub(crate) async fn is_promoted(&self) {
        self.does::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    }

    /// Forgets everything, its connections living on.
    pub(crate) async fn flush(&self) {
        self.does::<()>(&["FLUSHALL"]).await;
    }

    /// Kills the server; what it knew is lost. Returns when its port is free: the kernel closes it some
    /// time after the kill.
    pub(crate) fn kill(&mut self) {
        if self.service.take().is_some() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            wait_until("the end of redis-server", || {
                std::net::TcpStream::connect(address).is_err()
            });
        }
    }

    /// Starts it again, empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_service("Ready to accept connections");
    }

    /// `ready` is its own word, so that no other process on that port is taken for it.
    fn start_service(&mut self, ready: &str) {
        let log = self.directory.path().join("log");
        let before = std::fs::read_to_string(&log).unwrap_or_default().len();
        self.service = Some(Service::start(
            self.directory.path(),
            "redis-server",
            &self.arguments,
            &self.environment,
        ));
        wait_until("redis-server", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text[before..].contains(ready)
        });
        wait_for_port("redis-server", self.port);
    }

    /// Stops it in its tracks: connections stay open, nothing is answered.
    pub(crate) fn hang(&self) {
        self.service.as_ref().expect("a running server").signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.service.as_ref().expect("a running server").signal("CONT");
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.authority.is_some() {
            "rediss"
        } else {
            "redis"
        };
        format!("{scheme}://{}", self.address())
    }

    /// Host and port.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Configuration for a test: a key prefix that no other test has.
    pub(crate) fn config(&self) -> config::Redis {
        config(&self.url())
    }

    /// The same, with what a client needs of the authority that signed the server's certificate.
    pub(crate) fn config_with(&self, authority: &Authority) -> config::Redis {
        authority.trusted(self.config())
    }

    /// Makes connections as somebody who may do anything.
    pub(crate) fn client(&self) -> redis::Client {
        match &self.authority {
            Some(authority) => {
                let read = |name: &str| std::fs::read(authority.file(name)).expect("a file");
                let certificates = redis::TlsCertificates {
                    client_tls: Some(redis::ClientTlsConfig {
                        client_cert: read("client.pem"),
                        client_key: read("client.key"),
                    }),
                    root_cert: Some(read("ca.pem")),
                };
                redis::Client::build_with_tls(self.url(), certificates)
            }
            None => redis::Client::open(self.url()),
        }
        .expect("a valid URL")
    }

    /// Sends a command, and waits for the answer.
    pub(crate) async fn does<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut self.raw().await).await;
        answer.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Lets a user do what `permissions` say, and nothing else.
    pub(crate) async fn allow(&self, user: &str, permissions: &[&str]) {
        let words = [&["ACL", "SETUSER", user, "reset", "on"], permissions].concat();
        self.does::<()>(&words).await;
    }

    /// A connection for looking and for changing things behind the sidecar's back.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        self.try_raw().await.expect("Redis answers")
    }

    async fn try_raw(&self) -> redis::RedisResult<MultiplexedConnection> {
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        self.client()
            .get_multiplexed_async_connection_with_config(&patient)
            .await
    }
}

/// What makes a server listen on the loopback interface.
fn listening(authority: Option<&Authority>, port: u16) -> Vec<String> {
    let port = port.to_string();
    let mut arguments = vec!["--bind".to_owned(), "127.0.0.1".to_owned()];
    let Some(authority) = authority else {
        arguments.extend(["--port".to_owned(), port]);
        return arguments;
    };
    arguments.extend(["--port".to_owned(), "0".to_owned(), "--tls-port".to_owned(), port]);
    for (setting, file) in [
        ("--tls-ca-cert-file", "ca.pem"),
        ("--tls-cert-file", "server.pem"),
        ("--tls-key-file", "server.key"),
        ("--tls-client-cert-file", "client.pem"),
        ("--tls-client-key-file", "client.key"),
    ] {
        let path = authority.file(file);
        arguments.extend([setting.to_owned(), path.to_str().expect("UTF-8").to_owned()]);
    }
    for setting in ["--tls-auth-clients", "--tls-replication"] {
        arguments.extend([setting.to_owned(), "yes".to_owned()]);
    }
    arguments
}

/// Configuration for a test with a key prefix that no other test has.
pub(crate) fn config(url: &str) -> config::Redis {
    config::Redis {
        url: Some(config::Secret::new(url)),
        ..any_config()
    }
}

/// The same, but for where Redis is.
pub(crate) fn any_config() -> config::Redis {
    config::Redis {
        key_prefix: format!("test-{:016x}", rand::random::<u64>()),
        partitions: NonZeroU16::new(4).expect("not zero"),
        connect_timeout: PATIENCE,
        response_timeout: PATIENCE,
        ..config::Redis::default()
    }
}

/// Tries until it is so; fails the test after [`LONGEST_WAIT`].
pub(crate) async fn eventually(is_so: impl AsyncFnMut() -> bool) {
    eventually_or_else(is_so, || "in time".to_owned()).await;
}

/// The same; when it fails, with what `told` says.
pub(crate) async fn eventually_or_else(mut is_so: impl AsyncFnMut() -> bool, told: impl FnOnce() -> String) {
    let tries = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(LONGEST_WAIT, tries).await;
    waited.unwrap_or_else(|_| panic!("{}", told()));
}
