//! State shared by the writer's handle, appender and applier: the open spools.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::Utc;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::spool::{Spool, SpoolTotals};
use crate::status::{Backlog, Status};

/// Between two updates of the backlog.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The open spools.
pub(super) struct Spools {
    /// Where new views go.
    pub(super) own: ArcSwap<Spool>,
    /// Something was appended.
    pub(super) appended: Notify,
    /// The last append failed because the disk takes no writes.
    pub(super) is_disk_full: AtomicBool,
    /// Adopted from dead processes, or replaced by a new one; to be drained.
    adopted: Mutex<Vec<Arc<Spool>>>,
    /// Limit of `bytes`.
    limit: u64,
    pub(super) status: Status,
}

impl Spools {
    pub(super) fn new(own: Arc<Spool>, limit: u64, status: Status) -> Self {
        let is_closed = own.is_closed();
        let spools = Self {
            own: ArcSwap::new(own),
            appended: Notify::new(),
            is_disk_full: AtomicBool::new(false),
            adopted: Mutex::default(),
            limit,
            status,
        };
        spools.show();
        // Of one that could not be created the status tells already.
        if !is_closed {
            spools.status.spool.up(|_| {});
        }
        spools
    }

    pub(super) fn adopted(&self) -> Vec<Arc<Spool>> {
        self.lock().clone()
    }

    pub(super) fn adopt(&self, spools: impl IntoIterator<Item = Arc<Spool>>) {
        self.lock().extend(spools);
    }

    pub(super) fn release(&self, spool: &Spool) {
        self.lock().retain(|adopted| adopted.id() != spool.id());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Spool>>> {
        self.adopted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> Vec<SpoolTotals> {
        let own = self.own.load().waiting();
        self.lock()
            .iter()
            .map(|spool| spool.waiting())
            .chain([own])
            .collect()
    }

    /// Views on disk, over all spools.
    pub(super) fn views(&self) -> u64 {
        self.waiting().iter().map(|waiting| waiting.views).sum()
    }

    /// Bytes on disk, over all spools; `spool.max_bytes` limits this.
    pub(super) fn bytes(&self) -> u64 {
        let waiting = self.waiting();
        waiting
            .iter()
            .map(|waiting| waiting.bytes + waiting.dead_bytes)
            .sum()
    }

    /// Runs a future while updating the backlog, so that a hanging server does not freeze it.
    pub(super) async fn while_updating_the_backlog<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = sleep(LOOK) => self.show(),
            }
        }
    }

    /// Updates the backlog.
    #[expect(clippy::cast_precision_loss, reason = "sizes and seconds")]
    pub(super) fn show(&self) {
        let waiting = self.waiting();
        let sum = |of: fn(&SpoolTotals) -> u64| waiting.iter().map(of).sum::<u64>() as f64;
        let oldest = waiting.iter().filter_map(|waiting| waiting.oldest).min();
        let kept = self.lock().iter().map(|spool| spool.kept_bytes()).sum::<u64>();
        let kept = kept + self.own.load().kept_bytes();
        self.status.set_backlog(Backlog {
            views: sum(|waiting| waiting.views),
            bytes: sum(|waiting| waiting.bytes + waiting.dead_bytes),
            kept_bytes: kept as f64,
            limit_bytes: self.limit as f64,
            oldest_seconds: oldest.map_or(0.0, |at| (Utc::now() - at).as_seconds_f64().max(0.0)),
            dead_letters: sum(|waiting| waiting.dead_letters),
        });
    }
}
