//! Tests of what a subscriber holds, and of what its task is told.

use std::collections::HashMap;
use std::future::poll_fn;

use chrono::DateTime;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::key_type::AppKeys;
use crate::live::topic::LiveCount;
use crate::presence::Count;

fn update(community: &str, seq: u64) -> Arc<Update> {
    let count = Count {
        current: seq,
        seq,
        as_of: DateTime::UNIX_EPOCH,
    };
    Arc::new(Update::new(
        community.into(),
        LiveCount { count, stale: false },
        &AppKeys::default(),
    ))
}

fn subscriber(communities: &[&str]) -> Subscriber {
    let subscriber = Subscriber::new(1);
    for community in communities {
        assert!(subscriber.add(&(*community).into()));
    }
    subscriber
}

async fn next(subscriber: &Subscriber) -> Signal {
    poll_fn(|context| subscriber.poll(context, true)).await
}

fn is_complete(subscriber: &Subscriber) -> bool {
    poll_fn(|context| subscriber.poll_complete(context))
        .now_or_never()
        .is_some()
}

#[test]
fn l1_a_slow_subscriber_gets_the_latest_value_and_no_other() {
    let subscriber = subscriber(&["42"]);
    assert_eq!(subscriber.offer(&update("42", 1)), Offered::Pending);
    for seq in 2..100 {
        assert_eq!(subscriber.offer(&update("42", seq)), Offered::Replaced);
    }
    assert_eq!(subscriber.take().unwrap().seq(), 99);
    assert!(subscriber.take().is_none());
}

#[test]
fn p7_a_value_that_is_not_newer_is_ignored_also_after_it_was_taken() {
    let subscriber = subscriber(&["42"]);
    subscriber.offer(&update("42", 5));
    subscriber.take();
    for seq in [0, 4, 5] {
        assert_eq!(subscriber.offer(&update("42", seq)), Offered::Ignored);
    }
    assert_eq!(subscriber.offer(&update("42", 6)), Offered::Pending);
}

#[test]
fn a_busy_community_does_not_keep_the_others_waiting() {
    let subscriber = subscriber(&["1", "2", "3"]);
    for community in ["1", "2", "3"] {
        subscriber.offer(&update(community, 1));
    }
    let mut taken = Vec::new();
    for seq in 2..5 {
        let next = subscriber.take().unwrap();
        taken.push(next.scope().to_string());
        subscriber.offer(&update("1", seq));
    }
    assert_eq!(taken, ["1", "2", "3"]);
}

#[test]
fn what_was_unsubscribed_from_is_not_told() {
    let subscriber = subscriber(&["1", "2"]);
    subscriber.offer(&update("1", 1));
    assert!(subscriber.remove(&"1".into()));
    assert!(subscriber.take().is_none());
    assert_eq!(subscriber.offer(&update("1", 2)), Offered::Ignored);
    assert!(!subscriber.add(&"2".into()));
    assert_eq!(subscriber.subscriptions(), ["2".into()]);
}

#[test]
fn a_community_that_nobody_was_ever_in_has_a_snapshot_too() {
    let subscriber = subscriber(&["42"]);
    assert!(!is_complete(&subscriber));
    assert_eq!(subscriber.offer(&update("42", 0)), Offered::Pending);
    assert!(is_complete(&subscriber));
}

#[tokio::test]
async fn a_reader_that_waits_is_woken() {
    let subscriber = Arc::new(subscriber(&["42"]));
    let reader = tokio::spawn({
        let subscriber = Arc::clone(&subscriber);
        async move { next(&subscriber).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(subscriber.offer(&update("42", 1)), Offered::Pending);
    assert!(matches!(reader.await.unwrap(), Signal::Value(update) if update.seq() == 1));
}

#[tokio::test]
async fn the_end_comes_before_values_and_keeps_its_first_reason() {
    let subscriber = subscriber(&["42"]);
    subscriber.offer(&update("42", 1));
    subscriber.close(Close::SessionEnded);
    subscriber.close(Close::GoingAway);
    let first = next(&subscriber).now_or_never();
    assert!(
        matches!(first, Some(Signal::Close(Close::SessionEnded))),
        "{first:?}"
    );
}

#[tokio::test]
async fn l1_values_wait_for_a_client_that_cannot_take_them() {
    let subscriber = subscriber(&["42"]);
    subscriber.offer(&update("42", 1));
    subscriber.session_changed();
    let next = || poll_fn(|context| subscriber.poll(context, false)).now_or_never();
    assert!(
        matches!(next(), Some(Signal::SessionChanged)),
        "all else does not wait"
    );
    assert!(next().is_none());
    subscriber.offer(&update("42", 2));
    let latest = self::next(&subscriber).now_or_never();
    assert!(matches!(latest, Some(Signal::Value(update)) if update.seq() == 2));
}

#[tokio::test]
async fn changes_of_a_session_are_told_once() {
    let subscriber = subscriber(&[]);
    subscriber.session_changed();
    subscriber.session_changed();
    assert!(matches!(
        next(&subscriber).now_or_never(),
        Some(Signal::SessionChanged)
    ));
    assert!(next(&subscriber).now_or_never().is_none());
}

proptest! {
    #[test]
    fn l1_p7_what_is_taken_rises_and_ends_with_the_newest(
        steps in prop::collection::vec((0..3_usize, prop::option::of(0..20_u64)), 1..200)
    ) {
        let names = ["1", "2", "3"];
        let subscriber = subscriber(&names);
        let mut newest: HashMap<String, u64> = HashMap::new();
        let mut taken: HashMap<String, Vec<u64>> = HashMap::new();
        let mut take = || {
            let update = subscriber.take()?;
            taken.entry(update.scope().to_string()).or_default().push(update.seq());
            Some(())
        };
        for (community, seq) in steps {
            match seq {
                Some(seq) => {
                    subscriber.offer(&update(names[community], seq));
                    let newest = newest.entry(names[community].to_owned()).or_default();
                    *newest = seq.max(*newest);
                }
                None => {
                    take();
                }
            }
        }
        while take().is_some() {}
        for (community, newest) in newest {
            let taken = &taken[&community];
            prop_assert!(taken.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(*taken.last().unwrap(), newest);
        }
    }
}
