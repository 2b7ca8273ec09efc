//! From the spools to the database: when. Batches are applied as they fall due; spools of processes that are gone are
//! adopted and drained; what is kept is confirmed; the gauges of what waits are set.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Limits;
use super::batch::WriterId;
use super::drain::{Drain, Step};
use super::forgetting::forget;
use super::shared::{LOOK, Shared};
use super::spool::{Directory, Spool, SpoolError};
use super::trouble::Trouble;
use crate::metrics::{Dropped, Metrics};
use crate::store::StoreError;
use crate::tasks::{Task, Tasks};

/// Looks between two searches for spools without an owner.
const LOOKS_PER_SEARCH: u32 = 5;
/// Spools of others from which something is applied at a time …
const MOST_ADOPTED: usize = 8;
/// … and those held at a time: each costs a thread and a few open files.
const MOST_HELD: usize = 32;

/// Drains spools, as long as it is run.
pub struct Applier {
    pub(super) drain: Drain,
    pub(super) limits: Limits,
    directory: Directory,
    pub(super) shared: Arc<Shared>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    /// Who waits until nothing waits.
    flushing: Vec<oneshot::Sender<()>>,
    /// Since when the first view in the own spool waits for company.
    since: Option<Instant>,
    /// Rows that were due are still there, in other forms: the spool is emptied before waiting for company again.
    pub(super) is_behind: bool,
    pub(super) trouble: Trouble,
    /// There was trouble with the database: whether it still has what it acknowledged is asked when that is over.
    pub(super) is_in_doubt: bool,
    /// How often a connection had been lost when this was asked last.
    pub(super) lost_connections: u64,
    looks: u32,
    metrics: Arc<Metrics>,
}

