//! The presence worker: keeps the presence store up to date outside the requests. A handle that never waits, and a
//! worker that owns the store's writes and the sweeps.
//!
//! Touches are remembered before they are sent ([`Presence::remember`]), whatever happens to the calls: a hanging store
//! does not hide users from this sidecar's answers.
//!
//! Every view touches the whole site, so that is not a call per view: the users of a moment share one.

mod calls;
mod handle;
mod pending;
mod progress;
mod sweeps;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::calls::{Sent, send};
use self::handle::{Message, Taken};
pub use self::handle::{PresenceHandle, QueueFull};
use self::pending::PendingTouches;
use self::progress::TouchProgress;
use self::sweeps::sweep_until;
use super::coalesce::{Coalescer, Deferred, TouchDecision};
use super::moment::Moment;
use super::{Count, Presence, PresenceError, Scope, Touch, TouchedGroup, Whereabouts};
use crate::config;
use crate::ids::UserId;
use crate::metrics::Gauge;
use crate::presence::Metrics;
use crate::status::{Component, Status};
use crate::tasks::{Task, Tasks};

/// Messages taken from the queue at a time.
const BATCH: usize = 1_000;
/// Calls at a time: for communities that share a part of the store, with what is finer in them, or for the site.
const CONCURRENCY: usize = 16;
/// Members whose last touch is remembered for coalescing; some 100 bytes each.
const COALESCED_MEMBERS: NonZeroUsize = NonZeroUsize::new(200_000).unwrap();
/// Deferred touches that become due within this time go together.
const DUE_TOGETHER: Duration = Duration::from_millis(100);

/// Pause between two looks at the queue. During it views do not wake the worker: a wake-up is a system call in the
/// request, and each look takes calls of the store. A view that comes alone does not wait; whoever asks who is there ends
/// the pause ([`PresenceHandle::catch_up`]).
const REST: Duration = Duration::from_millis(100);

/// Longest time for which whoever asks who is there waits for the views before.
const CATCHING_UP: Duration = Duration::from_millis(50);

/// The least, however many ask.
const LEAST_REST: Duration = Duration::from_millis(10);

/// Tells the time; tests hand in their own.
type Now = fn() -> Moment;

