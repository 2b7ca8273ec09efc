//! Tests of the worker, with a store that records its calls.

mod bench;
mod catching_up;
mod coalescing;

use std::sync::atomic::Ordering;

use self::bench::{bench, by_tokio, is, run, touched};
use super::pending::SITE_INTERVAL;
use super::*;
use crate::ids::Finer;

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
