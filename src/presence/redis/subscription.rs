//! This process' subscription to the changes that Redis publishes.
//! A task of its own keeps it open on a connection of its own: to the primary, or to any node of a Cluster, whose
//! nodes forward publications to each other.
//! What is published while there is no subscription is lost (P6): subscribers are told when there is one again
//! ([`Event::Listening`]) and then read the counts (P7). A connection that is open and silent is detected by
//! [`Probe`] and replaced (P8).

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::redis::aio::PubSub;
use ::redis::{Msg, RedisError, RedisResult};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{sleep, sleep_until, timeout};

use super::probe::{Next, Probe};
use super::servers::{Publisher, ServerRouter};
use crate::config;
use crate::presence::changes::{CountChanges, Event, Subscription};
use crate::presence::keys::parse_change;
use crate::retry::Backoff;
use crate::status::Component;
use crate::tasks::{AbortOnDrop, Task, Tasks};

/// First and longest pause between attempts.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// A subscription that lived shorter counts as a failed attempt.
const SHORT_LIVED: Duration = Duration::from_secs(1);

/// Starts the subscription at the first call of `subscribe`. Dropping it ends the subscription.
pub(super) struct Listener {
    changes: CountChanges,
    subscriber: Arc<SubscriptionTask>,
    tasks: Tasks,
    task: OnceLock<AbortOnDrop>,
}

/// The task's dependencies.
struct SubscriptionTask {
    servers: Arc<ServerRouter>,
    channel: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    status: Component,
}

impl Listener {
    /// Does nothing yet. The task will run as one of `tasks`.
    pub(super) fn new(
        servers: Arc<ServerRouter>,
        config: &config::Redis,
        channel: String,
        status: Component,
        tasks: &Tasks,
    ) -> Self {
        let subscriber = SubscriptionTask {
            servers,
            channel,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            status,
        };
        Self {
            changes: CountChanges::new(),
            subscriber: Arc::new(subscriber),
            tasks: tasks.clone(),
            task: OnceLock::new(),
        }
    }

    /// Every event from now on.
    pub(super) fn subscribe(&self) -> Subscription {
        let subscription = self.changes.subscribe();
        self.task.get_or_init(|| {
            self.subscriber.status.unknown();
            let (subscriber, changes) = (Arc::clone(&self.subscriber), self.changes.clone());
            let listen = move || {
                let (subscriber, changes) = (Arc::clone(&subscriber), changes.clone());
                async move { subscriber.keep_listening(&changes).await }
            };
            self.tasks.keep(Task::RedisChanges, listen).into()
        });
        subscription
    }
}

impl SubscriptionTask {
    async fn keep_listening(&self, changes: &CountChanges) {
        let _unheard = Unheard(&self.status);
        let mut backoff = PAUSES;
        loop {
            let since = Instant::now();
            let ended = self.listen(changes).await;
            self.status.down(ended.to_string(), |error| {
                tracing::warn!(%error, "the subscription to changes of counts in Redis is down; trying again until it is up");
            });
            if since.elapsed() >= SHORT_LIVED {
                backoff.reset();
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Subscribes and forwards changes until the subscription ends; returns the reason.
    async fn listen(&self, changes: &CountChanges) -> RedisError {
        let (publisher, subscription) = match self.subscribe().await {
            Ok(subscribed) => subscribed,
            Err(error) => return error,
        };
        self.status
            .up(|_| tracing::info!("the subscription to changes of counts in Redis is up again"));
        changes.send(Event::Listening);

        let mut messages = subscription.into_on_message();
        // A probe is published within one response time, and another is more than enough for its way back.
        let name = uuid::Uuid::new_v4().simple().to_string();
        let mut probe = Probe::new(name, self.response_timeout * 2, Instant::now());
        let mut publishing = FuturesUnordered::<BoxFuture<'_, bool>>::new();
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => heard(&message, changes, &mut probe),
                    None => return closed(io::ErrorKind::ConnectionReset, "the subscription was closed"),
                },
                Some(is_sent) = publishing.next() => if !is_sent {
                    probe.not_published(Instant::now());
                },
                () = sleep_until(probe.wakes_at().into()) => match probe.next(Instant::now()) {
                    Next::Publish(text) => publishing.push(self.publish(&publisher, text).boxed()),
                    Next::Silent => return closed(io::ErrorKind::TimedOut, "the subscription fell silent"),
                    Next::Wait => {}
                },
            }
        }
    }

    async fn subscribe(&self) -> RedisResult<(Publisher, PubSub)> {
        let late = |_| closed(io::ErrorKind::TimedOut, "Redis took too long to answer");
        let connecting = async {
            let publisher = self.servers.publisher().await?;
            let subscription = publisher.client.get_async_pubsub().await?;
            Ok::<_, RedisError>((publisher, subscription))
        };
        let connecting = timeout(self.connect_timeout, connecting).await;
        let (publisher, mut subscription) = connecting.map_err(late)??;
        let subscribing = timeout(self.response_timeout, subscription.subscribe(&self.channel));
        subscribing.await.map_err(late)??;
        Ok((publisher, subscription))
    }

    /// Publishes a probe, in a Cluster on another node than the one subscribed to; returns whether that worked.
    async fn publish(&self, publisher: &Publisher, text: String) -> bool {
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(&self.channel).arg(text);
        let outcome = self
            .servers
            .call_any(Some(publisher), async move |mut node| {
                publish.exec_async(&mut node).await
            })
            .await;
        outcome.is_ok()
    }
}

/// However the task ends, no changes arrive any more.
struct Unheard<'a>(&'a Component);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        self.0.unknown();
    }
}

fn heard(message: &Msg, changes: &CountChanges, probe: &mut Probe) {
    // Anything that is not text is from a version that does not exist yet.
    let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) else {
        return;
    };
    if let Some(change) = parse_change(text) {
        changes.send(Event::Change(change.into()));
    } else {
        probe.heard(text, Instant::now());
    }
}

fn closed(kind: io::ErrorKind, why: &'static str) -> RedisError {
    io::Error::new(kind, why).into()
}
