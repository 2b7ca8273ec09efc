//! One multiplexed connection to one Redis server, kept open by a task of its own. The server may change from one
//! connection to the next: Sentinels are asked each time.
//!
//! Why not the client's `ConnectionManager`: it spawns the connection on whichever runtime makes the first call
//! (here that may be a Pingora service's, which ends before the last touches); calls wait for its retries while
//! Redis is known to be down; and a command that timed out leaves a hung connection in place.
//!
//! Here a call never retries and never costs more than `response_timeout` (P9):
//!
//! | connection | a call |
//! |---|---|
//! | up | is sent |
//! | being made for the first time, or just lost | waits for the outcome of that one attempt |
//! | down | fails at once, while the task goes on trying with growing, jittered pauses |
//!
//! Each new connection is reported before any call can use it: Redis may have lost touches.
//!
//! A call that times out, or whose answer says that this server is the wrong one (a demoted primary), closes the
//! connection. Other calls already sent on it may still be answered.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::node::Node;
use super::sentinels::Sentinels;
use super::server;
use crate::config;
use crate::retry::Backoff;
use crate::tasks::{AbortOnDrop, Task, Tasks};

/// First and longest pause between attempts. The longest leaves most of the two seconds within which counts are right
/// again after Redis is back.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// How often Sentinels are asked again while the connection is up.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How the server is found.
pub(super) enum Way {
    /// At a fixed address.
    Server(Box<Client>),
    /// Through Sentinels.
    Sentinels(Sentinels),
}

impl Way {
    /// The configured address, for operators.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Server(client) => format!("server {}", client.get_connection_info().addr()),
            Self::Sentinels(sentinels) => format!("Sentinels {}", sentinels.addresses().join(", ")),
        }
    }

    /// A client for the current server.
    pub(super) async fn client(&self) -> RedisResult<Client> {
        match self {
            Self::Server(client) => Ok(Client::clone(client)),
            Self::Sentinels(sentinels) => sentinels.master().await,
        }
    }
}

/// Notified when connections open and close.
pub(super) trait Observer: Send + Sync + 'static {
    /// A connection was opened; no call can use it before this returns.
    fn connected(&self);

    /// Calls can use a connection from now on, or no longer.
    fn changed(&self, up: bool);
}

/// The connection, as calls see it.
#[derive(Clone)]
enum State {
    /// An attempt is under way.
    Connecting,
    /// The open connection.
    Up(Up),
    /// The error of the last attempt.
    Down(RedisError),
}

#[derive(Clone)]
struct Up {
    connection: MultiplexedConnection,
    attempt: u64,
}

/// A handle on the connection. Dropping it ends the connection and the task.
pub(super) struct Link {
    state: watch::Sender<State>,
    observer: Arc<dyn Observer>,
    response_timeout: Duration,
    _task: AbortOnDrop,
}

impl Link {
    /// Starts connecting, as one of `tasks`, and returns at once.
    pub(super) fn open(
        way: Arc<Way>,
        config: &config::Redis,
        observer: Arc<dyn Observer>,
        tasks: &Tasks,
    ) -> Self {
        let state = watch::Sender::new(State::Connecting);
        let task = ConnectionTask {
            way,
            state: state.clone(),
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            observer: Arc::clone(&observer),
            attempts: 0,
        };
        let task = tasks.keep_worker(Task::RedisConnection, task, |task| task.run().boxed());
        Self {
            state,
            observer,
            response_timeout: config.response_timeout,
            _task: task.into(),
        }
    }

    /// Whether a call would be sent at once.
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    /// Sends a call, and waits for the answer until `deadline`.
    pub(super) async fn send<T, F>(&self, deadline: Instant, send: impl FnOnce(Node) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let Up { connection, attempt } = timeout_at(deadline, self.connection())
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        let time = deadline.saturating_duration_since(Instant::now());
        let outcome = timeout_at(deadline, send(Node::of(connection)))
            .await
            .unwrap_or_else(|_| Err(timed_out()));
        if let Err(error) = &outcome
            && spoils_the_connection(error)
            // A call that had waited for the connection may have left the server too little time to answer.
            && (!error.is_timeout() || time >= self.response_timeout * 3 / 4)
        {
            self.give_up(attempt, error);
        }
        outcome
    }

    async fn connection(&self) -> RedisResult<Up> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match settled.as_deref() {
            Ok(State::Up(up)) => Ok(up.clone()),
            Ok(State::Down(cause)) => Err(cause.clone()),
            Ok(State::Connecting) | Err(_) => Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }

    /// Replaces the connection, unless that has happened already.
    fn give_up(&self, failed: u64, cause: &RedisError) {
        let given_up = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(up) if up.attempt == failed);
            if current {
                *state = State::Connecting;
            }
            current
        });
        if given_up {
            // Unless there is a new one already.
            self.observer.changed(self.is_up());
            tracing::warn!(error = %cause, "lost the connection to Redis; presence is answered from memory only");
        }
    }
}

