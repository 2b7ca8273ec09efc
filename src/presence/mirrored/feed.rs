//! The store's changes on their way to whoever listens here, but for those of a part that lacks somebody: they would
//! tell of a few of the many who are there. What is held back is made good by a reading, to which listeners are
//! called when the part is whole again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::Mirror;
use crate::presence::changes::{Changes, Event, Subscription};

/// What is passed on.
pub(super) struct Feed {
    changes: Changes,
    /// By part: something was held back.
    held: Vec<AtomicBool>,
}

impl Feed {
    pub(super) fn new(parts: usize) -> Self {
        Self {
            changes: Changes::new(),
            held: (0..parts).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// A part may be whole again: whoever listens reads what was held back.
    pub(super) fn mended(&self, part: u16) {
        if self.held[usize::from(part)].swap(false, Ordering::SeqCst) {
            self.changes.send(Event::Listening);
        }
    }

    /// Something of this part is not passed on.
    fn hold(&self, part: u16) {
        self.held[usize::from(part)].store(true, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn holds(&self, part: u16) -> bool {
        self.held[usize::from(part)].load(Ordering::SeqCst)
    }
}

/// The task that passes changes on, from when somebody first wants to hear. Dropping it ends that.
pub(super) struct Passer {
    runtime: Handle,
    task: OnceLock<JoinHandle<()>>,
}

impl Passer {
    /// Does nothing yet.
    pub(super) fn new(runtime: &Handle) -> Self {
        Self {
            runtime: runtime.clone(),
            task: OnceLock::new(),
        }
    }

    /// Everything from now on.
    pub(super) fn subscribe(&self, mirror: &Arc<Mirror>) -> Subscription {
        let subscription = mirror.feed.changes.subscribe();
        self.task.get_or_init(|| {
            let changes = mirror.store.subscribe();
            self.runtime.spawn(pass_on(Arc::clone(mirror), changes))
        });
        subscription
    }
}

impl Drop for Passer {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
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
                // It may have become whole before that was noted.
                if mirror.is_whole(part) {
                    feed.mended(part);
                }
            }
            // Too much at once: whoever listens reads everything.
            Ok(Event::Listening) | Err(RecvError::Lagged(_)) => feed.changes.send(Event::Listening),
            Err(RecvError::Closed) => return,
        }
    }
}
