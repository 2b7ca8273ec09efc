//! Tests of the hub, with a fake presence that answers when and what the test says.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::{FutureExt as _, stream};
use tokio::time::sleep;

use super::*;
use crate::live::subscriber::Signal;
use crate::live::topic::STANDS;
use crate::presence::changes::{CountChanges, Subscription};
use crate::presence::fake::Fake;
use crate::presence::{CountChange, CountStream, PresenceError};

const INTERVAL: Duration = Duration::from_millis(200);
const RESYNC: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Told {
    counts: Mutex<HashMap<Scope, Count>>,
    changes: CountChanges,
    readings: AtomicUsize,
    stale: std::sync::atomic::AtomicBool,
    /// While a test holds this, readings wait, with the answer that they had when they began.
    hold: tokio::sync::Mutex<()>,
    away: std::sync::atomic::AtomicBool,
    /// The server of communities whose name begins with [`ELSEWHERE`] is away.
    elsewhere_away: std::sync::atomic::AtomicBool,
}

const ELSEWHERE: &str = "x";

impl Told {
    fn is(&self, community: &str, count: Count) {
        self.counts.lock().unwrap().insert(community.into(), count);
    }

    /// Says so to all who listen, whatever a reading would say.
    fn publish(&self, community: &str, count: Count) {
        let scope = community.into();
        self.changes
            .send(Event::Change(CountChange { scope, count }.into()));
    }

    fn readings(&self) -> usize {
        self.readings.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Fake for Told {
    fn counts(&self, scopes: Vec<Scope>) -> CountStream<'_> {
        self.readings.fetch_add(1, Ordering::Relaxed);
        let known = self.counts.lock().unwrap().clone();
        let held = stream::once(async move {
            drop(self.hold.lock().await);
            stream::iter(scopes)
        });
        let answer = move |scope: Scope| {
            let value = known.get(&scope).copied().unwrap_or(count(0, 0, 1));
            let stale = self.stale.load(Ordering::Relaxed);
            let is_elsewhere = scope.to_string().starts_with(ELSEWHERE);
            let is_away = self.away.load(Ordering::Relaxed)
                || self.elsewhere_away.load(Ordering::Relaxed) && is_elsewhere;
            let away = || PresenceError::Unexpected("away".into());
            (
                scope,
                (!is_away).then_some(Answer { value, stale }).ok_or_else(away),
            )
        };
        held.flatten().map(answer).boxed()
    }

    fn subscribe(&self) -> Subscription {
        self.changes.subscribe()
    }
}

fn count(current: u64, seq: u64, as_of: i64) -> Count {
    Count {
        current,
        seq,
        as_of: DateTime::from_timestamp_millis(as_of).unwrap(),
    }
}

struct Bench {
    presence: Arc<Told>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

/// A hub that listens and reads.
async fn bench() -> Bench {
    let metrics = Arc::<Metrics>::default();
    let presence = Arc::new(Told::default());
    let hub = Arc::new(Hub::new(
        INTERVAL,
        RESYNC,
        AppKeys::default(),
        Arc::clone(&metrics),
    ));
    for is_reader in [false, true] {
        let (hub, presence) = (Arc::clone(&hub), Arc::clone(&presence));
        tokio::spawn(async move {
            if is_reader {
                hub.read(&*presence, false).await;
            } else {
                hub.listen(&*presence, false).await;
            }
        });
    }
    let bench = Bench {
        presence,
        hub,
        metrics,
    };
    bench.settle().await;
    bench
}

impl Bench {
    fn subscriber(&self, id: u64, communities: &[&str]) -> Arc<Subscriber> {
        let subscriber = Arc::new(Subscriber::new(id));
        for community in communities {
            self.hub.subscribe(&subscriber, &(*community).into());
        }
        subscriber
    }

    /// Lets the tasks do what can be done at this moment. Time stands.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&self, time: Duration) {
        sleep(time).await;
        self.settle().await;
    }

