//! Tests of shared reads: who gets which, and that nothing is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, poll_immediate};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::JoinedReads;

/// The longest time for which anybody waits.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads that take their time, and find their own number.
struct Reads {
    joined: JoinedReads<&'static str, usize>,
    begun: Arc<AtomicUsize>,
    time: Duration,
}

impl Reads {
    fn that_take(time: Duration) -> Self {
        Self {
            joined: JoinedReads::new(TIMEOUT / 4),
            begun: Arc::default(),
            time,
        }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    async fn read(&self, key: &'static str) -> usize {
        let (begun, time) = (Arc::clone(&self.begun), self.time);
        let read = move || {
            let begun = Arc::clone(&begun);
            async move {
                let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                sleep(time).await;
                number
            }
        };
        self.joined.read(key, read).await.unwrap()
    }

    async fn keeps_nothing(&self) {
        while !self.joined.subjects.locked().is_empty() {
            yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_during_a_read_share_the_next_one() {
    let reads = Reads::that_take(TIMEOUT / 10);
    let first = async { reads.read("a").await };
    let others = async {
        sleep(TIMEOUT / 20).await;
        join_all((0..3).map(|_| reads.read("a"))).await
    };
    let (first, others) = tokio::join!(first, others);
    assert_eq!(first, 1);
    assert_eq!(others, [2, 2, 2], "what was read before they asked is not theirs");
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_where_the_request_that_began_it_is_given_up() {
    let reads = Reads::that_take(TIMEOUT / 10);
    let mut first = Box::pin(reads.read("a"));
    let mut together = Box::pin(reads.read("a"));
    assert_eq!(poll_immediate(&mut first).await, None);
    assert_eq!(poll_immediate(&mut together).await, None);
    drop(first);
    sleep(TIMEOUT / 20).await;
    assert_eq!(reads.begun(), 1);
    assert_eq!(together.await, 1);
    reads.keeps_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn all_are_answered_in_time_where_a_read_takes_more_than_half_of_it() {
    let reads = Arc::new(Reads::that_take(TIMEOUT * 6 / 10));
    let mut requests = JoinSet::new();
    for _ in 0..200 {
        let reads = Arc::clone(&reads);
        requests.spawn(async move {
            let begun_before = reads.begun();
            let number = timeout(TIMEOUT, reads.read("a")).await.expect("in time");
            assert!(number > begun_before, "it began before the request came");
        });
        sleep(TIMEOUT / 100).await;
    }
    while let Some(answered) = requests.join_next().await {
        answered.unwrap();
    }
    reads.keeps_nothing().await;
    assert!(reads.begun() < 12, "{} reads", reads.begun());
}

#[tokio::test(start_paused = true)]
async fn different_things_are_read_side_by_side() {
    let reads = Reads::that_take(TIMEOUT / 10);
    let before = tokio::time::Instant::now();
    join_all(["a", "b"].map(|key| reads.read(key))).await;
    assert_eq!(before.elapsed(), TIMEOUT / 10);
    assert_eq!(reads.read("a").await, 3, "a later request is answered anew");
    reads.keeps_nothing().await;
}

#[tokio::test]
async fn who_waits_for_a_read_that_panics_is_told_and_the_next_is_answered() {
    let joined = JoinedReads::<_, usize>::new(TIMEOUT);
    let read = || async { panic!("on purpose") };
    assert_eq!(joined.read("a", read).await, None);
    assert_eq!(joined.read("a", || async { 1 }).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_kept_where_requests_come_and_go_at_once() {
    let reads = Arc::new(Reads::that_take(Duration::ZERO));
    let mut requests = JoinSet::new();
    for number in 0..400 {
        let reads = Arc::clone(&reads);
        requests.spawn(async move {
            for turn in 0..20 {
                let mut asked = Box::pin(reads.read(["a", "b", "c"][turn % 3]));
                if number % 2 == 0 {
                    // It may be answered at once.
                    poll_immediate(&mut asked).await;
                } else {
                    asked.await;
                }
            }
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
    timeout(TIMEOUT, reads.keeps_nothing())
        .await
        .expect("all are gone");
}
