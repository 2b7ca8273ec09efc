//! What other tasks leave for a connection's own task: the latest value for each of its subscriptions, never a queue (L1),
//! and signals. A subscription is what the client asked for: of one scope by two names there are two. Leaving something
//! never waits, so a slow connection delays no other.
//!
//! The connection's task is the only reader. It polls its subscriber each time it runs, whatever it waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::asked::AskedScope;
use super::close::Close;
use super::message::Update;
use crate::presence::Scope;

/// One connection, as the hub and the registry know it.
#[derive(Debug)]
pub(super) struct Subscriber {
    /// Unique in the process.
    pub(super) id: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subscriptions: Vec<SubscribedScope>,
    /// Where the search for the next value begins, so that a busy scope does not starve others.
    next: usize,
    session_changed: bool,
    close: Option<Close>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct SubscribedScope {
    asked: AskedScope,
    /// Number of the newest value that was offered.
    newest: Option<u64>,
    /// The value to send next.
    pending: Option<Arc<Update>>,
}

/// What a subscriber has for its connection's task.
#[derive(Debug)]
pub(super) enum Signal {
    /// Close for this reason; stays.
    Close(Close),
    /// The session has changed, or may have.
    SessionChanged,
    /// Send this value.
    Value(Arc<Update>),
}

/// Outcome for an offered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is pending.
    Pending,
    /// It is pending, in place of one that was not sent in time.
    Replaced,
    /// It is not newer than an earlier one, or of a scope without a subscription.
    Ignored,
}

impl Subscriber {
    /// Without subscriptions.
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            state: Mutex::default(),
        }
    }

    /// Adds a subscription; false if it is there already.
    pub(super) fn add(&self, asked: &AskedScope) -> bool {
        let mut state = self.lock();
        if state.subscriptions.iter().any(|other| other.asked == *asked) {
            return false;
        }
        // Most connections have one: room for four, as it would be otherwise, is 300 bytes more.
        state.subscriptions.reserve_exact(1);
        state.subscriptions.push(SubscribedScope {
            asked: asked.clone(),
            newest: None,
            pending: None,
        });
        true
    }

    /// Removes a subscription, with its pending value; false if its scope has another one, by another name.
    pub(super) fn remove(&self, asked: &AskedScope) -> bool {
        let subscriptions = &mut self.lock().subscriptions;
        subscriptions.retain(|subscription| subscription.asked != *asked);
        !subscriptions.iter().any(|other| other.asked.scope == asked.scope)
    }

    /// All subscriptions, in the order in which they were added.
    pub(super) fn subscriptions(&self) -> Vec<AskedScope> {
        let state = self.lock();
        let subscriptions = state.subscriptions.iter();
        subscriptions
            .map(|subscription| subscription.asked.clone())
            .collect()
    }

    /// Whether there are none.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().subscriptions.is_empty()
    }

    /// Whether there is one of this scope, by any name.
    pub(super) fn has(&self, scope: &Scope) -> bool {
        let state = self.lock();
        let mut subscriptions = state.subscriptions.iter();
        subscriptions.any(|subscription| subscription.asked.scope == *scope)
    }

    /// What access is checked to: the scopes of all subscriptions but the whole site, each once.
    pub(super) fn checked_scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = Vec::new();
        for subscription in &self.lock().subscriptions {
            let scope = &subscription.asked.scope;
            if scope.community().is_some() && !scopes.contains(scope) {
                scopes.push(scope.clone());
            }
        }
        scopes
    }

    /// Offers a value, which may be old (P7).
    pub(super) fn offer(&self, update: &Arc<Update>) -> Offered {
        let mut state = self.lock();
        let (mut offered, mut is_new) = (Offered::Ignored, false);
        for subscription in &mut state.subscriptions {
            if subscription.asked.scope != *update.scope()
                || subscription.newest.is_some_and(|newest| update.seq() <= newest)
            {
                continue;
            }
            subscription.newest = Some(update.seq());
            if subscription.pending.replace(Arc::clone(update)).is_some() {
                offered = Offered::Replaced;
            } else {
                is_new = true;
            }
        }
        if is_new {
            wake(state);
            if offered == Offered::Ignored {
                offered = Offered::Pending;
            }
        }
        offered
    }

    /// Signals that the session has changed, or may have.
    pub(super) fn session_changed(&self) {
        let mut state = self.lock();
        state.session_changed = true;
        wake(state);
    }

    /// Signals that the connection must close. The first reason stands.
    pub(super) fn close(&self, close: Close) {
        let mut state = self.lock();
        state.close.get_or_insert(close);
        wake(state);
    }

    /// The next signal, the most urgent first; values only if they can be sent.
    pub(super) fn poll(&self, context: &Context<'_>, with_values: bool) -> Poll<Signal> {
        let mut state = self.lock();
        if let Some(close) = state.close {
            return Poll::Ready(Signal::Close(close));
        }
        if std::mem::take(&mut state.session_changed) {
            return Poll::Ready(Signal::SessionChanged);
        }
        match with_values.then(|| state.take()).flatten() {
            Some(taken) => {
                drop(state);
                Poll::Ready(Signal::Value(taken.named()))
            }
            None => state.wait(context),
        }
    }

    /// The next pending value, with the client's name of its community.
    pub(super) fn take(&self) -> Option<Arc<Update>> {
        let taken = self.lock().take();
        taken.map(TakenValue::named)
    }

    /// Ready when every subscription has had a value.
    pub(super) fn poll_complete(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let mut subscriptions = state.subscriptions.iter();
        if subscriptions.all(|subscription| subscription.newest.is_some()) {
            Poll::Ready(())
        } else {
            state.wait(context)
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A value, and the slug by which the client asked for its community.
struct TakenValue {
    update: Arc<Update>,
    slug: Option<Arc<str>>,
}

impl TakenValue {
    /// With the client's name. May serialise, so no lock that others wait for is held meanwhile.
    fn named(self) -> Arc<Update> {
        match &self.slug {
            Some(slug) => self.update.named(slug),
            None => self.update,
        }
    }
}

impl State {
    fn take(&mut self) -> Option<TakenValue> {
        let length = self.subscriptions.len();
        for turn in 0..length {
            let index = (self.next + turn) % length;
            let subscription = &mut self.subscriptions[index];
            if let Some(update) = subscription.pending.take() {
                let slug = subscription.asked.slug.clone();
                self.next = index + 1;
                return Some(TakenValue { update, slug });
            }
        }
        None
    }

    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        match &mut self.reader {
            Some(reader) => reader.clone_from(context.waker()),
            None => self.reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Wakes the reader after the lock is released.
fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests;
