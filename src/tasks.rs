//! Supervised tasks, which run as long as the process: a failure is counted, reported, and followed by a new start.
//! Each task has a name; `/readyz` reports its end or panic. Where it cannot be started again, the process shuts down.
//!
//! Architecture invariant: every task for the process' life is started here; elsewhere only tasks of one request, one
//! connection or one lookup are spawned, and those that remove what has ended from a cache. Imports only modules that all use.

#[cfg(debug_assertions)]
mod fault;
mod kind;
mod metrics;

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

use crate::metrics::LabelValue as _;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;
pub use kind::Task;
pub use metrics::Metrics;

/// First and longest pause before a task is started again.
/// Short at first: the task's work waits meanwhile.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// A task that ran for this long has started well: the next pause is the first again.
const LASTING: Duration = Duration::from_secs(60);
/// How long `/readyz` reports a failure, after the last one.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// Starts and supervises tasks. A handle.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    runtime: Handle,
    metrics: Arc<Metrics>,
    /// Ends the process.
    process: Shutdown,
    /// The process has started: until then it may be refused, and tasks end with the parts for which they run.
    begun: Shutdown,
    /// Tasks may end from now on.
    ending: Shutdown,
    failures: Mutex<BTreeMap<Task, TaskFailures>>,
    /// The task for which the process ends, if there is one.
    lost: OnceLock<Task>,
}

/// Failures of one task.
struct TaskFailures {
    number: u64,
    latest: Instant,
}

impl Tasks {
    /// Runs tasks on `runtime`. Starts `process` when a task is lost that serving depends on.
    pub fn new(metrics: Arc<Metrics>, runtime: &Handle, process: Shutdown) -> Self {
        Self(Arc::new(Inner {
            runtime: runtime.clone(),
            metrics,
            process,
            begun: Shutdown::new(),
            ending: Shutdown::new(),
            failures: Mutex::default(),
            lost: OnceLock::new(),
        }))
    }

    /// The same on the current runtime, without a process to end.
    pub fn on_current_runtime() -> Self {
        let tasks = Self::new(Arc::default(), &Handle::current(), Shutdown::new());
        tasks.begin();
        tasks
    }

    /// Has it reported from now on if a task ends: everything has been started.
    pub fn begin(&self) {
        self.0.begun.start();
    }

    /// Runs the future that `make` returns, and a new one whenever it ends or panics.
    pub fn keep<F>(&self, task: Task, make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.clone().supervise(task, Box::new(make));
        self.0.runtime.spawn(task)
    }

    /// The same, in the caller's own task, for a runtime that is not ours.
    pub async fn keeping<F>(self, task: Task, make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.supervise(task, Box::new(make)).await;
    }

    /// Runs `work` on a worker that keeps its state, such as its queue, over failures: guards must account for what it
    /// had in hand.
    pub fn keep_worker<W: Send + 'static>(
        &self,
        task: Task,
        worker: W,
        work: for<'a> fn(&'a mut W) -> BoxFuture<'a, ()>,
    ) -> JoinHandle<()> {
        let work = KeptWorker { worker, work };
        let task = self.clone().supervise(task, Box::new(work));
        self.0.runtime.spawn(task)
    }

    /// Runs the work until it ends after [`Tasks::end`], with a new start after each failure.
    async fn supervise(self, task: Task, mut work: Box<dyn Repeated>) {
        let ending = &self.0.ending;
        let mut backoff = PAUSES;
        loop {
            let since = Instant::now();
            let is_last = ending.has_started();
            // The future is created inside, in case that panics.
            let run = AssertUnwindSafe(async { faulty(task, work.start()).await });
            let outcome = run.catch_unwind().await;
            if outcome.is_ok() {
                tokio::select! {
                    () = self.0.begun.started() => {}
                    () = ending.started() => {}
                }
            }
            if outcome.is_ok() && ending.has_started() {
                return;
            }
            self.failed(task, outcome.is_err());
            if is_last {
                return;
            }
            if since.elapsed() >= LASTING {
                backoff.reset();
            }
            tokio::select! {
                () = sleep(backoff.pause()) => {}
                // Remaining work is done at once, or not at all.
                () = ending.started() => {}
            }
        }
    }

    /// Runs work that cannot be started again, in the caller's own task: if it ends or panics before `stop`, the
    /// process ends.
    pub async fn until_lost(self, task: Task, stop: Shutdown, work: impl Future<Output = ()> + Send) {
        let work = AssertUnwindSafe(faulty(task, work.boxed()));
        let _ = work.catch_unwind().await;
        if !stop.has_started() {
            self.lose(task);
        }
    }

    /// Ends the process in order, for a task that serving depends on and that cannot be started again. The service
    /// manager starts the process again.
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

    /// Allows tasks to end from now on.
    pub fn end(&self) {
        self.0.ending.start();
    }

    /// The runtime of the tasks.
    pub fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    /// The lost task for which the process ends.
    pub fn lost(&self) -> Option<Task> {
        self.0.lost.get().copied()
    }

    /// Tasks that failed recently, one sentence each.
    pub fn degraded(&self) -> Vec<String> {
        let failures = self.lock();
        let lately = failures
            .iter()
            .filter(|(_, failures)| failures.latest.elapsed() < TOLD_FOR);
        lately
            .map(|(task, TaskFailures { number, .. })| {
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
        let mut failures = self.lock();
        let latest = Instant::now();
        let of_task = failures.entry(task).or_insert(TaskFailures { number: 0, latest });
        of_task.number += 1;
        of_task.latest = latest;
        drop(failures);
        // Last: whoever sees the metric finds the failure at `/readyz`.
        self.0.metrics.failures[task].inc();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Task, TaskFailures>> {
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work of any type that can be started again: what supervises it is compiled once.
trait Repeated: Send {
    fn start(&mut self) -> BoxFuture<'_, ()>;
}

impl<F: Future<Output = ()> + Send + 'static, M: FnMut() -> F + Send> Repeated for M {
    fn start(&mut self) -> BoxFuture<'_, ()> {
        self().boxed()
    }
}

/// A worker, and how it works.
struct KeptWorker<W> {
    worker: W,
    work: for<'a> fn(&'a mut W) -> BoxFuture<'a, ()>,
}

impl<W: Send> Repeated for KeptWorker<W> {
    fn start(&mut self) -> BoxFuture<'_, ()> {
        (self.work)(&mut self.worker)
    }
}

/// A task that is aborted when this is dropped.
pub struct AbortOnDrop(JoinHandle<()>);

impl From<JoinHandle<()>> for AbortOnDrop {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The work, with a panic in it where a test asks for one.
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
