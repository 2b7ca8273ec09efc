//! Tasks that run for as long as the process does: each has a name, and its end or panic is noticed, counted, told in
//! `/readyz`, and followed by a new start. Where there is nothing to start again, the process ends in order.
//!
//! Architecture invariant: whatever is started to run for the process' life is started here; spawned elsewhere are
//! only tasks of one request, one connection or one lookup. Imports no room, only what they all stand on.

#[cfg(debug_assertions)]
mod fault;
mod kind;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
pub use kind::Task;

/// First and longest pause before a task is started again; each is twice the one before, and shortened by up to a
/// half. Short at first: what a task does not do meanwhile waits.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A task that ran for so long has begun well: the next pause is the first again.
const LASTING: Duration = Duration::from_secs(60);
/// How long `/readyz` tells of a failure, from the last one on.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Starts tasks and looks after them. A handle.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    runtime: Handle,
    metrics: Arc<Metrics>,
    /// Ends the process.
    process: Shutdown,
    /// Tasks may end from now on.
    ending: Shutdown,
    failures: Mutex<BTreeMap<Task, Failures>>,
    /// Why the process ends, if that is why.
    lost: OnceLock<Task>,
}

/// Of one task.
struct Failures {
    number: u64,
    latest: Instant,
}

impl Tasks {
    /// Tasks will run on `runtime`. `process` is started when one is lost without which nothing is served.
    pub fn new(metrics: &Arc<Metrics>, runtime: &Handle, process: Shutdown) -> Self {
        for task in Task::ALL {
            metrics.task_failures.with_label_values(&[task.label()]);
        }
        Self(Arc::new(Inner {
            runtime: runtime.clone(),
            metrics: Arc::clone(metrics),
            process,
            ending: Shutdown::new(),
            failures: Mutex::default(),
            lost: OnceLock::new(),
        }))
    }

    /// The same on the current runtime, where no process hangs on it.
    pub fn on_current_runtime(metrics: &Arc<Metrics>) -> Self {
        Self::new(metrics, &Handle::current(), Shutdown::new())
    }

    /// Runs what `make` makes, and makes it anew whenever that ends or panics.
    pub fn keep<F>(&self, task: Task, make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.runtime.spawn(self.clone().keeping(task, make))
    }

    /// The same, in the caller's own task, for a runtime that is not ours.
    pub async fn keeping<F>(self, task: Task, make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.look_after(task, make, |make| make().boxed()).await;
    }

    /// Runs `work` on a worker that keeps what it owns, such as its queue, over its failures: whatever it had in
    /// hand must be accounted for by guards.
    pub fn keep_worker<W: Send + 'static>(
        &self,
        task: Task,
        worker: W,
        work: for<'a> fn(&'a mut W) -> BoxFuture<'a, ()>,
    ) -> JoinHandle<()> {
        self.0.runtime.spawn(self.clone().look_after(task, worker, work))
    }

    /// Until it ends when all end.
    async fn look_after<W: Send + 'static>(
        self,
        task: Task,
        mut worker: W,
        mut work: impl for<'a> FnMut(&'a mut W) -> BoxFuture<'a, ()> + Send,
    ) {
        let ending = &self.0.ending;
        let mut pause = PAUSE.0;
        loop {
            let since = Instant::now();
            let is_last = ending.has_started();
            // Made inside, in case that panics.
            let run = AssertUnwindSafe(async { faulty(task, work(&mut worker)).await });
            let outcome = run.catch_unwind().await;
            if outcome.is_ok() && ending.has_started() {
                return;
            }
            self.failed(task, outcome.is_err());
            if is_last {
                return;
            }
            if since.elapsed() >= LASTING {
                pause = PAUSE.0;
            }
            tokio::select! {
                () = sleep(pause.mul_f64(rand::random_range(0.5..=1.0))) => {}
                // What is left to be done is done at once, or not at all.
                () = ending.started() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Does work that cannot be started again, in the caller's own task: if it ends or panics before `stop`, the
    /// process ends.
    pub async fn until_lost(self, task: Task, stop: Shutdown, work: impl Future<Output = ()> + Send) {
        let work = AssertUnwindSafe(faulty(task, work.boxed()));
        let _ = work.catch_unwind().await;
        if !stop.has_started() {
            self.lose(task);
        }
    }

    /// Something is lost without which nothing is served, and which cannot be started again: the process ends in
    /// order, and whoever started it starts it again.
    pub fn lose(&self, task: Task) {
        if self.0.ending.has_started() || self.0.process.has_started() {
            return;
        }
        let _ = self.0.lost.set(task);
        self.count(task);
        tracing::error!(
            task = task.label(),
            "a task failed that cannot be started again; this process ends, for its service manager to start another"
        );
        self.0.process.start();
    }

    /// From now on tasks may end.
    pub fn end(&self) {
        self.0.ending.start();
    }

    /// Where they run.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// For whose loss the process ends.
    pub fn lost(&self) -> Option<Task> {
        self.0.lost.get().copied()
    }

    /// Tasks that failed lately, one sentence each.
    pub fn degraded(&self) -> Vec<String> {
        let failures = self.lock();
        let lately = failures
            .iter()
            .filter(|(_, failures)| failures.latest.elapsed() < TOLD_FOR);
        lately
            .map(|(task, Failures { number, .. })| {
                let task = task.label();
                format!("the task {task} failed and is started again ({number} times so far); see the log")
            })
            .collect()
    }

    fn failed(&self, task: Task, panicked: bool) {
        self.count(task);
        let how = if panicked { "panicked" } else { "ended" };
        tracing::error!(task = task.label(), "a task {how}; it is started again");
    }

    fn count(&self, task: Task) {
        self.0
            .metrics
            .task_failures
            .with_label_values(&[task.label()])
            .inc();
        let mut failures = self.lock();
        let latest = Instant::now();
        let failures = failures.entry(task).or_insert(Failures { number: 0, latest });
        failures.number += 1;
        failures.latest = latest;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Task, Failures>> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that ends when this is dropped.
pub struct Kept(JoinHandle<()>);

impl From<JoinHandle<()>> for Kept {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The work, and, where a test asks for it, a panic in it.
#[cfg(debug_assertions)]
async fn faulty(task: Task, work: BoxFuture<'_, ()>) {
    fault::or_panic(task, work).await;
}

#[cfg(not(debug_assertions))]
async fn faulty(_: Task, work: BoxFuture<'_, ()>) {
    work.await;
}

#[cfg(test)]
mod tests;