    fn resyncs(&self, reason: &str) -> u64 {
        self.metrics.resyncs.of(reason).get()
    }
}

/// What is pending for a subscriber, as counts.
fn taken(subscriber: &Subscriber) -> Vec<u64> {
    let mut counts = Vec::new();
    let next = || std::future::poll_fn(|context| subscriber.poll(context, true)).now_or_never();
    while let Some(Signal::Value(update)) = next() {
        counts.push(update.known().count.current);
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn l2_one_snapshot_is_computed_for_many() {
    let bench = bench().await;
    bench.presence.is("42", count(3, 10, 100));
    let held = bench.presence.hold.lock().await;
    let many: Vec<_> = (0..1_000).map(|id| bench.subscriber(id, &["42"])).collect();
    bench.settle().await;
    drop(held);
    bench.settle().await;
    let readings = bench.presence.readings();
    assert!(readings <= 2, "{readings}");
    let late = bench.subscriber(1_000, &["42"]);
    assert_eq!(
        bench.presence.readings(),
        readings,
        "what is known is not asked for"
    );
    for subscriber in many.iter().chain([&late]) {
        assert_eq!(taken(subscriber), [3]);
    }
}

#[tokio::test(start_paused = true)]
async fn l2_many_communities_are_read_in_one_call() {
    let bench = bench().await;
    let ids: Vec<String> = (0..300).map(|id| id.to_string()).collect();
    for (id, community) in (0..).zip(&ids) {
        bench.subscriber(id, &[community]);
    }
    bench.settle().await;
    assert_eq!(bench.presence.readings(), 1);
}

#[tokio::test(start_paused = true)]
async fn p7_what_is_published_while_the_snapshot_is_on_its_way_is_not_overwritten_by_it() {
    let bench = bench().await;
    bench.presence.is("42", count(3, 10, 100));
    let held = bench.presence.hold.lock().await;
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    bench.presence.publish("42", count(4, 11, 101));
    bench.settle().await;
    drop(held);
    bench.settle().await;
    assert_eq!(taken(&subscriber), [4]);
    bench.presence.publish("42", count(3, 10, 100));
    bench.pass(INTERVAL * 2).await;
    assert!(taken(&subscriber).is_empty(), "an old message changes nothing");
}

#[tokio::test(start_paused = true)]
async fn p6_a_change_that_was_lost_is_made_good_by_the_next_reading() {
    let bench = bench().await;
    bench.presence.is("42", count(3, 10, 100));
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    assert_eq!(taken(&subscriber), [3]);
    // No change is published for it.
    bench.presence.is("42", count(4, 11, 200));
    bench.pass(RESYNC * 2).await;
    assert_eq!(taken(&subscriber), [4]);
    assert!(bench.resyncs("periodic") >= 1);
}

#[tokio::test(start_paused = true)]
async fn p6_everything_is_read_now_and_then_however_many_newcomers_there_are() {
    let bench = bench().await;
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    taken(&subscriber);
    // No change is published for it.
    bench.presence.is("42", count(4, 11, 200));
    for id in 100..130 {
        bench.subscriber(id, &[&id.to_string()]);
        bench.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(taken(&subscriber), [4]);
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_takes_the_place_of_what_was_known_when_presence_stays_away() {
    let bench = bench().await;
    bench.presence.is("42", count(3, 10, 100));
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    assert_eq!(taken(&subscriber), [3]);

    bench.presence.stale.store(true, Ordering::Relaxed);
    bench.presence.is("42", count(1, 0, 200));
    bench.presence.is("43", count(2, 0, 200));
    bench.presence.changes.send(Event::Listening);
    // Whoever has nothing is told what there is.
    let other = bench.subscriber(2, &["43"]);
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!([taken(&subscriber), taken(&other)], [vec![], vec![2]]);
    bench.pass(STANDS).await;
    assert_eq!(taken(&subscriber), [1]);

    bench.presence.stale.store(false, Ordering::Relaxed);
    bench.presence.is("42", count(5, 20, 300));
    bench.presence.is("43", count(2, 20, 300));
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(
        [taken(&subscriber), taken(&other)],
        [[5], [2]],
        "also where only the word stale goes"
    );
}

#[tokio::test(start_paused = true)]
async fn p6_after_a_gap_in_the_feed_everything_is_read_at_once() {
    let bench = bench().await;
    let subscribers = [bench.subscriber(1, &["42"]), bench.subscriber(2, &["43"])];
    bench.settle().await;
    for subscriber in &subscribers {
        assert_eq!(taken(subscriber), [0]);
    }
    bench.presence.is("42", count(1, 10, 100));
    bench.presence.is("43", count(2, 10, 100));
    bench.presence.changes.send(Event::Listening);
    bench.pass(INTERVAL).await;
    assert_eq!([taken(&subscribers[0]), taken(&subscribers[1])], [[1], [2]]);
    assert_eq!(bench.resyncs("listening"), 1);
}

#[tokio::test(start_paused = true)]
async fn p6_a_feed_that_is_too_fast_is_made_good_by_a_reading() {
    let bench = bench().await;
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    taken(&subscriber);
    bench.presence.is("42", count(7, 1_000_000, 1_000_000));
    // Without a pause, more than the feed holds.
    for seq in 0..10_000 {
        bench.presence.publish("other", count(seq, seq, 1));
    }
    bench.pass(INTERVAL).await;
    assert_eq!(bench.resyncs("lagged"), 1);
    assert_eq!(taken(&subscriber), [7]);
}

#[tokio::test(start_paused = true)]
async fn l1_a_slow_subscriber_gets_the_latest_and_the_others_everything() {
    let bench = bench().await;
    let slow = bench.subscriber(1, &["42"]);
    let fast = bench.subscriber(2, &["42"]);
    bench.settle().await;
    let mut seen = taken(&fast);
    for current in 1..=20 {
        bench.presence.publish("42", count(current, current, 100));
        bench.pass(INTERVAL).await;
        seen.extend(taken(&fast));
    }
    assert_eq!(seen, (0..=20).collect::<Vec<_>>());
    assert_eq!(taken(&slow), [20]);
    assert_eq!(bench.metrics.values_skipped.get(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_told_at_once_and_then_its_end() {
    let bench = bench().await;
    let subscriber = bench.subscriber(1, &["42"]);
    bench.settle().await;
    taken(&subscriber);
    bench.pass(INTERVAL).await;
    let mut seen = Vec::new();
    for current in 1..=50 {
        bench.presence.publish("42", count(current, current, 100));
        bench.settle().await;
        seen.extend(taken(&subscriber));
    }
    assert_eq!(seen, [1]);
    bench.pass(INTERVAL).await;
    assert_eq!(taken(&subscriber), [50]);
}

#[tokio::test(start_paused = true)]
async fn while_presence_is_away_it_is_asked_again_and_again() {
    let bench = bench().await;
    bench.presence.away.store(true, Ordering::Relaxed);
    let subscriber = bench.subscriber(1, &["42"]);
    bench.pass(Duration::from_secs(10)).await;
    assert!(taken(&subscriber).is_empty());
    assert!((3..30).contains(&bench.presence.readings()));
    bench.presence.away.store(false, Ordering::Relaxed);
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(taken(&subscriber), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_away_keeps_nobody_of_the_others_waiting() {
    let bench = bench().await;
    bench.presence.elsewhere_away.store(true, Ordering::Relaxed);
    let waits = bench.subscriber(1, &["x1"]);
    let first = bench.subscriber(2, &["42"]);
    bench.settle().await;
    let second = bench.subscriber(3, &["43"]);
    bench.settle().await;
    assert_eq!([taken(&first), taken(&second)], [[0], [0]], "at once");
    assert!(taken(&waits).is_empty());
    bench.presence.elsewhere_away.store(false, Ordering::Relaxed);
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(taken(&waits), [0]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_listens_to_is_forgotten() {
    let bench = bench().await;
    let subscriber = bench.subscriber(1, &["42"]);
    let other = bench.subscriber(2, &["42"]);
    bench.settle().await;
    bench.hub.unsubscribe(&subscriber, &"42".into());
    assert_eq!(bench.hub.lock().topics.len(), 1);
    bench.hub.unsubscribe(&other, &"42".into());
    assert!(bench.hub.lock().topics.is_empty());
    taken(&subscriber);
    bench.presence.publish("42", count(5, 5, 5));
    bench.pass(INTERVAL).await;
    assert!(taken(&subscriber).is_empty());
    let before = bench.presence.readings();
    bench.pass(RESYNC * 2).await;
    assert_eq!(bench.presence.readings(), before, "there is nothing to read");
}
