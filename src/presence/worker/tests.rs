//! Tests of the worker, with a store that records its calls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chrono::DateTime;
use tokio::sync::Notify;

use super::pending::SITE_INTERVAL;
use super::*;
use crate::ids::Finer;
use crate::presence::fake::Fake;
use crate::presence::{Count, Sweep};

/// Runs both tasks to their end, once.
async fn run(worker: Worker, shutdown: watch::Receiver<bool>) {
    let tasks = Tasks::on_current_runtime();
    tasks.end();
    for task in worker.start(&tasks, shutdown) {
        task.await.unwrap();
    }
}

#[derive(Default)]
struct Notebook {
    /// Community and users of each touch, sorted.
    touches: Mutex<Vec<(String, Vec<String>)>>,
    /// Users of each touch of the whole site.
    of_site: Mutex<Vec<Vec<String>>>,
    /// The greatest age in each.
    oldest: Mutex<Vec<Duration>>,
    refusing: AtomicBool,
    hangs: AtomicBool,
    /// Calls of this hang.
    hangs_in: Mutex<Option<Scope>>,
    swept: Notify,
    has_left: AtomicBool,
}

impl Notebook {
    fn touches(&self) -> Vec<(String, Vec<String>)> {
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
struct Bench {
    notebook: Arc<Notebook>,
    metrics: Arc<Metrics>,
    handle: PresenceHandle,
    worker: Worker,
    stop: watch::Sender<bool>,
}

/// By tokio's clock, which stands or passes as a test wants.
fn by_tokio() -> Moment {
    thread_local! {
        static START: (tokio::time::Instant, Moment) = (tokio::time::Instant::now(), Moment::now());
    }
    START.with(|(instant, moment)| *moment + instant.elapsed())
}

const COALESCE: Duration = Duration::from_secs(5);

fn bench(queue: usize) -> Bench {
    bench_with(queue, Duration::from_secs(3_600))
}

fn bench_with(queue: usize, coalesce: Duration) -> Bench {
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

fn touched(community: &str, users: &[&str]) -> (String, Vec<String>) {
    (community.into(), users.iter().map(ToString::to_string).collect())
}

fn is(gauge: f64, expected: f64) -> bool {
    (gauge - expected).abs() < f64::EPSILON
}

#[tokio::test]
async fn a_batch_is_one_touch_per_community() {
    let bench = bench(100);
    for (community, user) in [("1", "a"), ("2", "a"), ("1", "b"), ("1", "a")] {
        bench
            .handle
            .touch(community.into(), user.into(), by_tokio())
            .unwrap();
    }
    let waiting = bench.worker.waiting.clone();
    assert!(is(waiting.get(), 4.0));
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    bench.handle.flush().await;
    assert_eq!(
        bench.notebook.touches(),
        [touched("1", &["a", "b"]), touched("2", &["a"])]
    );
    assert_eq!(bench.metrics.touches.get(), 3);
    assert_eq!(bench.metrics.touches_coalesced.get(), 1);
    assert!(is(waiting.get(), 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_touch_that_waited_tells_for_how_long() {
    let bench = bench(100);
    bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    tokio::time::advance(Duration::from_millis(2)).await;
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    bench.handle.flush().await;
    let ages = bench.notebook.oldest.lock().unwrap().clone();
    assert_eq!(ages, [Duration::from_millis(2)]);
}

#[tokio::test(start_paused = true)]
async fn v50_whoever_asks_finds_the_views_before_and_others_come_together() {
    let bench = bench(100);
    let view = |user: &str| bench.handle.touch("1".into(), user.into(), by_tokio()).unwrap();
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    view("a");
    tokio::time::sleep(REST / 8).await;
    assert_eq!(bench.notebook.touches(), [touched("1", &["a"])], "alone");

    let start = tokio::time::Instant::now();
    view("b");
    bench.handle.catch_up(&["1".into()]).await;
    assert_eq!(bench.notebook.touches(), [touched("1", &["b"])]);
    bench.handle.catch_up(&["1".into()]).await;
    assert!(start.elapsed() <= LEAST_REST, "{:?}", start.elapsed());

    for user in ["c", "d", "e"] {
        view(user);
        tokio::time::sleep(REST / 8).await;
    }
    assert_eq!(bench.notebook.touches(), [], "it rests");
    tokio::time::sleep(REST).await;
    assert_eq!(bench.notebook.touches(), [touched("1", &["c", "d", "e"])]);
}

#[tokio::test(start_paused = true)]
async fn v50_a_store_that_hangs_delays_nobody_who_asks_for_long() {
    let bench = bench(1);
    bench.notebook.hangs.store(true, Ordering::Relaxed);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    let start = tokio::time::Instant::now();
    bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    bench.handle.catch_up(&["1".into()]).await;
    let took = start.elapsed();
    assert!(took >= REST && took < 2 * REST, "{took:?}");

    // What is not queued is not waited for.
    bench.notebook.hangs.store(false, Ordering::Relaxed);
    let full = super::by(
        by_tokio,
        Arc::new(Notebook::default()),
        &config::Record {
            queue_views: NonZeroUsize::MIN,
            ..config::Record::default()
        },
        &Status::default(),
        Arc::default(),
        Gauge::new("waiting", "touches").unwrap(),
    );
    let (handle, worker) = full;
    handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    handle.touch("1".into(), "b".into(), by_tokio()).unwrap_err();
    tokio::spawn(run(worker, bench.stop.subscribe()));
    let start = tokio::time::Instant::now();
    handle.catch_up(&["1".into()]).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// As where one of several Redis nodes hangs, and has one of the communities.
#[tokio::test(start_paused = true)]
async fn v50_a_scope_that_hangs_delays_nobody_who_asks_for_another() {
    let bench = bench(100);
    *bench.notebook.hangs_in.lock().unwrap() = Some(Scope::Community("1".into()));
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    let view = |community: &str, user: &str| {
        let (community, user) = (community.into(), user.into());
        bench.handle.touch(community, user, by_tokio()).unwrap();
    };
    for user in ["a", "b"] {
        view("1", user);
        view("2", user);
        let start = tokio::time::Instant::now();
        bench.handle.catch_up(&["2".into(), Scope::Site]).await;
        assert!(start.elapsed() <= LEAST_REST, "{:?}", start.elapsed());
        assert_eq!(bench.notebook.touches(), [touched("2", &[user])]);
        bench.handle.catch_up(&["2".into(), "1".into()]).await;
        assert!(start.elapsed() >= REST, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn v50_whoever_asks_for_the_site_finds_the_views_before() {
    let bench = bench(100);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    let view = |user: &str| bench.handle.touch("1".into(), user.into(), by_tokio()).unwrap();
    let of_site = || std::mem::take(&mut *bench.notebook.of_site.lock().unwrap());
    view("a");
    tokio::time::sleep(REST / 8).await;
    assert_eq!(of_site(), [["a"]], "alone");
    // While the worker rests, and while only the site waits for its turn.
    for (user, later) in [("b", Duration::ZERO), ("c", REST), ("d", 2 * REST)] {
        tokio::time::sleep(REST).await;
        view(user);
        tokio::time::sleep(later).await;
        assert!(of_site().is_empty(), "before its turn");
        let start = tokio::time::Instant::now();
        bench.handle.catch_up(&[Scope::Site]).await;
        assert!(start.elapsed() <= LEAST_REST, "{:?}", start.elapsed());
        assert_eq!(of_site(), [[user]]);
    }
    // Unasked it keeps its turn, also while communities are asked for.
    for user in ["e", "f"] {
        view(user);
        bench.handle.catch_up(&["1".into()]).await;
    }
    assert!(of_site().is_empty(), "before its turn");
    tokio::time::sleep(SITE_INTERVAL).await;
    assert_eq!(of_site(), [["e", "f"]]);
}

#[tokio::test]
async fn flush_waits_for_what_came_before_across_batches() {
    let bench = bench(10 * BATCH);
    for user in 0..5 * BATCH {
        bench
            .handle
            .touch("1".into(), UserId::new(user.to_string()), by_tokio())
            .unwrap();
    }
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    bench.handle.flush().await;
    let users: usize = bench
        .notebook
        .touches()
        .iter()
        .map(|(_, users)| users.len())
        .sum();
    assert_eq!(users, 5 * BATCH);
}

#[tokio::test]
async fn a_failed_touch_is_forgotten_so_that_the_next_view_touches_again() {
    let bench = bench(100);
    bench.notebook.refusing.store(true, Ordering::Relaxed);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    bench.handle.flush().await;
    assert_eq!(
        bench.metrics.touch_failures.get(),
        2,
        "the community's and the site's"
    );

    bench.notebook.refusing.store(false, Ordering::Relaxed);
    for coalesced in 0..2 {
        bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
        bench.handle.flush().await;
        assert_eq!(bench.notebook.touches(), [touched("1", &["a"])]);
        assert_eq!(bench.metrics.touches_coalesced.get(), coalesced);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let bench = bench(2);
    assert_eq!(bench.handle.touch("1".into(), "a".into(), by_tokio()), Ok(()));
    assert_eq!(bench.handle.touch("1".into(), "b".into(), by_tokio()), Ok(()));
    assert_eq!(
        bench.handle.touch("1".into(), "c".into(), by_tokio()),
        Err(QueueFull)
    );
}

#[tokio::test]
async fn shutdown_touches_what_is_queued_and_then_refuses() {
    let bench = bench(100);
    bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    bench.stop.send_replace(true);
    run(bench.worker, bench.stop.subscribe()).await;
    assert_eq!(bench.notebook.touches(), [touched("1", &["a"])]);
    assert_eq!(
        bench.handle.touch("1".into(), "b".into(), by_tokio()),
        Err(QueueFull)
    );
    bench.handle.flush().await;
}

#[tokio::test]
async fn it_sweeps_and_tells_how_late() {
    let bench = bench(1);
    let worker = tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    // The second begins after the first was noted.
    bench.notebook.swept.notified().await;
    bench.notebook.swept.notified().await;
    assert!(is(bench.metrics.sweep_lag.get(), 1.5));
    assert!(!bench.notebook.has_left.load(Ordering::Relaxed));
    bench.stop.send_replace(true);
    worker.await.unwrap();
    assert!(bench.notebook.has_left.load(Ordering::Relaxed), "to others");
}

#[tokio::test(start_paused = true)]
async fn p19_the_last_view_counts_though_it_was_coalesced() {
    let bench = bench_with(100, COALESCE);
    for _ in 0..2 {
        bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    }
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    while bench.metrics.touches.get() < 2 {
        tokio::time::sleep(DUE_TOGETHER).await;
    }
    assert_eq!(
        bench.notebook.touches(),
        [touched("1", &["a"]), touched("1", &["a"])]
    );
    let ages = bench.notebook.oldest.lock().unwrap().clone();
    assert!(ages[1] >= COALESCE, "with its age: {ages:?}");
    assert_eq!(bench.metrics.touches_coalesced.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn p19_the_last_view_is_told_in_its_time_however_many_others_are_seen() {
    let bench = bench_with(100, COALESCE);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    for _ in 0..2 {
        bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    }
    let others = Duration::from_millis(10);
    let until_told = COALESCE + DUE_TOGETHER + 2 * others;
    for other in 0..until_told.as_millis() / others.as_millis() {
        bench
            .handle
            .touch("2".into(), UserId::new(other.to_string()), by_tokio())
            .unwrap();
        tokio::time::sleep(others).await;
    }
    let mut touches = bench.notebook.touches();
    touches.retain(|(community, _)| community == "1");
    assert_eq!(touches, [touched("1", &["a"]), touched("1", &["a"])]);
}

#[tokio::test]
async fn p19_flush_sends_what_was_coalesced() {
    let bench = bench(100);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    for _ in 0..2 {
        bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
        bench.handle.flush().await;
        assert_eq!(bench.notebook.touches(), [touched("1", &["a"])]);
    }
    assert_eq!(bench.metrics.touches_coalesced.get(), 1);
}

#[tokio::test]
async fn p19_what_was_coalesced_is_touched_before_the_end() {
    let bench = bench(100);
    for _ in 0..2 {
        bench.handle.touch("1".into(), "a".into(), by_tokio()).unwrap();
    }
    bench.stop.send_replace(true);
    run(bench.worker, bench.stop.subscribe()).await;
    assert_eq!(
        bench.notebook.touches(),
        [touched("1", &["a"]), touched("1", &["a"])]
    );
}

fn in_post(community: &str, post: &str) -> Whereabouts {
    Whereabouts::new(Some(community.into()), [Finer::new("post", post).unwrap()].into())
}

#[tokio::test]
async fn p25_a_community_and_what_is_finer_there_are_one_call_and_the_site_one_for_all() {
    let bench = bench(100);
    for (whereabouts, user) in [
        ("1".into(), "a"),
        (in_post("1", "7"), "a"),
        (in_post("1", "8"), "b"),
        (in_post("2", "7"), "a"),
        (Whereabouts::default(), "c"),
    ] {
        bench.handle.touch(whereabouts, user.into(), by_tokio()).unwrap();
    }
    let waiting = bench.worker.waiting.clone();
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    bench.handle.flush().await;
    assert_eq!(
        bench.notebook.touches(),
        [
            touched("1", &["a", "a in post 7", "b", "b in post 8"]),
            touched("2", &["a", "a in post 7"]),
        ]
    );
    let mut of_site = std::mem::take(&mut *bench.notebook.of_site.lock().unwrap());
    assert_eq!(of_site.len(), 1);
    of_site[0].sort();
    of_site[0].dedup();
    assert_eq!(of_site[0], ["a", "b", "c"]);
    assert_eq!(bench.metrics.touches.get(), 6);
    assert!(is(waiting.get(), 0.0));
}

#[tokio::test(start_paused = true)]
async fn p25_the_site_is_touched_a_few_times_a_second_however_many_come() {
    let bench = bench(100);
    tokio::spawn(run(bench.worker, bench.stop.subscribe()));
    let views = 100;
    let between = Duration::from_millis(20);
    for user in 0..views {
        let user = UserId::new(user.to_string());
        bench.handle.touch("1".into(), user, by_tokio()).unwrap();
        tokio::time::sleep(between).await;
    }
    bench.handle.flush().await;
    let of_site = bench.notebook.of_site.lock().unwrap().clone();
    assert_eq!(of_site.iter().map(Vec::len).sum::<usize>(), views as usize);
    let most = (between * views).as_millis() / SITE_INTERVAL.as_millis() + 2;
    assert!(of_site.len() as u128 <= most, "{} calls", of_site.len());
}
