//! From the spools to the database: when. Batches are applied as they fall due; what somebody's end left
//! behind is taken over and drained; what waits is shown.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::Limits;
use super::batch::WriterId;
use super::drain::{Drain, Step};
use super::forgetting::forget;
use super::shared::Shared;
use super::spool::{Directory, Spool, SpoolError};
use crate::metrics::{Dropped, Metrics};
use crate::store::StoreError;
use crate::tasks::{Task, Tasks};

/// First and longest pause between two tries at the database.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Between two looks at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two searches for spools without an owner.
const LOOKS_PER_SEARCH: u32 = 5;
/// Spools of others held at a time: each costs a thread and a few open files.
const MOST_ADOPTED: usize = 8;

/// Drains spools, as long as it is run.
pub struct Applier {
    drain: Drain,
    limits: Limits,
    directory: Directory,
    shared: Arc<Shared>,
    flushes: mpsc::Receiver<oneshot::Sender<()>>,
    /// Who waits until nothing waits.
    flushing: Vec<oneshot::Sender<()>>,
    /// Since when the first view in the own spool waits for company.
    since: Option<Instant>,
    /// Rows that were due are still there, in other forms: the spool is emptied before waiting for company again.
    is_behind: bool,
    trouble: Trouble,
    looks: u32,
    metrics: Arc<Metrics>,
}

/// The database, or the spool, does not take part just now.
#[derive(Default)]
struct Trouble {
    since: Option<Instant>,
    delays: Option<ExponentialBackoff>,
    next_try: Option<Instant>,
    /// What was said of it last.
    said: String,
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
        for spool in self.shared.adopted() {
            spool.close().await;
        }
        self.shared.own.load().close().await;
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
        if done {
            self.make_room(&own).await;
        }
        if done && own.waiting().views > 0 {
            // What came meanwhile waits for company of its own.
            self.since = Some(Instant::now());
        }
        for spool in self.shared.adopted() {
            done = done && self.step(&spool).await;
            if done && spool.waiting().views == 0 {
                if !made_room(&spool).await {
                    retire(&spool, &own).await;
                }
                self.shared.let_go(&spool);
            }
        }
        if done && self.shared.adopted().is_empty() && own.waiting().views == 0 {
            for flushed in self.flushing.drain(..) {
                let _ = flushed.send(());
            }
            self.since = None;
        }
        self.shared.show();
    }

    /// Has the own spool rid itself of what could not be deleted, and replaces it if that took its file.
    async fn make_room(&self, own: &Spool) {
        if own.waiting().views == 0 && made_room(own).await {
            self.replace_own();
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
        let outcome = {
            let mut step = std::pin::pin!(self.drain.step(spool));
            loop {
                tokio::select! {
                    outcome = &mut step => break outcome,
                    // However long a server hangs, what waits is shown.
                    () = sleep(LOOK) => self.shared.show(),
                }
            }
        };
        match outcome {
            Ok(Step::Nothing) => {
                if spool.waiting().views > spool.passed_over().views {
                    // Counted wrong, after a failure in between.
                    let _ = spool.count_all().await;
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
        self.shared.show();
    }

    /// Takes over what belongs to nobody, and counts afresh.
    async fn search(&mut self) {
        let own = self.shared.own.load_full();
        self.make_room(&own).await;
        let own = self.shared.own.load_full();
        let adopted = self.shared.adopted();
        let held: Vec<WriterId> = adopted.iter().chain([&own]).map(|spool| spool.id()).collect();
        let room = MOST_ADOPTED.saturating_sub(adopted.len());
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

impl Trouble {
    fn with_database(&mut self, error: &StoreError) {
        self.is(
            error.chain(),
            "the database does not take page views; trying again",
        );
    }

    fn with_spool(&mut self, error: &SpoolError) {
        let error = crate::telemetry::chain(error);
        self.is(error, "the spool cannot be read or written; trying again");
    }

    /// Says it once per cause: an outage may end in another kind of trouble.
    fn is(&mut self, cause: String, what: &'static str) {
        let now = Instant::now();
        self.since.get_or_insert(now);
        let delays = self.delays.get_or_insert_with(|| {
            ExponentialBuilder::default()
                .with_min_delay(PAUSE.0)
                .with_max_delay(PAUSE.1)
                .with_jitter()
                .without_max_times()
                .build()
        });
        self.next_try = Some(now + delays.next().unwrap_or(PAUSE.1));
        if self.said != cause {
            tracing::warn!(error = cause, "{what}");
            self.said = cause;
        }
    }

    /// It is over; says for how many seconds it lasted, if there was any.
    fn ends(&mut self) -> Option<u64> {
        let since = self.since?;
        *self = Self::default();
        Some(since.elapsed().as_secs())
    }
}

/// Whether something can be done at a spool that was taken over: to apply, or to end it.
fn is_ready(spool: &Spool) -> bool {
    let (waiting, apart) = (spool.waiting(), spool.passed_over());
    waiting.views == 0 || waiting.views > apart.views
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
