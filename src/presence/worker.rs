//! The presence worker: keeps the presence store up to date outside the requests. A handle that never waits, and a
//! worker that owns the store's writes and the sweeps.
//!
//! Touches are remembered as soon as they leave the queue ([`Presence::remember`]), whatever happens to the calls:
//! a hanging store does not hide users from this sidecar's answers.

mod handle;
mod sweeps;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::handle::{Message, Taken};
pub use self::handle::{PresenceHandle, QueueFull};
use self::sweeps::sweep_until;
use super::coalesce::{Coalescer, Deferred, TouchDecision};
use super::moment::Moment;
use super::{Presence, PresenceError, Touch};
use crate::config;
use crate::ids::{CommunityId, UserId};
use crate::metrics::Gauge;
use crate::presence::Metrics;
use crate::status::{Component, Status};
use crate::tasks::{Task, Tasks};

/// Messages taken from the queue at a time.
const BATCH: usize = 1_000;
/// Communities touched at a time.
const CONCURRENCY: usize = 16;
/// Members whose last touch is remembered for coalescing; some 100 bytes each.
const COALESCED_MEMBERS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();
/// Deferred touches that become due within this time go together.
const DUE_TOGETHER: Duration = Duration::from_millis(100);

/// Pause between two looks at the queue. During it views do not wake the worker, which would be a system call in each
/// request.
const REST: Duration = Duration::from_millis(10);

/// Tells the time; tests hand in their own.
type Now = fn() -> Moment;

/// Processes what the handles send. Runs until shutdown; see [`Worker::start`].
pub struct Worker {
    presence: Arc<dyn Presence>,
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Message>,
    waiting: Gauge,
    coalescer: Coalescer,
    /// Touches not yet sent, by community. Nothing more is taken from the queue while there are as many as its
    /// size.
    pending: BTreeMap<CommunityId, Batch>,
    pending_touches: usize,
    most_pending: usize,
    /// Callers of `flush`, answered when nothing is pending.
    flushes: Vec<oneshot::Sender<()>>,
    touches: Component,
    /// Whether sweeps succeed.
    swept: Component,
    now: Now,
}

/// Touches of one community.
struct Batch {
    /// When each was last seen.
    seen: BTreeMap<UserId, Moment>,
    taken: Taken,
}

/// A call that has ended.
struct Sent {
    community: CommunityId,
    touches: Vec<Touch>,
    outcome: Result<(), PresenceError>,
    _taken: Taken,
}

/// A handle and its worker, not yet running. `waiting` shows how many touches are queued.
pub fn new(
    presence: Arc<dyn Presence>,
    record: &config::Record,
    status: &Status,
    metrics: Arc<Metrics>,
    waiting: Gauge,
) -> (PresenceHandle, Worker) {
    by(Moment::now, presence, record, status, metrics, waiting)
}

/// The same, by another clock.
fn by(
    now: Now,
    presence: Arc<dyn Presence>,
    record: &config::Record,
    status: &Status,
    metrics: Arc<Metrics>,
    waiting: Gauge,
) -> (PresenceHandle, Worker) {
    let (sender, receiver) = mpsc::channel(record.queue_views.get());
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
        pending: BTreeMap::new(),
        pending_touches: 0,
        most_pending: record.queue_views.get(),
        flushes: Vec::new(),
        touches: Component::default(),
        swept: status.presence.clone(),
        now,
    };
    (handle, worker)
}

impl Worker {
    /// Touches and sweeps until `shutdown` turns true or its sender is gone; then touches what is queued, and
    /// ends.
    pub fn start(self, tasks: &Tasks, shutdown: watch::Receiver<bool>) -> [JoinHandle<()>; 2] {
        let (presence, metrics) = (Arc::clone(&self.presence), Arc::clone(&self.metrics));
        let (swept, stop) = (self.swept.clone(), shutdown.clone());
        let sweeps = tasks.keep(Task::Sweeps, move || {
            let (presence, metrics) = (Arc::clone(&presence), Arc::clone(&metrics));
            sweep_until(presence, swept.clone(), metrics, stop.clone())
        });
        let touches = tasks.keep_worker(Task::Touches, (self, shutdown), |(worker, shutdown)| {
            worker.touch_until(shutdown.clone()).boxed()
        });
        [touches, sweeps]
    }

