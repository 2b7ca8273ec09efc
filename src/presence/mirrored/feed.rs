//! Forwards the store's changes to local subscribers.
//! Changes of a failure domain that lacks touches are held back: its counts would be too low. When it is whole again,
//! subscribers are told to read the counts that were held back.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::{Mirror, Mirrored};
use crate::presence::changes::{Event, Subscription};
use crate::presence::failure_domain::FailureDomain;
use crate::tasks::Task;

impl Mirror {
    /// A failure domain may be whole again: tells subscribers to read what was held back.
    pub(super) fn release(&self, domain: &FailureDomain) {
        if domain.hold_back(false) {
            self.changes.send(Event::Listening);
        }
    }
}

impl Mirrored {
    /// Every change from now on; the first call starts the task that forwards them.
    pub(super) fn feed(&self) -> Subscription {
        let subscription = self.mirror.changes.subscribe();
        self.feed.get_or_init(|| {
            let mut first = Some(self.mirror.store.subscribe());
            let mirror = Arc::clone(&self.mirror);
            let pass_on = move || {
                let changes = first.take().unwrap_or_else(|| {
                    let changes = mirror.store.subscribe();
                    // Changes that were missed since the former subscription are made up for by a reading.
                    mirror.changes.send(Event::Listening);
                    changes
                });
                pass_on(Arc::clone(&mirror), changes)
            };
            self.tasks.keep(Task::PresenceFeed, pass_on).into()
        });
        subscription
    }
}

async fn pass_on(mirror: Arc<Mirror>, mut changes: Subscription) {
    loop {
        match changes.recv().await {
            Ok(Event::Change(change)) => {
                let domain = mirror.domains.of(&change.scope);
                if mirror.is_whole(domain) {
                    mirror.changes.send(Event::Change(change));
                    continue;
                }
                domain.hold_back(true);
                // It may have become whole before that was noted.
                if mirror.is_whole(domain) {
                    mirror.release(domain);
                }
            }
            // Too many at once: subscribers read everything.
            Ok(Event::Listening) | Err(RecvError::Lagged(_)) => mirror.changes.send(Event::Listening),
            Err(RecvError::Closed) => return,
        }
    }
}
