//! Forwards the store's changes to local subscribers.
//! Changes of a part that lacks touches are held back: its counts would be too low. When the part is whole again,
//! subscribers are told to read the counts that were held back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::broadcast::error::RecvError;

use super::Mirror;
use crate::presence::changes::{Changes, Event, Subscription};
use crate::tasks::{Kept, Task, Tasks};

/// The forwarded changes.
pub(super) struct Feed {
    changes: Changes,
    /// By part: whether changes were held back.
    held: Vec<AtomicBool>,
}

impl Feed {
    pub(super) fn new(parts: usize) -> Self {
        Self {
            changes: Changes::new(),
            held: (0..parts).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// A part may be whole again: tells subscribers to read what was held back.
    pub(super) fn mended(&self, part: u16) {
        if self.held[usize::from(part)].swap(false, Ordering::SeqCst) {
            self.changes.send(Event::Listening);
        }
    }

    /// Notes that a change of this part is not forwarded.
    fn hold(&self, part: u16) {
        self.held[usize::from(part)].store(true, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn holds(&self, part: u16) -> bool {
        self.held[usize::from(part)].load(Ordering::SeqCst)
    }
}

/// The task that forwards changes, started by the first subscription. Dropping it ends the task.
pub(super) struct Passer {
    tasks: Tasks,
    task: OnceLock<Kept>,
}

impl Passer {
    /// Does nothing yet.
    pub(super) fn new(tasks: &Tasks) -> Self {
        Self {
            tasks: tasks.clone(),
            task: OnceLock::new(),
        }
    }

    /// Everything from now on.
    pub(super) fn subscribe(&self, mirror: &Arc<Mirror>) -> Subscription {
        let subscription = mirror.feed.changes.subscribe();
        self.task.get_or_init(|| {
            let mut first = Some(mirror.store.subscribe());
            let mirror = Arc::clone(mirror);
            let pass_on = move || {
                let changes = first.take().unwrap_or_else(|| {
                    let changes = mirror.store.subscribe();
                    // Changes that were missed since the former subscription are made up for by a reading.
                    mirror.feed.changes.send(Event::Listening);
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
    let feed = &mirror.feed;
    loop {
        match changes.recv().await {
            Ok(Event::Change(change)) => {
                let part = mirror.losses.part(&change.community);
                if mirror.is_whole(part) {
                    feed.changes.send(Event::Change(change));
                    continue;
                }
                feed.hold(part);
                // It may have become whole before the hold was noted.
                if mirror.is_whole(part) {
                    feed.mended(part);
                }
            }
            // Too many at once: subscribers read everything.
            Ok(Event::Listening) | Err(RecvError::Lagged(_)) => feed.changes.send(Event::Listening),
            Err(RecvError::Closed) => return,
        }
    }
}
