//! What other tasks leave for a connection's own task: the latest value of each scope that it subscribes to, never
//! a queue (L1), and signals. Leaving something never waits, so a slow connection delays no other.
//!
//! The connection's task is the only reader. It polls its subscriber each time it runs, whatever it waits for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

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
    scope: Scope,
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
    pub(super) fn add(&self, scope: &Scope) -> bool {
        let mut state = self.lock();
        if state.find(scope).is_some() {
            return false;
        }
        state.subscriptions.push(SubscribedScope {
            scope: scope.clone(),
            newest: None,
            pending: None,
        });
        true
    }

    /// Removes a subscription, with its pending value; false if it is not there.
    pub(super) fn remove(&self, scope: &Scope) -> bool {
        let subscriptions = &mut self.lock().subscriptions;
        let before = subscriptions.len();
        subscriptions.retain(|subscription| subscription.scope != *scope);
        subscriptions.len() < before
    }

    /// The scopes of all subscriptions.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let state = self.lock();
        let scopes = state.subscriptions.iter();
        scopes.map(|subscription| subscription.scope.clone()).collect()
    }

    /// Offers a value, which may be old (P7).
    pub(super) fn offer(&self, update: &Arc<Update>) -> Offered {
        let mut state = self.lock();
        let Some(subscription) = state.find(update.scope()) else {
            return Offered::Ignored;
        };
        if subscription.newest.is_some_and(|newest| update.seq() <= newest) {
            return Offered::Ignored;
        }
        subscription.newest = Some(update.seq());
        if subscription.pending.replace(Arc::clone(update)).is_some() {
            return Offered::Replaced;
        }
        wake(state);
        Offered::Pending
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
            Some(update) => Poll::Ready(Signal::Value(update)),
            None => state.wait(context),
        }
    }

    /// The next pending value.
    pub(super) fn take(&self) -> Option<Arc<Update>> {
        self.lock().take()
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

impl State {
    fn find(&mut self, scope: &Scope) -> Option<&mut SubscribedScope> {
        let mut subscriptions = self.subscriptions.iter_mut();
        subscriptions.find(|subscription| subscription.scope == *scope)
    }

    fn take(&mut self) -> Option<Arc<Update>> {
        let length = self.subscriptions.len();
        for turn in 0..length {
            let index = (self.next + turn) % length;
            if let Some(update) = self.subscriptions[index].pending.take() {
                self.next = index + 1;
                return Some(update);
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
