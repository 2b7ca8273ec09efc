//! The handle of the presence worker, and what it sends.

use std::sync::Arc;

use prometheus::Gauge;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::CATCHING_UP;
use super::progress::TouchProgress;

use crate::ids::UserId;
use crate::presence::moment::Moment;
use crate::presence::{Scope, Whereabouts};

/// Queues touches. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct PresenceHandle {
    pub(super) queue: mpsc::Sender<Message>,
    pub(super) waiting: Gauge,
    pub(super) progress: Arc<TouchProgress>,
}

/// The touch was not taken: the queue is full, or the worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the presence queue is full")]
pub struct QueueFull;

#[derive(Debug)]
pub(super) enum Message {
    /// The moment is when the user was seen.
    Touch(Whereabouts, UserId, Moment),
    Flush(oneshot::Sender<()>),
}

impl PresenceHandle {
    /// A user was seen on the site, and in a community where the page is one's, now or at a moment before; touches may
    /// come in any order. The caller counts the drop if this is [`QueueFull`].
    pub fn touch(&self, whereabouts: Whereabouts, user: UserId, seen: Moment) -> Result<(), QueueFull> {
        self.waiting.inc();
        self.progress.hand_over();
        let touch = Message::Touch(whereabouts, user, seen);
        self.queue.try_send(touch).map_err(|_| {
            self.progress.take_back();
            self.waiting.dec();
            QueueFull
        })
    }

    /// Waits until the store has been told of every view handed over before that is in one of these scopes: a page's own
    /// script, which asks at once who is there, finds its visitor. Deferred touches are of users who are there already. Waits
    /// for a moment only, and for no call of another scope: a Redis node that hangs delays only reads of
    /// the scopes that it has.
    pub async fn catch_up(&self, scopes: &[Scope]) {
        // A store that is slow must not delay a read; it would be answered from memory.
        let _ = timeout(CATCHING_UP, self.progress.catch_up(scopes)).await;
    }

    /// Waits until everything handed over before has been sent to the store, with or without success, or the
    /// worker has ended. Deferred touches are sent before they are due.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            self.progress.hurry();
            let _ = flushed.await;
        }
    }
}

/// Touches on their way to the store; subtracted from the gauge when this is dropped.
pub(super) struct Taken {
    pub(super) waiting: Gauge,
    pub(super) touches: i32,
}

impl Taken {
    /// Adds touches of the same gauge.
    pub(super) fn and(&mut self, mut others: Self) {
        self.touches += std::mem::take(&mut others.touches);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.waiting.sub(f64::from(self.touches));
    }
}
