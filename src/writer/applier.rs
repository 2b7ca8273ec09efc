//! Applies spools to the database when their batches are due: the own, and those of dead processes (`holdings`).
//! Also confirms kept rows, and updates the backlog gauges.

mod holdings;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::holdings::{made_room, retire};
use super::BatchLimits;
use super::drain::{Drain, DrainOutcome};
use super::forgetting::forget;
use super::spool::{Directory, Spool, SpoolError};
use super::spools::{LOOK, Spools};
use super::trouble::OngoingFailure;
use crate::store::{Class, StoreError};
use crate::tasks::{Task, Tasks};
use crate::writer::Metrics;

/// Checks between two searches for spools without an owner.
const LOOKS_PER_SEARCH: u32 = 5;

/// Drains spools while it runs.
pub struct Applier {
    pub(super) drain: Drain,
    pub(super) limits: BatchLimits,
    directory: Directory,
    pub(super) spools: Arc<Spools>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    /// Callers of `flush`, answered when nothing is left to apply.
    flushing: Vec<oneshot::Sender<()>>,
    /// When the current batch of the own spool started filling.
    since: Option<Instant>,
    /// Due rows are left, split or resolved: the own spool is emptied without waiting for another batch to fill.
    pub(super) is_behind: bool,
    pub(super) trouble: OngoingFailure,
    /// The database failed: once it is back, the ledger is asked whether it still has the acknowledged rows.
    pub(super) is_in_doubt: bool,
    /// The store's count of lost connections when it was last read.
    pub(super) lost_connections: u64,
    looks: u32,
    metrics: Arc<Metrics>,
}

