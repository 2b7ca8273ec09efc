//! One multiplexed connection to Redis, kept up by a task of its own.
//!
//! Why not the client's `ConnectionManager`: it spawns the connection on whichever runtime makes the first
//! call (here that may be a Pingora service's, which ends before the last touches); calls wait for its
//! retries while Redis is known to be down; and a command that timed out leaves a hung connection in place.
//!
//! Here a call never retries and never costs more than `response_timeout` (P9):
//!
//! | connection | a call |
//! |---|---|
//! | up | is sent |
//! | being made for the first time, or just lost | waits for the outcome of that one attempt |
//! | down | fails at once, while the task goes on trying with growing, jittered pauses |
//!
//! Each connection that is made is noted as an occasion on which Redis may have lost something, before any call
//! can use it. Whoever makes this a link to several servers notes each connection to any of them.
//!
//! A call that times out, or whose answer says that this server is the wrong one (a demoted primary), gives
//! the connection up. Other calls already sent on it may still be answered.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::server;
use crate::config;
use crate::metrics::Metrics;
use crate::presence::PresenceError;
use crate::presence::losses::Losses;

/// First and longest pause between attempts; each is twice the one before, and shortened by up to a half. The
/// longest leaves most of the two seconds within which counts are right again after Redis is back.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// A connection that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// What a call is sent on.
pub(super) type Connection = MultiplexedConnection;

/// The connection, as calls see it.
#[derive(Clone)]
enum State {
    /// The outcome of an attempt is near.
    Connecting,
    /// With the number of the attempt that made it.
    Up(Connection, u64),
    /// Why.
    Down(RedisError),
}

/// A handle on the connection. Dropping it ends the connection and the task.
pub(super) struct Link {
    state: watch::Sender<State>,
    response_timeout: Duration,
    metrics: Arc<Metrics>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts connecting, on `runtime`, and returns at once.
    pub(super) fn open(
        client: Client,
        config: &config::Redis,
        losses: Losses,
        metrics: Arc<Metrics>,
        runtime: &Handle,
    ) -> Self {
        metrics.redis_up.set(0);
        let state = watch::Sender::new(State::Connecting);
        let keeper = Keeper {
            client,
            state: state.clone(),
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            losses,
            metrics: Arc::clone(&metrics),
        };
        Self {
            state,
            response_timeout: config.response_timeout,
            metrics,
            task: runtime.spawn(keeper.run()),
        }
    }

    /// Sends something. Errors are counted here.
    pub(super) async fn call<T, F>(&self, send: impl FnOnce(Connection) -> F) -> Result<T, PresenceError>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let outcome = self.send(send).await;
        outcome.map_err(|error| {
            self.metrics.redis_errors.inc();
            match error.kind() {
                ErrorKind::UnexpectedReturnType => PresenceError::Unexpected(error.to_string()),
                _ => PresenceError::Unavailable(error),
            }
        })
    }

    async fn send<T, F>(&self, send: impl FnOnce(Connection) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let deadline = Instant::now() + self.response_timeout;
        let (connection, attempt) = timeout_at(deadline, self.connection())
            .await
            .unwrap_or_else(|_| Err(timed_out()))?;
        let outcome = timeout_at(deadline, send(connection))
            .await
            .unwrap_or_else(|_| Err(timed_out()));
        if let Err(error) = &outcome
            && spoils_the_connection(error)
        {
            self.give_up(attempt, error);
        }
        outcome
    }

    async fn connection(&self) -> RedisResult<(Connection, u64)> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match settled.as_deref() {
            Ok(State::Up(connection, attempt)) => Ok((connection.clone(), *attempt)),
            Ok(State::Down(cause)) => Err(cause.clone()),
            Ok(State::Connecting) | Err(_) => Err(io::Error::from(io::ErrorKind::NotConnected).into()),
        }
    }

    /// Has the connection replaced, unless that happened already.
    fn give_up(&self, failed: u64, cause: &RedisError) {
        self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up(_, attempt) if *attempt == failed);
            if current {
                *state = State::Connecting;
                self.metrics.redis_up.set(0);
                tracing::warn!(error = %cause, "lost the connection to Redis; who is present is known from memory only");
            }
            current
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What makes and replaces the connection.
struct Keeper {
    client: Client,
    state: watch::Sender<State>,
    connect_timeout: Duration,
    response_timeout: Duration,
    losses: Losses,
    metrics: Arc<Metrics>,
}

impl Keeper {
    async fn run(self) {
        let mut inspected = false;
        let mut pause = PAUSE.0;
        for attempt in 1.. {
            match self.connect(&mut inspected).await {
                Ok(connection) => {
                    tracing::info!("connected to Redis");
                    let since = Instant::now();
                    self.metrics.redis_up.set(1);
                    self.losses.note();
                    self.state.send_replace(State::Up(connection, attempt));
                    let mut state = self.state.subscribe();
                    if state.wait_for(|s| !matches!(s, State::Up(..))).await.is_err() {
                        return;
                    }
                    if since.elapsed() >= SHORT_LIVED {
                        pause = PAUSE.0;
                        continue;
                    }
                    let cause = io::Error::other("connections to Redis keep breaking");
                    self.state.send_replace(State::Down(cause.into()));
                }
                Err(error) => {
                    self.state.send_modify(|state| {
                        if !matches!(state, State::Down(_)) {
                            tracing::warn!(error = %error, "cannot connect to Redis; trying again until it is there");
                        }
                        *state = State::Down(error);
                    });
                }
            }
            sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Connects and makes sure that the server answers.
    async fn connect(&self, inspected: &mut bool) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        let mut connection = timeout(
            self.connect_timeout,
            self.client.get_multiplexed_async_connection_with_config(&config),
        )
        .await
        .unwrap_or_else(|_| Err(timed_out()))?;
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        if !*inspected {
            server::inspect(&mut connection).await?;
            *inspected = true;
        }
        Ok(connection)
    }
}

/// Whether to replace the connection after this answer, or lack of one.
fn spoils_the_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

fn timed_out() -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, "Redis took too long to answer").into()
}
