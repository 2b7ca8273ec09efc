//! Keeps the presence store up to date, away from the requests: a handle that never waits, and a worker that
//! owns the store's writes and the sweeps.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use prometheus::Gauge;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::coalesce::Coalescer;
use super::{Presence, PresenceError, Touch};
use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::metrics::Metrics;
use crate::tasks::{Task, Tasks};

/// Messages taken from the queue at a time.
const BATCH: usize = 1_000;
/// Communities touched at a time.
const CONCURRENCY: usize = 16;
/// Members whose last touch is remembered for coalescing; some 100 bytes each.
const COALESCED_MEMBERS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Between sweeps; each is put off or brought forward by up to a quarter, so that sidecars do not march in
/// step.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// So many sweeps in a row that fail are no passing trouble, such as a connection that is being made.
const SWEEPS_FAILED: u32 = 3;

/// Takes touches. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct PresenceHandle {
    queue: mpsc::Sender<Message>,
    waiting: Gauge,
}

/// The touch was not taken: the queue is full, or the worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the presence queue is full")]
pub struct Full;

#[derive(Debug)]
enum Message {
    /// With when the user was seen.
    Touch(CommunityId, UserId, Instant),
    Flush(oneshot::Sender<()>),
}

/// Does what the handles ask. Runs until shutdown; see [`Worker::start`].
pub struct Worker {
    presence: Arc<dyn Presence>,
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Message>,
    waiting: Gauge,
    coalescer: Coalescer,
    touches: Health,
}

/// A handle and its worker, not yet running.
pub fn new(
    presence: Arc<dyn Presence>,
    record: &config::Record,
    metrics: Arc<Metrics>,
) -> (PresenceHandle, Worker) {
    let (sender, receiver) = mpsc::channel(record.queue_views.get());
    let waiting = metrics.recorder_queue_views.with_label_values(&["presence"]);
    let handle = PresenceHandle {
        queue: sender,
        waiting: waiting.clone(),
    };
    let worker = Worker {
        presence,
        metrics,
        queue: receiver,
        waiting,
        coalescer: Coalescer::new(record.coalesce, COALESCED_MEMBERS),
        touches: Health::new("touches"),
    };
    (handle, worker)
}

impl PresenceHandle {
    /// A user was just seen in a community. Whoever calls counts the drop if this is [`Full`].
    pub fn touch(&self, community: CommunityId, user: UserId) -> Result<(), Full> {
        self.waiting.inc();
        let touch = Message::Touch(community, user, Instant::now());
        self.queue.try_send(touch).map_err(|_| {
            self.waiting.dec();
            Full
        })
    }

    /// Waits until everything handed over before has been sent to the store, with or without success, or the
    /// worker has ended.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

impl Worker {
    /// Touches and sweeps until `shutdown` turns true or its sender is gone; then touches what is queued, and
    /// ends.
    pub fn start(self, tasks: &Tasks, shutdown: watch::Receiver<bool>) -> [JoinHandle<()>; 2] {
        let (presence, metrics) = (Arc::clone(&self.presence), Arc::clone(&self.metrics));
        let stop = shutdown.clone();
        let sweeps = tasks.keep(Task::Sweeps, move || {
            sweep_until(Arc::clone(&presence), Arc::clone(&metrics), stop.clone())
        });
        let touches = tasks.keep_worker(Task::Touches, (self, shutdown), |(worker, shutdown)| {
            worker.touch_until(shutdown.clone()).boxed()
        });
        [touches, sweeps]
    }