impl Applier {
    pub(super) fn new(
        drain: Drain,
        limits: BatchLimits,
        directory: Directory,
        spools: Arc<Spools>,
        flushes: mpsc::Receiver<oneshot::Sender<()>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            drain,
            limits,
            directory,
            spools,
            flushes,
            flushing: Vec::new(),
            since: None,
            is_behind: false,
            trouble: OngoingFailure::default(),
            is_in_doubt: false,
            lost_connections: 0,
            looks: 0,
            metrics: Arc::clone(metrics),
        }
    }

    /// Runs until `stop` turns true, then closes the spools: what is in them is for the next process.
    pub(crate) fn start(self, tasks: &Tasks, stop: watch::Receiver<bool>) -> JoinHandle<()> {
        tasks.keep_worker(Task::Applier, (self, stop), |(applier, stop)| {
            applier.run(stop.clone()).boxed()
        })
    }

    async fn run(&mut self, stop: watch::Receiver<bool>) {
        let mut stopped = stop;
        let forgetting = forget(self.drain.store());
        tokio::select! {
            () = forgetting => {}
            _ = stopped.wait_for(|stop| *stop) => {}
            () = self.work() => {}
        }
        let own = self.spools.own.load_full();
        for spool in self.spools.adopted().into_iter().chain([own]) {
            self.end(&spool).await;
        }
    }

    async fn work(&mut self) {
        let mut look = Instant::now();
        loop {
            if look <= Instant::now() {
                self.look().await;
                look = Instant::now() + LOOK;
            }
            match self.due() {
                Some(due) if due <= Instant::now() => self.round().await,
                due => {
                    let until = due.map_or(look, |due| due.min(look));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        () = self.spools.appended.notified() => {}
                        Some(done) = self.flushes.recv() => self.flushing.push(done),
                    }
                }
            }
        }
    }

    /// When to apply next; `None` while nothing waits.
    fn due(&mut self) -> Option<Instant> {
        let own = self.spools.own.load();
        let (waiting, passed_over) = (own.waiting(), own.passed_over());
        let is_nothing_ready = waiting.views <= passed_over.views;
        if is_nothing_ready {
            self.is_behind = false;
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
        let now = Instant::now();
        let is_full = !is_nothing_ready
            && (waiting.views - passed_over.views >= self.limits.batch_views.get() as u64
                || waiting.bytes >= self.limits.batch_bytes as u64);
        let adopted = self.spools.adopted();
        let is_flushing = !self.flushing.is_empty() && (waiting.views == 0 || !is_nothing_ready);
        let at_once = is_full || self.is_behind || is_flushing || adopted.iter().any(|spool| is_ready(spool));
        let due = if at_once {
            Some(now)
        } else {
            self.since.map(|since| since + self.limits.batch_age)
        };
        let later = adopted.iter().filter_map(|spool| spool.passed_over().next);
        let due = due.into_iter().chain(passed_over.next).chain(later).min();
        due.map(|due| self.trouble.next_try.map_or(due, |next| due.max(next)))
    }

    /// Takes one step at every spool; after a failure it skips the remaining ones, which would only fail the same
    /// way.
    async fn round(&mut self) {
        let own = self.spools.own.load_full();
        let mut done = self.step(&own).await;
        if self.drain.is_copied() {
            self.replace_copied_spool(&own).await;
        }
        // The own spool may have been replaced meanwhile; the former one is then among the adopted.
        let own = self.spools.own.load_full();
        if done {
            self.make_room(&own).await;
        }
        if done && own.waiting().views > 0 {
            // Views that arrived meanwhile start a new batch.
            self.since = Some(Instant::now());
        }
        for spool in self.spools.adopted() {
            done = done && self.step(&spool).await;
            if !done {
                continue;
            }
            let is_gone = made_room(&spool).await;
            let is_drained = spool.waiting().views == 0 && !spool.is_keeping();
            if is_drained && !is_gone {
                // The heir must be the current own spool, not one that was replaced since.
                retire(&spool, &self.spools.own.load_full()).await;
            }
            if is_drained || is_gone {
                self.spools.release(&spool);
            }
        }
        let is_drained = |spool: &Arc<Spool>| spool.waiting().views == 0;
        if done && self.spools.adopted().iter().all(is_drained) && is_drained(&own) {
            for flushed in self.flushing.drain(..) {
                let _ = flushed.send(());
            }
            self.since = None;
        }
        let spools = self.spools.adopted().into_iter().chain([own]);
        if done && spools.into_iter().all(|spool| spool.passed_over().rows == 0) {
            self.drain.none_is_passed_over();
        }
        self.spools.show();
    }

    /// One step; false if it failed.
    async fn step(&mut self, spool: &Spool) -> bool {
        // It may have been replaced since the last step, even within this round.
        self.drain.owns(self.spools.own.load().id());
        match self
            .spools
            .while_updating_the_backlog(self.drain.step(spool))
            .await
        {
            Ok(DrainOutcome::Nothing) => {
                if spool.waiting().views > spool.passed_over().views {
                    // The counts were wrong, after a failure in between. If they are wrong again, that is no
                    // reason to loop.
                    let _ = spool.count_all().await;
                    self.is_behind = false;
                    self.since = None;
                }
                true
            }
            Ok(step @ (DrainOutcome::Done | DrainOutcome::Again)) => {
                self.is_behind |= matches!(step, DrainOutcome::Again);
                self.trouble.ends();
                true
            }
            Ok(DrainOutcome::Failed(error)) => {
                self.is_behind = true;
                if !matches!(error, StoreError::Refused(_)) {
                    self.retried(&error);
                }
                true
            }
            Ok(DrainOutcome::Unavailable(error)) => {
                self.retried(&error);
                self.trouble.with_database(&error);
                if error.class() == Class::Other {
                    // It may last: an operator is to see why.
                    self.drain.accepted.down(error.without_values(), |_| {});
                }
                self.is_in_doubt = true;
                false
            }
            Err(error) if error.is_damage() => {
                self.give_up(spool, &error).await;
                false
            }
            Err(SpoolError::Closed) => true,
            Err(error) => {
                self.trouble.with_spool(&self.directory, &error);
                false
            }
        }
    }

    fn retried(&self, error: &StoreError) {
        self.metrics.apply_retries[error.class()].inc();
    }

    /// Periodic work, whatever the state of the database.
    async fn look(&mut self) {
        if self.looks.is_multiple_of(LOOKS_PER_SEARCH) {
            self.search().await;
        }
        self.looks = self.looks.wrapping_add(1);
        self.confirm().await;
        self.spools.show();
    }
}

/// Whether there is work at an adopted spool: rows to apply, or the spool to end.
fn is_ready(spool: &Spool) -> bool {
    let (waiting, passed_over) = (spool.waiting(), spool.passed_over());
    (waiting.views == 0 && !spool.is_keeping()) || waiting.views > passed_over.views
}