/// The task that opens and replaces the connection.
struct ConnectionTask {
    way: Arc<Way>,
    state: watch::Sender<State>,
    connect_timeout: Duration,
    response_timeout: Duration,
    observer: Arc<dyn Observer>,
    /// Number of attempts: identifies a connection.
    attempts: u64,
}

/// A server that was connected to.
#[derive(Default)]
struct RedisServer {
    address: String,
    /// As [`server::inspect`] returned them.
    warnings: Vec<String>,
}

impl ConnectionTask {
    async fn run(&mut self) {
        let mut server = RedisServer::default();
        let mut backoff = PAUSES;
        loop {
            self.attempts += 1;
            let attempt = self.attempts;
            match self.connect(&mut server).await {
                Ok(connection) => {
                    tracing::info!(server = server.address, "connected to Redis");
                    let since = Instant::now();
                    self.observer.connected();
                    self.state.send_replace(State::Up(Up { connection, attempt }));
                    let is_up = matches!(*self.state.borrow(), State::Up(_));
                    self.observer.changed(is_up);
                    if !self.lasts(&server.address, attempt).await {
                        return;
                    }
                    if since.elapsed() >= SHORT_LIVED {
                        backoff.reset();
                        continue;
                    }
                    let cause = io::Error::other("connections to Redis keep breaking");
                    self.state.send_replace(State::Down(cause.into()));
                }
                Err(error) => {
                    self.state.send_modify(|state| {
                        if !matches!(state, State::Down(_)) {
                            let (redis, hint) = (self.way.name(), hint(&error));
                            tracing::warn!(
                                error = %error, redis,
                                "cannot connect to Redis; trying again until it is there{hint}"
                            );
                        }
                        *state = State::Down(error);
                    });
                }
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Waits until the connection to this server has been given up; false at shutdown. Asks the Sentinels
    /// periodically whether it is still the primary: one that is cut off from them may still answer here.
    async fn lasts(&self, server: &str, attempt: u64) -> bool {
        let mut state = self.state.subscribe();
        loop {
            tokio::select! {
                lost = state.wait_for(|state| !matches!(state, State::Up(_))) => return lost.is_ok(),
                () = sleep(ASK_AGAIN), if matches!(*self.way, Way::Sentinels(_)) => {}
            }
            let named = timeout(self.connect_timeout, self.way.client()).await;
            if let Ok(Ok(named)) = named
                && named.get_connection_info().addr().to_string() != server
            {
                tracing::warn!(server, "the Sentinels name another Redis");
                self.state.send_if_modified(|state| {
                    let current = matches!(state, State::Up(up) if up.attempt == attempt);
                    if current {
                        *state = State::Connecting;
                    }
                    current
                });
                self.observer.changed(false);
            }
        }
    }

    /// Connects, checks that the server answers, and warns of it. `last` is the one that was connected to last: if it is the same,
    /// what it was warned of then is not told again.
    async fn connect(&self, last: &mut RedisServer) -> RedisResult<MultiplexedConnection> {
        let client = timeout(self.connect_timeout, self.way.client())
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        let mut connection = connection(&client, self.connect_timeout, self.response_timeout).await?;
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        let server = RedisServer {
            warnings: server::inspect(&mut connection).await?,
            address: client.get_connection_info().addr().to_string(),
        };
        let is_same = last.address == server.address;
        let is_new = |warning: &&String| !(is_same && last.warnings.contains(warning));
        for warning in server.warnings.iter().filter(is_new) {
            tracing::warn!(server = server.address, "{warning}");
        }
        *last = server;
        Ok(connection)
    }
}

/// A hint at the setting to check, for errors with an obvious cause.
fn hint(error: &RedisError) -> &'static str {
    if error.kind() == ErrorKind::AuthenticationFailed {
        "; user and password are what redis.url says, or redis.username and redis.password, and those of Sentinels \
         redis.sentinel_username and redis.sentinel_password"
    } else {
        ""
    }
}

/// Opens a connection that has not been checked yet.
pub(super) async fn connection(
    client: &Client,
    connect_timeout: Duration,
    response_timeout: Duration,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(connect_timeout))
        .set_response_timeout(Some(response_timeout));
    timeout(
        connect_timeout,
        client.get_multiplexed_async_connection_with_config(&config),
    )
    .await
    .unwrap_or_else(|_| Err(timed_out()))
}

/// Whether this answer, or the lack of one, means that the connection must be replaced.
fn spoils_the_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
        // Before Redis 7 an error within a script is quoted in another error.
        || error.detail().is_some_and(|detail| {
            detail.contains("-READONLY ") || detail.contains("-MASTERDOWN ")
        })
}

pub(super) fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "Redis took too long to answer").into()
}