    async fn touch_until(&mut self, shutdown: watch::Receiver<bool>) {
        let mut messages = Vec::with_capacity(BATCH);
        let mut stop = std::pin::pin!(stopped(shutdown));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                _ = self.queue.recv_many(&mut messages, BATCH) => {}
            }
            if messages.is_empty() {
                // Every handle is gone.
                return;
            }
            self.handle(&mut messages).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut messages, BATCH).await > 0 {
            self.handle(&mut messages).await;
        }
    }

    /// Sends a batch to the store, one call per community.
    async fn handle(&mut self, messages: &mut Vec<Message>) {
        let taken = Taken::new(&self.waiting, messages);
        let mut touches: HashMap<CommunityId, Vec<(UserId, Instant)>> = HashMap::new();
        let mut flushes = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Touch(community, user, at) if self.coalescer.admit(at, &community, &user) => {
                    touches.entry(community).or_default().push((user, at));
                }
                Message::Touch(..) => self.metrics.presence_touches_coalesced.inc(),
                Message::Flush(done) => flushes.push(done),
            }
        }
        let mut outcomes = stream::iter(touches)
            .map(|(community, seen)| {
                let presence = Arc::clone(&self.presence);
                async move {
                    // Only now: what waited for its turn is older.
                    let touches = seen.into_iter().map(|(user, at)| Touch {
                        user,
                        age: at.elapsed(),
                    });
                    let touches: Vec<_> = touches.collect();
                    let outcome = presence.touch(&community, &touches).await;
                    (community, touches, outcome)
                }
            })
            .buffer_unordered(CONCURRENCY);
        while let Some((community, touches, outcome)) = outcomes.next().await {
            self.metrics.presence_touches.inc_by(touches.len() as u64);
            self.touches.note(outcome.as_ref().err());
            if outcome.is_err() {
                self.metrics.presence_touch_failures.inc_by(touches.len() as u64);
                for touch in &touches {
                    self.coalescer.failed(&community, &touch.user);
                }
            }
        }
        // Only now: until then somebody is on the way to the store.
        drop(taken);
        for done in flushes {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

/// Touches on the way to the store: no longer when this is dropped, however that comes about.
struct Taken {
    waiting: Gauge,
    touches: i32,
}

impl Taken {
    fn new(waiting: &Gauge, messages: &[Message]) -> Self {
        let is_touch = |message: &Message| i32::from(matches!(message, Message::Touch(..)));
        Self {
            waiting: waiting.clone(),
            touches: messages.iter().map(is_touch).sum(),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.waiting.sub(f64::from(self.touches));
    }
}

async fn sweep_until(presence: Arc<dyn Presence>, metrics: Arc<Metrics>, shutdown: watch::Receiver<bool>) {
    let mut sweeps = Health::new("sweeps");
    let mut failed = 0;
    let mut stop = std::pin::pin!(stopped(shutdown));
    // The first at once: before there is a mark in Redis, everything may have been lost.
    loop {
        // Given up midway at shutdown: the scripts publish what they did, and the next sweeper does the rest.
        let outcome = tokio::select! {
            () = &mut stop => return,
            outcome = presence.sweep() => outcome,
        };
        sweeps.note(outcome.as_ref().err());
        failed = if outcome.is_ok() { 0 } else { failed + 1 };
        metrics.presence_up.set((failed < SWEEPS_FAILED).into());
        if let Ok(sweep) = outcome {
            metrics.presence_sweep_lag.set(sweep.lag.as_secs_f64());
        }
        let pause = SWEEP_INTERVAL.mul_f64(rand::random_range(0.75..1.25));
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Says once when something begins to fail, and once when it works again. That Redis is away is said where
/// its connection is kept.
pub(super) struct Health {
    what: &'static str,
    failing: bool,
}

impl Health {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, failing: false }
    }

    pub(super) fn note(&mut self, error: Option<&PresenceError>) {
        match error {
            Some(PresenceError::Unavailable(cause)) if cause.is_io_error() => {}
            Some(PresenceError::Community) => tracing::debug!("a community's id is empty or too long"),
            Some(error) if !self.failing => {
                self.failing = true;
                let cause = std::error::Error::source(error).map(ToString::to_string);
                tracing::warn!(%error, cause, "presence {} fail", self.what);
            }
            None if self.failing => {
                self.failing = false;
                tracing::info!("presence {} work again", self.what);
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests;