    async fn touch_until(&mut self, shutdown: watch::Receiver<bool>) {
        let mut messages = Vec::with_capacity(BATCH);
        let mut sending = FuturesUnordered::new();
        let mut stop = std::pin::pin!(stopped(shutdown));
        let (mut is_stopping, mut is_over) = (false, false);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut is_resting = false;
        loop {
            while sending.len() < CONCURRENCY
                && let Some((community, batch)) = self.pending.pop_first()
            {
                self.pending_touches -= batch.seen.len();
                sending.push(send(Arc::clone(&self.presence), community, batch, self.now));
            }
            if sending.is_empty() {
                for done in self.flushes.drain(..) {
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                }
                if is_over {
                    return;
                }
            }
            let takes_more = !is_over && self.flushes.is_empty() && self.pending_touches < self.most_pending;
            let due = self.coalescer.next_due().map(|due| due + DUE_TOGETHER);
            let due = due.filter(|_| takes_more);
            let now = (self.now)();
            // Checked before waiting: a steady stream of messages must not put it off.
            if due.is_some_and(|due| due <= now) {
                let due = self.coalescer.due(now);
                self.put_down_deferred(due);
                continue;
            }
            tokio::select! {
                biased;
                () = &mut stop, if !is_stopping => {
                    (is_stopping, is_resting) = (true, false);
                    self.queue.close();
                }
                Some(sent) = sending.next(), if !sending.is_empty() => self.note(sent),
                () = until(due, now), if due.is_some() => {}
                () = &mut rest, if is_resting => is_resting = false,
                taken = self.queue.recv_many(&mut messages, BATCH), if takes_more && !is_resting => {
                    if taken > 0 {
                        self.take(&mut messages);
                        // A full batch: more may be there.
                        is_resting = taken < BATCH && !is_stopping;
                        rest.as_mut().reset(tokio::time::Instant::now() + REST);
                    } else {
                        // Closed, or every handle is gone.
                        is_over = true;
                        self.put_down_rest();
                    }
                }
            }
        }
    }

    /// Remembers touches, and notes those that are to be sent.
    fn take(&mut self, messages: &mut Vec<Message>) {
        let mut seen: BTreeMap<CommunityId, Vec<Touch>> = BTreeMap::new();
        for message in messages.drain(..) {
            let (community, user, at) = match message {
                Message::Touch(community, user, at) => (community, user, at),
                Message::Flush(done) => {
                    self.flushes.push(done);
                    continue;
                }
            };
            let taken = Taken {
                waiting: self.waiting.clone(),
                touches: 1,
            };
            match self.coalescer.admit(at, &community, &user) {
                TouchDecision::Touch { instead_of } => {
                    self.put_down(community.clone(), user.clone(), at, taken);
                    self.put_down_deferred(instead_of);
                }
                TouchDecision::Deferred => self.metrics.touches_coalesced.inc(),
            }
            let age = (self.now)().since(at);
            seen.entry(community).or_default().push(Touch { user, age });
        }
        for (community, touches) in &seen {
            self.presence.remember(community, touches);
        }
        if !self.flushes.is_empty() {
            self.put_down_rest();
        }
    }

    /// Notes all deferred touches for sending, before they are due.
    fn put_down_rest(&mut self) {
        let rest = self.coalescer.finish((self.now)());
        self.put_down_deferred(rest);
    }

    /// Notes deferred touches for sending. They are remembered already.
    fn put_down_deferred(&mut self, deferred: impl IntoIterator<Item = Deferred>) {
        for Deferred { community, user, at } in deferred {
            self.waiting.inc();
            let taken = Taken {
                waiting: self.waiting.clone(),
                touches: 1,
            };
            self.put_down(community, user, at, taken);
        }
    }

    fn put_down(&mut self, community: CommunityId, user: UserId, at: Moment, taken: Taken) {
        let batch = self.pending.entry(community).or_insert_with(|| Batch {
            seen: BTreeMap::new(),
            taken: Taken {
                waiting: self.waiting.clone(),
                touches: 0,
            },
        });
        match batch.seen.entry(user) {
            Entry::Vacant(vacant) => {
                vacant.insert(at);
                self.pending_touches += 1;
                batch.taken.and(taken);
            }
            Entry::Occupied(mut before) => {
                let last = at.max(*before.get());
                before.insert(last);
            }
        }
    }

    fn note(&mut self, sent: Sent) {
        let Sent {
            community,
            touches,
            outcome,
            ..
        } = sent;
        self.metrics.touches.inc_by(touches.len() as u64);
        note(&self.touches, "touches", outcome.as_ref().err());
        if outcome.is_err() {
            self.metrics.touch_failures.inc_by(touches.len() as u64);
            for touch in &touches {
                self.coalescer.failed(&community, &touch.user);
            }
        }
    }
}

/// One call.
async fn send(presence: Arc<dyn Presence>, community: CommunityId, batch: Batch, now: Now) -> Sent {
    let Batch { seen, taken } = batch;
    // Ages are computed last: a touch that waited is older.
    let touches = seen.into_iter().map(|(user, at)| Touch {
        user,
        age: now().since(at),
    });
    let touches: Vec<_> = touches.collect();
    let outcome = presence.touch(&community, &touches).await.map(|_| ());
    Sent {
        community,
        touches,
        outcome,
        _taken: taken,
    }
}

/// Waits until deferred touches are due.
async fn until(due: Option<Moment>, now: Moment) {
    if let Some(due) = due {
        tokio::time::sleep(due.since(now)).await;
    }
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Notes the outcome of calls of this kind, named in the plural. That Redis is away is logged by its connection.
pub(super) fn note(calls: &Component, kind: &str, error: Option<&PresenceError>) {
    match error {
        Some(PresenceError::Unavailable(cause)) if cause.is_io_error() => {}
        Some(PresenceError::Community) => tracing::debug!("a community's id is empty or too long"),
        Some(error) => calls.down(error.to_string(), |_| {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "presence {kind} fail");
        }),
        None => calls.up(|_| tracing::info!("presence {kind} work again")),
    }
}

#[cfg(test)]
mod tests;