impl Applier {
    pub(super) fn new(
        drain: Drain,
        limits: Limits,
        directory: Directory,
        shared: Arc<Shared>,
        flushes: mpsc::Receiver<oneshot::Sender<()>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            drain,
            limits,
            directory,
            shared,
            flushes,
            flushing: Vec::new(),
            since: None,
            is_behind: false,
            trouble: Trouble::default(),
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
        let own = self.shared.own.load_full();
        for spool in self.shared.adopted().into_iter().chain([own]) {
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
                        () = self.shared.appended.notified() => {}
                        Some(done) = self.flushes.recv() => self.flushing.push(done),
                    }
                }
            }
        }
    }

    /// When to apply next; `None` while nothing waits.
    fn due(&mut self) -> Option<Instant> {
        let own = self.shared.own.load();
        let (waiting, apart) = (own.waiting(), own.passed_over());
        let is_nothing_ready = waiting.views <= apart.views;
        if is_nothing_ready {
            self.is_behind = false;
            self.since = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
        }
        let now = Instant::now();
        let is_full = !is_nothing_ready
            && (waiting.views - apart.views >= self.limits.batch_views.get() as u64
                || waiting.bytes >= self.limits.batch_bytes as u64);
        let adopted = self.shared.adopted();
        let is_flushing = !self.flushing.is_empty() && (waiting.views == 0 || !is_nothing_ready);
        let at_once = is_full || self.is_behind || is_flushing || adopted.iter().any(|spool| is_ready(spool));
        let due = if at_once {
            Some(now)
        } else {
            self.since.map(|since| since + self.limits.batch_age)
        };
        let later = adopted.iter().filter_map(|spool| spool.passed_over().next);
        let due = due.into_iter().chain(apart.next).chain(later).min();
        due.map(|due| self.trouble.next_try.map_or(due, |next| due.max(next)))
    }

    /// Takes one step at every spool; after trouble none at the others, which would only have the same.
    async fn round(&mut self) {
        let own = self.shared.own.load_full();
        self.drain.owns(own.id());
        let mut done = self.step(&own).await;
        if self.drain.is_copied() {
            self.begin_anew(&own).await;
        }
        // It may have been replaced meanwhile, and be among the others.
        let own = self.shared.own.load_full();
        if done {
            self.make_room(&own).await;
        }
        if done && own.waiting().views > 0 {
            // What came meanwhile waits for company of its own.
            self.since = Some(Instant::now());
        }
        for spool in self.shared.adopted() {
            done = done && self.step(&spool).await;
            if !done {
                continue;
            }
            let is_gone = made_room(&spool).await;
            let is_drained = spool.waiting().views == 0 && !spool.is_keeping();
            if is_drained && !is_gone {
                // Not to one that was replaced since.
                retire(&spool, &self.shared.own.load_full()).await;
            }
            if is_drained || is_gone {
                self.shared.let_go(&spool);
            }
        }
        let is_drained = |spool: &Arc<Spool>| spool.waiting().views == 0;
        if done && self.shared.adopted().iter().all(is_drained) && is_drained(&own) {
            for flushed in self.flushing.drain(..) {
                let _ = flushed.send(());
            }
            self.since = None;
        }
        let spools = self.shared.adopted().into_iter().chain([own]);
        if spools.into_iter().all(|spool| spool.passed_over().rows == 0) {
            // Whatever was refused is written, or nobody's by now.
            self.metrics.writes_refused.store(None);
        }
        self.shared.show();
    }

    /// Has the own spool rid itself of what was given up, and replaces it if that took its file.
    pub(super) async fn make_room(&self, own: &Spool) {
        if made_room(own).await {
            self.replace_own();
        }
    }

    /// The same of spools that were taken over, where the disk takes nothing: they keep a share of it as well.
    pub(super) async fn make_room_of_adopted(&self) {
        for spool in self.shared.adopted() {
            if spool.is_keeping() {
                spool.give_up_kept();
            }
            if made_room(&spool).await {
                self.shared.let_go(&spool);
            }
        }
    }

    /// Another copy of this process, resumed from the same state of the machine, has used the numbers of the own spool:
    /// what was appended since is taken for written. A new spool has numbers of its own.
    async fn begin_anew(&self, own: &Arc<Spool>) {
        tracing::error!(
            spool = %own.id(),
            "the ledger knows parts that this process has not offered: its machine was resumed from a snapshot, and \
             page views since then may be lost; a new spool is begun"
        );
        match self.directory.create().await {
            Ok(new) => {
                self.shared.own.store(new);
                self.shared.adopt([Arc::clone(own)]);
            }
            Err(error) => {
                let error = crate::telemetry::chain(&error);
                tracing::warn!(error, "no new spool can be made now");
            }
        }
    }

    /// The appender makes a new one as soon as there is something to put into it.
    fn replace_own(&self) {
        if let Ok(absent) = self.directory.absent() {
            self.shared.own.store(absent);
        }
    }

    /// One step; false if there was trouble.
    async fn step(&mut self, spool: &Spool) -> bool {
        match self.shared.shown_meanwhile(self.drain.step(spool)).await {
            Ok(Step::Nothing) => {
                if spool.waiting().views > spool.passed_over().views {
                    // Counted wrong, after a failure in between. If it is again, that is no reason for haste.
                    let _ = spool.count_all().await;
                    self.is_behind = false;
                    self.since = None;
                }
                true
            }
            Ok(step @ (Step::Done | Step::Again)) => {
                self.is_behind |= matches!(step, Step::Again);
                if let Some(seconds) = self.trouble.ends() {
                    tracing::info!(seconds, "page views are written again");
                }
                true
            }
            Ok(Step::Failed(error)) => {
                self.is_behind = true;
                if !matches!(error, StoreError::Refused(_)) {
                    self.retried(&error);
                }
                true
            }
            Ok(Step::Unavailable(error)) => {
                self.retried(&error);
                self.trouble.with_database(&error);
                self.is_in_doubt = true;
                false
            }
            Err(error) if error.is_damage() => {
                self.give_up(spool, &error).await;
                false
            }
            Err(SpoolError::Closed) => true,
            Err(error) => {
                self.trouble.with_spool(&error);
                false
            }
        }
    }

    fn retried(&self, error: &StoreError) {
        let class = self.metrics.apply_retries.with_label_values(&[error.class()]);
        class.inc();
    }

    /// Sets a damaged spool aside, and takes a new one if it was the own.
    async fn give_up(&mut self, spool: &Spool, error: &SpoolError) {
        let views = spool.waiting().views;
        let reason = Dropped::SpoolDamaged.label();
        let dropped = self.metrics.recorder_dropped.with_label_values(&[reason]);
        dropped.inc_by(views);
        let error = crate::telemetry::chain(error);
        match spool.set_aside().await {
            Ok(name) => tracing::error!(
                error,
                views,
                "a spool is damaged; set aside as {}",
                name.display()
            ),
            Err(cause) => tracing::error!(error, views, %cause, "a spool is damaged and cannot be set aside"),
        }
        self.shared.let_go(spool);
        if self.shared.own.load().id() == spool.id() {
            self.replace_own();
        }
        self.shared.show();
    }

    /// What is done from time to time, whatever the state of the database.
    async fn look(&mut self) {
        if self.looks.is_multiple_of(LOOKS_PER_SEARCH) {
            self.search().await;
        }
        self.looks = self.looks.wrapping_add(1);
        self.confirm().await;
        self.shared.show();
    }

    /// Takes over what belongs to nobody, and counts afresh.
    async fn search(&mut self) {
        let own = self.shared.own.load_full();
        self.make_room(&own).await;
        let own = self.shared.own.load_full();
        let adopted = self.shared.adopted();
        let held: Vec<WriterId> = adopted.iter().chain([&own]).map(|spool| spool.id()).collect();
        let busy = adopted.iter().filter(|spool| spool.waiting().views > 0).count();
        let room = MOST_ADOPTED.saturating_sub(busy);
        let room = room.min(MOST_HELD.saturating_sub(adopted.len()));
        match self.directory.adopt(&held, room).await {
            Ok(found) => {
                self.metrics.spools_adopted.inc_by(found.len() as u64);
                self.shared.adopt(found);
            }
            Err(error) => {
                let error = crate::telemetry::chain(&error);
                tracing::debug!(error, "the spool folder cannot be read");
            }
        }
        let housekeeping = async {
            own.refresh().await?;
            own.clear_tokens().await?;
            own.shrink().await?;
            Ok::<_, SpoolError>(())
        };
        if let Err(error) = housekeeping.await {
            let error = crate::telemetry::chain(&error);
            tracing::debug!(error, "the spool could not be looked through");
        }
    }
}

