//! How far the worker is with the views that were handed over: which of them it has noted, and which calls are still to end.
//!
//! A view is in the store once the call of its scope has ended. Calls of other scopes are not waited for: one that hangs, as
//! where one of several Redis nodes does, delays only those who ask for its own scope.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

use crate::presence::Scope;

/// Counts views. Shared by the handles and the worker.
#[derive(Debug)]
pub(super) struct TouchProgress {
    /// Views handed over.
    handed_over: AtomicU64,
    /// Somebody asks for the whole site with the first so many.
    asked_of_site: AtomicU64,
    noted: watch::Sender<Noted>,
    /// Ends the worker's rest.
    hurry: Notify,
    /// Ends the wait for the site's turn.
    hurry_site: Notify,
}

#[derive(Debug, Default)]
struct Noted {
    /// Views of which each touch is in a call, or deferred.
    views: u64,
    /// Calls that have not ended, by what they touch, each with the number of the first view that may be in it.
    calls: BTreeMap<Scope, Vec<u64>>,
}

impl Noted {
    /// Whether the first so many are in the store in all these scopes, as far as it takes them.
    fn has(&self, so_many: u64, groups: &[Scope]) -> bool {
        let is_in_store = |group| {
            let calls = self.calls.get(group);
            calls.is_none_or(|calls| calls.iter().all(|first| *first > so_many))
        };
        self.views >= so_many && groups.iter().all(is_in_store)
    }
}

/// A call that has not ended; that it has is noted when this is dropped.
#[derive(Debug)]
pub(super) struct OpenCall {
    progress: Arc<TouchProgress>,
    group: Scope,
    first: u64,
}

impl OpenCall {
    /// Whether somebody asks for the whole site with a view that may be in the call.
    pub(super) fn is_asked_of_site(&self) -> bool {
        self.first <= self.progress.asked_of_site.load(Ordering::Acquire)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.progress.noted.send_modify(|noted| {
            if let Some(calls) = noted.calls.get_mut(&self.group) {
                if let Some(ended) = calls.iter().position(|first| *first == self.first) {
                    calls.swap_remove(ended);
                }
                if calls.is_empty() {
                    noted.calls.remove(&self.group);
                }
            }
        });
    }
}

impl TouchProgress {
    pub(super) fn new() -> Self {
        Self {
            handed_over: AtomicU64::new(0),
            asked_of_site: AtomicU64::new(0),
            noted: watch::Sender::default(),
            hurry: Notify::new(),
            hurry_site: Notify::new(),
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

    /// Waits until all that were handed over are in the store in these scopes; the worker neither rests meanwhile nor lets
    /// the site wait for its turn.
    pub(super) async fn catch_up(&self, scopes: &[Scope]) {
        let all = self.handed_over.load(Ordering::Acquire);
        let groups: Vec<_> = scopes.iter().map(Scope::group).collect();
        if self.noted.borrow().has(all, &groups) {
            return;
        }
        let mut noted = self.noted.subscribe();
        if groups.contains(&Scope::Site) {
            self.asked_of_site.fetch_max(all, Ordering::AcqRel);
            self.hurry_site.notify_one();
        }
        self.hurry();
        let _ = noted.wait_for(|noted| noted.has(all, &groups)).await;
    }

    /// Somebody waits: the worker does not rest.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until somebody does.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Waits until somebody waits for the site.
    pub(super) async fn site_hurried(&self) {
        self.hurry_site.notified().await;
    }

    /// A call is to be made, with views that are not noted yet.
    pub(super) fn open(self: &Arc<Self>, group: Scope) -> OpenCall {
        let mut first = 0;
        // Nobody waits for it so far.
        self.noted.send_if_modified(|noted| {
            first = noted.views + 1;
            noted.calls.entry(group.clone()).or_default().push(first);
            false
        });
        OpenCall {
            progress: Arc::clone(self),
            group,
            first,
        }
    }

    /// Each touch of the first so many is in a call, or deferred.
    pub(super) fn noted(&self, so_many: u64) {
        // Nobody is woken who waits for nothing new.
        self.noted
            .send_if_modified(|noted| std::mem::replace(&mut noted.views, so_many) != so_many);
    }
}
