//! The hub: distributes changes of counts to subscribers. One feed for the whole process; a slow subscriber delays
//! no other, because each subscriber holds the latest value only (L1).
//!
//! Presence is not asked per subscriber. A scope's first subscriber makes it *wanted*; all wanted ones are
//! read in one call, and later subscribers get the known count (L2). The feed listens before the first reading,
//! and a change that came meanwhile is not overwritten by an older answer (P7). After each gap in the feed, and
//! periodically, everything is read again (P6). While presence is away, the counts that this sidecar remembers are
//! sent as stale.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{self, sleep_until};

use super::asked::AskedScope;
use super::message::Update;
use super::metrics::{Metrics, Resync};
use super::subscriber::{Offered, Subscriber};
use super::topic::{Push, Topic};
use crate::key_type::AppKeys;
use crate::presence::changes::Event;
use crate::presence::{Answer, Count, Presence, Scope};
use crate::retry::{jittered, widely_jittered};

/// Scopes per reading.
const BATCH: usize = 500;
/// Pause after a reading that failed; jittered by up to a half.
const PAUSE: Duration = Duration::from_secs(1);

/// The state of every scope with subscribers.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    /// Notified when there is something to read.
    wanted: Notify,
    /// Notified when an update is planned for later.
    planned: Notify,
    /// Shortest time between two updates of a scope.
    interval: Duration,
    /// Between two readings of everything.
    resync: Duration,
    keys: AppKeys,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Inner {
    topics: HashMap<Scope, Entry>,
    wanted: BTreeSet<Scope>,
    planned: BTreeSet<(Instant, Scope)>,
}

#[derive(Default)]
struct Entry {
    topic: Topic,
    latest: Option<Arc<Update>>,
    subscribers: HashMap<u64, Arc<Subscriber>>,
}

