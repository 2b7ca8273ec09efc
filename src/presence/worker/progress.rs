//! How far the worker is with the views that were handed over.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// Counts views. Shared by the handles and the worker.
#[derive(Debug)]
pub(super) struct TouchProgress {
    /// Views handed over.
    handed_over: AtomicU64,
    /// Of these, the first so many are in the store, as far as it takes them.
    in_store: watch::Sender<u64>,
    /// Ends the worker's rest.
    hurry: Notify,
}

impl TouchProgress {
    pub(super) fn new() -> Self {
        Self {
            handed_over: AtomicU64::new(0),
            in_store: watch::Sender::new(0),
            hurry: Notify::new(),
        }
    }

    /// One more view is about to be queued. Counted before, so that no view is waited for too little.
    pub(super) fn hand_over(&self) {
        self.handed_over.fetch_add(1, Ordering::Release);
    }

    /// It was not queued.
    pub(super) fn take_back(&self) {
        self.handed_over.fetch_sub(1, Ordering::Release);
    }

    /// Waits until all that were handed over are in the store; the worker does not rest meanwhile.
    pub(super) async fn catch_up(&self) {
        let all = self.handed_over.load(Ordering::Acquire);
        if *self.in_store.borrow() >= all {
            return;
        }
        let mut in_store = self.in_store.subscribe();
        self.hurry();
        let _ = in_store.wait_for(|so_many| *so_many >= all).await;
    }

    /// Somebody waits: the worker does not rest.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until somebody does.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// The first so many are in the store.
    pub(super) fn reached(&self, so_many: u64) {
        // Nobody is woken who waits for nothing new.
        self.in_store
            .send_if_modified(|before| std::mem::replace(before, so_many) != so_many);
    }
}
