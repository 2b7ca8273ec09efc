//! Tests of coalesced touches: the last view counts, in its time.

use super::bench::{COALESCE, bench_with};
use super::*;

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
