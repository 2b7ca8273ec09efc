//! Broadcasts changes of counts to subscribers within this process.
//!
//! The broadcast is bounded: a subscriber that is too slow is told that it missed events ([`RecvError::Lagged`]),
//! and reads the counts again. Counts are absolute (P6), so nothing more is needed.
//!
//! [`RecvError::Lagged`]: broadcast::error::RecvError::Lagged

use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast;

use super::{Count, CountChange, Scope};

/// Events that a subscriber may be behind. There is room for all of them from the first subscriber on, some 50 bytes each.
const CAPACITY: usize = 4_096;

/// An event for subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A count changed. Shared, which keeps the room for events small.
    Change(Arc<CountChange>),
    /// Changes are reported from now on. Earlier ones may have been missed.
    Listening,
}

/// Receives events.
pub type Subscription = broadcast::Receiver<Event>;

/// Sends events to every subscriber. Never waits. Has no memory for events before the first subscriber: of the stores that
/// stand one before the other, only the outermost has any.
#[derive(Debug, Clone, Default)]
pub struct CountChanges(Arc<OnceLock<broadcast::Sender<Event>>>);

impl CountChanges {
    /// A broadcast without subscribers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a change of a count.
    pub fn tell(&self, scope: &Scope, count: Count) {
        // Most of the time there is a subscriber; without one no event is made.
        if self.0.get().is_some_and(|sender| sender.receiver_count() > 0) {
            let scope = scope.clone();
            self.send(Event::Change(CountChange { scope, count }.into()));
        }
    }

    /// Sends any event.
    pub fn send(&self, event: Event) {
        if let Some(sender) = self.0.get() {
            // An error means that there is no subscriber.
            let _ = sender.send(event);
        }
    }

    /// Every event from now on.
    pub fn subscribe(&self) -> Subscription {
        self.0
            .get_or_init(|| broadcast::Sender::new(CAPACITY))
            .subscribe()
    }
}
