//! A worker that has not started, with a store that records its calls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chrono::DateTime;
use tokio::sync::Notify;

use super::*;
use crate::presence::fake::Fake;
use crate::presence::{Count, Sweep};

/// Runs both tasks to their end, once.
pub(super) async fn run(worker: Worker, shutdown: watch::Receiver<bool>) {
    let tasks = Tasks::on_current_runtime();
    tasks.end();
    for task in worker.start(&tasks, shutdown) {
        task.await.unwrap();
    }
}

#[derive(Default)]
pub(super) struct Notebook {
    /// Community and users of each touch, sorted.
    pub(super) touches: Mutex<Vec<(String, Vec<String>)>>,
    /// Users of each touch of the whole site.
    pub(super) of_site: Mutex<Vec<Vec<String>>>,
    /// The greatest age in each.
    pub(super) oldest: Mutex<Vec<Duration>>,
    pub(super) refusing: AtomicBool,
    pub(super) hangs: AtomicBool,
    /// Calls of this hang.
    pub(super) hangs_in: Mutex<Option<Scope>>,
    pub(super) swept: Notify,
    pub(super) has_left: AtomicBool,
}

impl Notebook {
    pub(super) fn touches(&self) -> Vec<(String, Vec<String>)> {
        let mut touches = std::mem::take(&mut *self.touches.lock().unwrap());
        touches.sort();
        touches
    }
}

#[async_trait]
impl Fake for Notebook {
    async fn touch(&self, group: &Scope, touches: &[Touch]) -> Result<Count, PresenceError> {
        let hangs_here = self.hangs_in.lock().unwrap().as_ref() == Some(group);
        if hangs_here || self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.refusing.load(Ordering::Relaxed) {
            return Err(PresenceError::Unexpected("refusing".into()));
        }
        if *group == Scope::Site {
            let users = touches.iter().map(|touch| touch.user.to_string());
            self.of_site.lock().unwrap().push(users.collect());
            return Ok(nobody());
        }
        let oldest = touches.iter().map(|touch| touch.age).max();
        self.oldest.lock().unwrap().extend(oldest);
        let user = |touch: &Touch| match &touch.finer {
            Some(finer) => format!("{} in {} {}", touch.user, finer.kind(), finer.key()),
            None => touch.user.to_string(),
        };
        let mut users: Vec<_> = touches.iter().map(user).collect();
        users.sort();
        self.touches.lock().unwrap().push((group.to_string(), users));
        Ok(nobody())
    }

    async fn sweep(&self) -> Result<Sweep, PresenceError> {
        self.swept.notify_one();
        Ok(Sweep {
            lag: Duration::from_millis(1_500),
            ..Sweep::default()
        })
    }

    async fn leave_sweeps(&self) {
        self.has_left.store(true, Ordering::Relaxed);
    }
}

fn nobody() -> Count {
    Count {
        current: 0,
        seq: 0,
        as_of: DateTime::UNIX_EPOCH,
    }
}

/// A worker that has not started, so that a test decides what is in its first batch.
pub(super) struct Bench {
    pub(super) notebook: Arc<Notebook>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handle: PresenceHandle,
    pub(super) worker: Worker,
    pub(super) stop: watch::Sender<bool>,
}

/// By tokio's clock, which stands or passes as a test wants.
pub(super) fn by_tokio() -> Moment {
    thread_local! {
        static START: (tokio::time::Instant, Moment) = (tokio::time::Instant::now(), Moment::now());
    }
    START.with(|(instant, moment)| *moment + instant.elapsed())
}

pub(super) const COALESCE: Duration = Duration::from_secs(5);

pub(super) fn bench(queue: usize) -> Bench {
    bench_with(queue, Duration::from_secs(3_600))
}

pub(super) fn bench_with(queue: usize, coalesce: Duration) -> Bench {
    let notebook = Arc::new(Notebook::default());
    let metrics = Arc::<Metrics>::default();
    let record = config::Record {
        queue_views: NonZeroUsize::new(queue).unwrap(),
        coalesce,
        ..config::Record::default()
    };
    let (handle, worker) = by(
        by_tokio,
        Arc::clone(&notebook) as Arc<dyn Presence>,
        &record,
        &Status::default(),
        Arc::clone(&metrics),
        Gauge::new("waiting", "touches").unwrap(),
    );
    Bench {
        notebook,
        metrics,
        handle,
        worker,
        stop: watch::Sender::new(false),
    }
}

pub(super) fn touched(community: &str, users: &[&str]) -> (String, Vec<String>) {
    (community.into(), users.iter().map(ToString::to_string).collect())
}

pub(super) fn is(gauge: f64, expected: f64) -> bool {
    (gauge - expected).abs() < f64::EPSILON
}
