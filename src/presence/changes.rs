//! Changes of counts on their way to whoever wants to hear of them, within this process.
//!
//! A bounded broadcast: whoever is too slow is told that it missed something ([`RecvError::Lagged`]), and asks
//! for the counts anew. Counts are absolute (P6), so that nothing more is ever needed.
//!
//! [`RecvError::Lagged`]: broadcast::error::RecvError::Lagged

use tokio::sync::broadcast;

use super::{Count, CountChange};
use crate::ids::CommunityId;

/// Events that a subscriber may be behind; some 100 bytes each.
const CAPACITY: usize = 4_096;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A count changed.
    Change(CountChange),
    /// From now on changes are heard. Those before may have been missed.
    Listening,
}

/// Where changes are heard.
pub type Subscription = broadcast::Receiver<Event>;

/// Tells every subscriber. Never waits.
#[derive(Debug, Clone)]
pub struct Changes(broadcast::Sender<Event>);

impl Changes {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }

    /// A count changed.
    pub fn tell(&self, community: &CommunityId, count: Count) {
        // Most of the time somebody listens; where nobody does, nothing need be made.
        if self.0.receiver_count() > 0 {
            self.send(Event::Change(CountChange {
                community: community.clone(),
                count,
            }));
        }
    }

    /// Anything else that is to be heard.
    pub fn send(&self, event: Event) {
        // An error says that nobody listens.
        let _ = self.0.send(event);
    }

    /// Everything that is told from now on.
    pub fn subscribe(&self) -> Subscription {
        self.0.subscribe()
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}