/// Whether something can be done at a spool that was taken over: to apply, or to end it.
fn is_ready(spool: &Spool) -> bool {
    let (waiting, apart) = (spool.waiting(), spool.passed_over());
    (waiting.views == 0 && !spool.is_keeping()) || waiting.views > apart.views
}

/// Whether a spool's file had to go because the disk takes nothing: nothing is needed of it any more.
async fn made_room(spool: &Spool) -> bool {
    match spool.make_room().await {
        Ok(false) | Err(SpoolError::Closed) => false,
        Ok(true) => {
            tracing::warn!(spool = %spool.id(), "the disk of the spools is full; removed one that is applied");
            true
        }
        Err(error) => {
            let error = crate::telemetry::chain(&error);
            tracing::debug!(error, "a spool cannot be rid of what is applied");
            false
        }
    }
}

/// Ends a drained spool.
async fn retire(spool: &Spool, heir: &Spool) {
    match spool.retire(heir).await {
        Ok(true) => tracing::info!(spool = %spool.id(), "a spool that was taken over is drained"),
        // Somebody put something back into it: the next search finds it again.
        Ok(false) => spool.close().await,
        // It stood for one that could not be made, or had to go already.
        Err(SpoolError::Closed) => {}
        Err(error) => {
            let error = crate::telemetry::chain(&error);
            tracing::warn!(spool = %spool.id(), error, "a drained spool cannot be removed now");
            // Its lock goes with it; the next search finds it again.
            spool.close().await;
        }
    }
}
