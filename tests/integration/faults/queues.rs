//! Queues are bounded (promise 6): what they cannot hold while a server hangs is dropped and counted, and
//! what they hold is recorded.

use super::{Fragile, Made, dropped, endlessly_patient, queued, sees_with_token, unknown_token};
use crate::support::world::Wanted;

/// Thirty views of a known member while the database hangs.
async fn what_the_writer_cannot_hold_is_dropped(record: &str, most: f64, of: &str) {
    let fragile = Fragile::start(Wanted {
        record: record.into(),
        ..endlessly_patient()
    })
    .await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(world).await;

    fragile.database.hang();
    for _ in 0..30 {
        alice.sees("/about/").await;
    }
    assert_eq!(
        world.sidecar.metric("headcount_page_views_counted_total").await,
        31.0
    );
    let drops = world.sidecar.count(&dropped("writer_queue_full")).await;
    let held = world.sidecar.count(&queued("writer")).await;
    assert_eq!(drops + held, 30);
    let most_held = world.sidecar.metric(of).await;
    assert!(most_held <= most, "{of} is {most_held}");

    fragile.database.resume().await;
    let applied = world.wait_for_views(1 + held).await.len();
    assert_eq!(applied + drops, 31);
    assert_eq!(world.sidecar.count(&dropped("writer_queue_full")).await, drops);
    alice.sees("/about/").await;
    assert_eq!(world.wait_for_views(applied + 1).await.len(), applied + 1);
}

#[tokio::test]
async fn promise_6_a_full_queue_drops_and_counts() {
    // Five in the queue, two in the batch at hand.
    let record = "queue_views = 5\nbatch_views = 2";
    what_the_writer_cannot_hold_is_dropped(record, 7.0, &queued("writer")).await;
}

#[tokio::test]
async fn promise_6_a_queue_full_by_bytes_drops_and_counts() {
    let record = "queue_bytes = \"4KiB\"\nbatch_bytes = \"4KiB\"";
    what_the_writer_cannot_hold_is_dropped(record, 4096.0, "headcount_recorder_queue_bytes").await;
}

#[tokio::test]
async fn promise_6_views_of_unknown_visitors_wait_in_a_bounded_queue() {
    // So many are looked up at one time, and so many wait.
    const HELD: f64 = 256.0 + 5.0;
    let fragile = Fragile::start(Wanted {
        record: "queue_views = 5\nbatch_views = 5".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &fragile.world;
    let stranger = world.stranger();
    fragile.database.hang();
    for _ in 0..300 {
        sees_with_token(&stranger, &unknown_token(), "/about/").await;
    }
    let drops = world.sidecar.metric(&dropped("recorder_queue_full")).await;
    assert!(drops >= 300.0 - HELD, "only {drops} were dropped");
    assert_eq!(world.sidecar.metric(&queued("recorder")).await, 300.0 - drops);
    fragile.database.resume().await;
    let nobodys = "headcount_page_views_not_counted_total{reason=\"anonymous\"}";
    world
        .sidecar
        .wait_for_metric(nobodys, |views| views == 300.0 - drops)
        .await;
    world.sidecar.wait_until_idle().await;
}

#[tokio::test]
async fn promise_6_touches_wait_in_a_bounded_queue_and_do_not_hold_up_the_rows() {
    let fragile = Fragile::start(Wanted {
        record: "queue_views = 5\nbatch_views = 1".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &fragile.world;
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(world).await;

    fragile.redis.hang();
    for _ in 0..30 {
        made.sees("alice", &alice, &[&community]).await;
        // One by one, so that only presence has more than it can hold.
        world
            .sidecar
            .wait_for_metric(&queued("writer"), |views| views == 0.0)
            .await;
    }
    made.are_exactly(&world.page_views().await);
    let drops = world.sidecar.metric(&dropped("presence_queue_full")).await;
    // Five in the queue, and as many taken from it together.
    assert!(drops >= 20.0, "only {drops} touches were dropped");
    fragile.redis.resume().await;
    world.sidecar.wait_until_idle().await;
    let touched = world.sidecar.metric("headcount_presence_touches_total").await;
    assert_eq!(touched + drops, 31.0, "each touch was made or counted as dropped");
}
