//! Tests of who asks for counts and lists: the views before are touched first, and a store that hangs delays few.

use super::bench::Notebook;
use super::*;

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
    assert!(took >= CATCHING_UP && took < 2 * CATCHING_UP, "{took:?}");

    // What is not queued is not waited for.
    bench.notebook.hangs.store(false, Ordering::Relaxed);
    let full = by(
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
        assert!(start.elapsed() >= CATCHING_UP, "{:?}", start.elapsed());
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
    for (user, later) in [("b", Duration::ZERO), ("c", REST / 4), ("d", REST)] {
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