/// Processes what the handles send. Runs until shutdown; see [`Worker::start`].
pub struct Worker {
    presence: Arc<dyn Presence>,
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Message>,
    waiting: Gauge,
    progress: Arc<TouchProgress>,
    /// Views taken from the queue.
    views: u64,
    coalescer: Coalescer,
    /// Touches not yet sent. Nothing more is taken from the queue while there are as many as its size.
    pending: PendingTouches,
    /// Touches among these that are not remembered yet, by the call that they will be in.
    unremembered: BTreeMap<Scope, Vec<Touch>>,
    most_pending: usize,
    /// Callers of `flush`, answered when nothing is pending.
    flushes: Vec<oneshot::Sender<()>>,
    touches: Component,
    /// Whether sweeps succeed.
    swept: Component,
    now: Now,
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
    let progress = Arc::new(TouchProgress::new());
    let handle = PresenceHandle {
        queue: sender,
        waiting: waiting.clone(),
        progress: Arc::clone(&progress),
    };
    let worker = Worker {
        presence,
        metrics,
        queue: receiver,
        waiting,
        pending: PendingTouches::new(now(), Arc::clone(&progress)),
        progress,
        views: 0,
        coalescer: Coalescer::new(record.coalesce, COALESCED_MEMBERS),
        unremembered: BTreeMap::new(),
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
        let progress = Arc::clone(&self.progress);
        let mut sending = FuturesUnordered::new();
        let mut stop = std::pin::pin!(stopped(shutdown));
        let (mut is_stopping, mut is_over) = (false, false);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let (mut is_resting, mut is_hurried) = (false, false);
        let mut looked = tokio::time::Instant::now();
        loop {
            self.progress.noted(self.views);
            let is_last = is_over || !self.flushes.is_empty();
            while sending.len() < CONCURRENCY
                && let Some(batches) = self.pending.next((self.now)(), is_last)
            {
                sending.push(send(Arc::clone(&self.presence), batches, self.now));
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
            let takes_more = !is_over && self.flushes.is_empty() && self.pending.len() < self.most_pending;
            let due = self.coalescer.next_due().map(|due| due + DUE_TOGETHER);
            let due = due.filter(|_| takes_more);
            let now = (self.now)();
            let sites = self.pending.sites_turn().filter(|_| sending.len() < CONCURRENCY);
            // Checked before waiting: a steady stream of messages must not put it off.
            if due.is_some_and(|due| due <= now) {
                let due = self.coalescer.due(now);
                self.put_down_deferred(due);
                self.remember();
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
                () = until(sites, now), if sites.is_some() => {}
                () = progress.site_hurried(), if sites.is_some() => {}
                () = &mut rest, if is_resting => is_resting = false,
                () = progress.hurried(), if is_resting && !is_hurried => {
                    is_hurried = true;
                    rest.as_mut().reset(looked + LEAST_REST);
                }
                taken = self.queue.recv_many(&mut messages, BATCH), if takes_more && !is_resting => {
                    if taken > 0 {
                        self.take(&mut messages);
                        // A full batch: more may be there.
                        (is_resting, is_hurried) = (taken < BATCH && !is_stopping, false);
                        looked = tokio::time::Instant::now();
                        rest.as_mut().reset(looked + REST);
                    } else {
                        // Closed, or every handle is gone.
                        is_over = true;
                        self.put_down_rest();
                    }
                }
            }
        }
    }

    /// Notes the touches that are to be sent, and remembers them.
    fn take(&mut self, messages: &mut Vec<Message>) {
        // Before anything is done about them: whoever waits for one that is lost by a panic would wait in vain.
        let views = messages
            .iter()
            .filter(|message| matches!(message, Message::Touch(..)));
        self.views += views.count() as u64;
        // Until all touches are noted.
        let mut taken = self.taken(0);
        for message in messages.drain(..) {
            match message {
                Message::Touch(whereabouts, user, at) => {
                    taken.touches += 1;
                    self.note_view(&whereabouts, &user, at);
                }
                Message::Flush(done) => self.flushes.push(done),
            }
        }
        self.remember();
        if !self.flushes.is_empty() {
            self.put_down_rest();
        }
    }

    /// Remembers what was put down.
    fn remember(&mut self) {
        for (group, touches) in std::mem::take(&mut self.unremembered) {
            self.presence.remember(&group, &touches);
        }
    }

    /// Notes the touches of one view that are to be sent now or later.
    fn note_view(&mut self, whereabouts: &Whereabouts, user: &UserId, at: Moment) {
        self.admit(&Scope::Site, user, at);
        let (mut is_any, mut is_touched) = (false, false);
        for scope in whereabouts.scopes() {
            is_any = true;
            is_touched |= self.admit(&scope, user, at);
        }
        if is_any && !is_touched {
            self.metrics.touches_coalesced.inc();
        }
    }

    /// Notes a touch for sending, unless the user was touched in the scope a moment ago.
    fn admit(&mut self, scope: &Scope, user: &UserId, at: Moment) -> bool {
        match self.coalescer.admit(at, scope, user) {
            TouchDecision::Touch { instead_of } => {
                self.put_down(scope, user.clone(), at);
                self.put_down_deferred(instead_of);
                true
            }
            TouchDecision::Deferred => false,
        }
    }

    /// Notes all deferred touches for sending, before they are due.
    fn put_down_rest(&mut self) {
        let rest = self.coalescer.finish((self.now)());
        self.put_down_deferred(rest);
        self.remember();
    }

    /// Notes deferred touches for sending.
    fn put_down_deferred(&mut self, deferred: impl IntoIterator<Item = Deferred>) {
        for Deferred { scope, user, at } in deferred {
            self.put_down(&scope, user, at);
        }
    }

    fn put_down(&mut self, scope: &Scope, user: UserId, at: Moment) {
        self.waiting.inc();
        let taken = self.taken(1);
        self.note_for_memory(scope, user.clone(), at);
        let part = self.presence.part_of(scope);
        self.pending.put_down(part, scope, user, at, taken);
    }

    /// The store's memory is told of it soon ([`Worker::remember`]).
    fn note_for_memory(&mut self, scope: &Scope, user: UserId, at: Moment) {
        self.unremembered.entry(scope.group()).or_default().push(Touch {
            user,
            age: (self.now)().since(at),
            finer: scope.finer().cloned(),
        });
    }

    /// Some of the touches that the gauge has counted.
    fn taken(&self, touches: i32) -> Taken {
        Taken {
            waiting: self.waiting.clone(),
            touches,
        }
    }

    fn note(&mut self, sent: Sent) {
        for (group, outcome) in sent.groups.into_iter().zip(sent.outcomes) {
            self.note_group(group, &outcome);
        }
        self.remember();
    }

    fn note_group(&mut self, group: TouchedGroup, outcome: &Result<Count, PresenceError>) {
        let TouchedGroup {
            scope: group,
            touches,
        } = group;
        let number = touches.len() as u64;
        if group == Scope::Site {
            self.metrics.site_touches.inc_by(number);
        } else {
            self.metrics.touches.inc_by(number);
        }
        note(&self.touches, "touches", outcome.as_ref().err());
        if outcome.is_err() {
            self.metrics.touch_failures.inc_by(number);
            for touch in touches {
                let scope = match group.community() {
                    Some(community) => Scope::of(community.clone(), touch.finer),
                    None => Scope::Site,
                };
                if let Some(at) = self.coalescer.failed(&scope, &touch.user) {
                    self.note_for_memory(&scope, touch.user, at);
                }
            }
        }
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
