//! A connection's mailbox: the latest values and instructions for its task, left by hub and keeper. Never waits,
//! so that a slow connection delays no other (L1).
//!
//! The task is the only reader. It checks its mailbox in every poll, whatever else it is waiting for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::close::{Close, End};
use super::message::Update;
use super::slots::{Offered, Slots};
use crate::ids::CommunityId;

/// The mailbox of one connection.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// The tick of the client's last sign of life.
    heard: AtomicU32,
    /// The tick since which a write has been pending; 0 while none is.
    stuck_since: AtomicU32,
}

#[derive(Debug, Default)]
struct Inner {
    slots: Slots,
    ping: bool,
    lost: Vec<CommunityId>,
    close: Option<Close>,
    ended: Option<End>,
    reader: Option<Waker>,
}

/// An instruction for the task.
#[derive(Debug)]
pub(super) enum Letter {
    /// Send this value.
    Count(Arc<Update>),
    /// Send a ping.
    Ping,
    /// Access to these communities was lost.
    Lost(Vec<CommunityId>),
    /// Send this reason, and end.
    Close(Close),
    /// End without a message.
    End(End),
}

impl Mailbox {
    /// A value for one of the connection's communities.
    pub(super) fn offer(&self, update: &Arc<Update>) -> Offered {
        let mut inner = self.lock();
        let offered = inner.slots.offer(update);
        if offered == Offered::Waiting {
            wake(inner);
        }
        offered
    }

    /// Asks for a ping.
    pub(super) fn ping(&self) {
        let mut inner = self.lock();
        inner.ping = true;
        wake(inner);
    }

    /// Tells the task that access to communities was lost.
    pub(super) fn lose(&self, communities: Vec<CommunityId>) {
        let mut inner = self.lock();
        inner.lost.extend(communities);
        wake(inner);
    }

    /// Asks for the end. The first call gives the reason.
    pub(super) fn close(&self, close: Close) {
        let mut inner = self.lock();
        inner.close.get_or_insert(close);
        wake(inner);
    }

    /// Whether the end was asked for.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().close.is_some()
    }

    /// Ends the connection, whatever it is doing.
    pub(super) fn end(&self, end: End) {
        let mut inner = self.lock();
        inner.ended.get_or_insert(end);
        wake(inner);
    }

    /// Changes the communities.
    pub(super) fn with_slots<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner.slots);
        wake(inner);
        result
    }

    /// All communities.
    pub(super) fn communities(&self) -> Vec<CommunityId> {
        self.lock().slots.communities()
    }

    /// The next instruction, the most urgent first; values only if they can be sent.
    pub(super) fn poll(&self, context: &Context<'_>, with_values: bool) -> Poll<Letter> {
        let mut inner = self.lock();
        let letter = if let Some(end) = inner.ended {
            Some(Letter::End(end))
        } else if let Some(close) = inner.close {
            Some(Letter::Close(close))
        } else if std::mem::take(&mut inner.ping) {
            Some(Letter::Ping)
        } else if !inner.lost.is_empty() {
            Some(Letter::Lost(std::mem::take(&mut inner.lost)))
        } else if with_values {
            inner.slots.take().map(Letter::Count)
        } else {
            None
        };
        match letter {
            Some(letter) => Poll::Ready(letter),
            None => inner.wait(context),
        }
    }

    /// Ready if the connection must end whatever it is doing.
    pub(super) fn poll_ended(&self, context: &Context<'_>) -> Poll<End> {
        let mut inner = self.lock();
        match inner.ended {
            Some(end) => Poll::Ready(end),
            None => inner.wait(context),
        }
    }

    /// Ready if every community has a value that waits.
    pub(super) fn poll_complete(&self, context: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.slots.are_complete() {
            Poll::Ready(())
        } else {
            inner.wait(context)
        }
    }

    /// The client gave a sign of life.
    pub(super) fn note_heard(&self, tick: u32) {
        self.heard.store(tick, Ordering::Relaxed);
    }

    /// When the client last gave a sign of life.
    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Relaxed)
    }

    /// A write is pending; `tick` is not 0.
    pub(super) fn note_stuck(&self, tick: u32) {
        let _ = self
            .stuck_since
            .compare_exchange(0, tick, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A write completed.
    pub(super) fn note_flowing(&self) {
        self.stuck_since.store(0, Ordering::Relaxed);
    }

    /// Since when a write has been pending.
    pub(super) fn stuck_since(&self) -> Option<u32> {
        Some(self.stuck_since.load(Ordering::Relaxed)).filter(|since| *since > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        match &mut self.reader {
            Some(reader) => reader.clone_from(context.waker()),
            None => self.reader = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// Wakes the reader after the lock is released.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let reader = inner.reader.take();
    drop(inner);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use chrono::DateTime;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::key_type::AppKeys;
    use crate::live::topic::Known;
    use crate::presence::Count;

    fn update(seq: u64) -> Arc<Update> {
        let count = Count {
            current: seq,
            seq,
            as_of: DateTime::UNIX_EPOCH,
        };
        Arc::new(Update::new(
            "42".into(),
            Known { count, stale: false },
            &AppKeys::default(),
        ))
    }

    async fn next(mailbox: &Mailbox) -> Letter {
        poll_fn(|context| mailbox.poll(context, true)).await
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.with_slots(|slots| slots.add("42".into()));
        let reader = tokio::spawn({
            let mailbox = Arc::clone(&mailbox);
            async move { next(&mailbox).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(mailbox.offer(&update(1)), Offered::Waiting);
        assert!(matches!(reader.await.unwrap(), Letter::Count(update) if update.seq() == 1));
    }

    #[tokio::test]
    async fn the_end_comes_before_values_and_keeps_its_first_reason() {
        let mailbox = Mailbox::default();
        mailbox.with_slots(|slots| slots.add("42".into()));
        mailbox.offer(&update(1));
        mailbox.close(Close::SessionEnded);
        mailbox.close(Close::GoingAway);
        let first = next(&mailbox).now_or_never();
        assert!(
            matches!(first, Some(Letter::Close(Close::SessionEnded))),
            "{first:?}"
        );
    }

    #[tokio::test]
    async fn l1_values_wait_for_a_client_that_cannot_take_them() {
        let mailbox = Mailbox::default();
        mailbox.with_slots(|slots| slots.add("42".into()));
        mailbox.offer(&update(1));
        mailbox.ping();
        let next = || poll_fn(|context| mailbox.poll(context, false)).now_or_never();
        assert!(matches!(next(), Some(Letter::Ping)), "all else does not wait");
        assert!(next().is_none());
        mailbox.offer(&update(2));
        let latest = self::next(&mailbox).now_or_never();
        assert!(matches!(latest, Some(Letter::Count(update)) if update.seq() == 2));
    }

    #[tokio::test]
    async fn pings_and_losses_are_told_once() {
        let mailbox = Mailbox::default();
        mailbox.ping();
        mailbox.ping();
        mailbox.lose(vec!["42".into()]);
        assert!(matches!(next(&mailbox).now_or_never(), Some(Letter::Ping)));
        assert!(matches!(next(&mailbox).now_or_never(), Some(Letter::Lost(lost)) if lost.len() == 1));
        assert!(next(&mailbox).now_or_never().is_none());
    }
}