impl Hub {
    /// An empty hub; see [`Hub::listen`] and [`Hub::read`].
    pub(super) fn new(interval: Duration, resync: Duration, keys: AppKeys, metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Mutex::default(),
            wanted: Notify::new(),
            planned: Notify::new(),
            interval,
            resync,
            keys,
            metrics,
        }
    }

    /// Subscribes to a scope by a name, once. The subscriber gets the latest value at once if there is one, else as soon
    /// as it was read.
    pub(super) fn subscribe(&self, subscriber: &Arc<Subscriber>, asked: &AskedScope) {
        if !subscriber.add(asked) {
            return;
        }
        let scope = &asked.scope;
        let mut inner = self.lock();
        let entry = inner.topics.entry(scope.clone()).or_default();
        entry.subscribers.insert(subscriber.id, Arc::clone(subscriber));
        if let Some(update) = entry.latest(scope, &self.keys) {
            entry.topic.given();
            subscriber.offer(&update);
        } else if inner.wanted.insert(scope.clone()) {
            self.wanted.notify_one();
        }
    }

    /// Unsubscribes from a scope by one of its names.
    pub(super) fn unsubscribe(&self, subscriber: &Subscriber, asked: &AskedScope) {
        if !subscriber.remove(asked) {
            return;
        }
        let scope = &asked.scope;
        let mut inner = self.lock();
        let Some(entry) = inner.topics.get_mut(scope) else {
            return;
        };
        entry.subscribers.remove(&subscriber.id);
        if entry.subscribers.is_empty() {
            // It stays in `planned`, where it is skipped.
            inner.topics.remove(scope);
            inner.wanted.remove(scope);
        }
    }

    /// Forwards changes to subscribers; never returns. `is_again`: after an interruption, so that every topic is
    /// read again, because changes may have been missed.
    pub(super) async fn listen(&self, presence: &dyn Presence, is_again: bool) {
        let mut changes = presence.subscribe();
        if is_again {
            self.want_all(Resync::Listening);
        }
        loop {
            let next = self.lock().planned.first().map(|(at, _)| *at);
            let next = async {
                match next {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = changes.recv() => match event {
                    Ok(Event::Change(change)) => self.changed(&change.scope, change.count),
                    Ok(Event::Listening) => self.want_all(Resync::Listening),
                    Err(RecvError::Lagged(_)) => self.want_all(Resync::Lagged),
                    // Presence has ended: the process is shutting down.
                    Err(RecvError::Closed) => return,
                },
                () = next => self.push_planned(now()),
                () = self.planned.notified() => {}
            }
        }
    }

    /// Reads wanted scopes; never returns. Those of which the store has no count are asked for again later.
    /// `is_again`: after an interruption, so that unfinished readings are repeated.
    pub(super) async fn read(&self, presence: &dyn Presence, is_again: bool) {
        if is_again {
            self.want_all(Resync::Listening);
        }
        let mut resync = self.next_resync();
        let mut unread = BTreeSet::new();
        let mut retry = time::Instant::now();
        loop {
            tokio::select! {
                () = self.wanted.notified() => {}
                () = sleep_until(resync) => {}
                () = sleep_until(retry), if !unread.is_empty() => self.want_again(std::mem::take(&mut unread)),
            }
            loop {
                // Also while there is always something to read.
                if time::Instant::now() >= resync {
                    self.want_all(Resync::Periodic);
                    resync = self.next_resync();
                }
                let batch = self.take_wanted();
                if batch.is_empty() {
                    break;
                }
                let mut counts = presence.counts(batch);
                while let Some((scope, answer)) = counts.next().await {
                    // Presence logs the cause of an error.
                    let answer = answer.ok();
                    self.answered(&scope, answer);
                    if answer.is_none_or(|answer| answer.stale) {
                        unread.insert(scope);
                        retry = time::Instant::now() + widely_jittered(PAUSE);
                    }
                }
            }
        }
    }

    fn next_resync(&self) -> time::Instant {
        time::Instant::now() + jittered(self.resync)
    }

    fn changed(&self, scope: &Scope, count: Count) {
        let moment = now();
        let mut inner = self.lock();
        // Most changes are of scopes without subscribers.
        if let Some(entry) = inner.topics.get_mut(scope) {
            let push = entry.topic.published(count, moment, self.interval);
            self.follow(&mut inner, scope, push);
        }
    }

    fn answered(&self, scope: &Scope, answer: Option<Answer<Count>>) {
        let moment = now();
        let mut inner = self.lock();
        if let Some(entry) = inner.topics.get_mut(scope) {
            let push = entry.topic.answered(answer, moment, self.interval);
            self.follow(&mut inner, scope, push);
        }
    }

    fn follow(&self, inner: &mut Inner, scope: &Scope, push: Push) {
        match push {
            Push::Nothing => {}
            Push::Now => {
                if let Some(entry) = inner.topics.get_mut(scope) {
                    self.push(scope, entry);
                }
            }
            Push::At(at) => {
                inner.planned.insert((at, scope.clone()));
                self.planned.notify_one();
            }
        }
    }

    fn push_planned(&self, now: Instant) {
        let mut inner = self.lock();
        while let Some((at, scope)) = inner.planned.pop_first() {
            if at > now {
                inner.planned.insert((at, scope));
                return;
            }
            if let Some(entry) = inner.topics.get_mut(&scope)
                && entry.topic.is_due(now)
            {
                self.push(&scope, entry);
            }
        }
    }

    fn push(&self, scope: &Scope, entry: &mut Entry) {
        let Some(update) = entry.latest(scope, &self.keys) else {
            return;
        };
        let mut replaced = 0;
        for subscriber in entry.subscribers.values() {
            replaced += u64::from(subscriber.offer(&update) == Offered::Replaced);
        }
        self.metrics.values_skipped.inc_by(replaced);
    }

    fn want_all(&self, why: Resync) {
        self.metrics.resyncs[why].inc();
        let mut inner = self.lock();
        let Inner { topics, wanted, .. } = &mut *inner;
        for (scope, entry) in topics {
            if matches!(why, Resync::Listening) {
                entry.topic.doubt();
            }
            wanted.insert(scope.clone());
        }
        drop(inner);
        self.wanted.notify_one();
    }

    fn take_wanted(&self) -> Vec<Scope> {
        let mut inner = self.lock();
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(scope) = inner.wanted.pop_first()
        {
            batch.push(scope);
        }
        batch
    }

    /// Marks those that still have subscribers as wanted again.
    fn want_again(&self, scopes: BTreeSet<Scope>) {
        let mut inner = self.lock();
        for scope in scopes {
            if inner.topics.contains_key(&scope) {
                inner.wanted.insert(scope);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The runtime's time, which tests can pause.
fn now() -> Instant {
    time::Instant::now().into_std()
}

impl Entry {
    /// The latest value, serialised once.
    fn latest(&mut self, scope: &Scope, keys: &AppKeys) -> Option<Arc<Update>> {
        let known = self.topic.known()?;
        if self.latest.as_ref().is_none_or(|latest| latest.known() != known) {
            self.latest = Some(Arc::new(Update::new(scope.clone(), known, keys)));
        }
        self.latest.clone()
    }
}

#[cfg(test)]
mod tests;
