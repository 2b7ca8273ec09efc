//! What waits is bounded (promise 6), in memory and on disk: what does not fit is dropped and counted, and what
//! fits is recorded.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use reqwest::Method;

use super::{
    Fragile, Made, all_dropped, dropped, drops_in, endlessly_patient, queued, sees_with_token, text,
    unknown_token,
};
use crate::support::member::FIREFOX;
use crate::support::postgres::Postgres;
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

/// A world whose spool has so much room, and takes at most 4 KiB of views at a time.
fn with_a_spool_of(max_bytes: &str) -> Wanted {
    let wanted = endlessly_patient();
    Wanted {
        record: "batch_bytes = \"4KiB\"".into(),
        config: format!("[spool]\nmax_bytes = \"{max_bytes}\"\n{}", wanted.config),
        ..wanted
    }
}

/// Has pages seen, one after the other, until one of the views is dropped; how many.
async fn until_dropped(sidecar: &Sidecar, dropped: &str, visit: impl AsyncFn()) -> usize {
    let mut seen = 0;
    in_time("a view that is dropped", async {
        while sidecar.metric(dropped).await == 0.0 {
            visit().await;
            seen += 1;
        }
    })
    .await;
    seen
}

#[tokio::test]
async fn w12_a_full_spool_drops_and_counts_and_recording_resumes_by_itself() {
    let fragile = Fragile::start(with_a_spool_of("4KiB")).await;
    let world = &fragile.world;
    let sidecar = &world.sidecar;
    let (alice, _) = Made::first(world).await;

    fragile.database.hang();
    let seen = until_dropped(sidecar, &dropped("spool_full"), async || {
        alice.sees("/about/").await;
    })
    .await;
    sidecar
        .wait_for_metric(&queued("writer"), |views| views == 0.0)
        .await;
    let drops = sidecar.count(&dropped("spool_full")).await;
    let held = sidecar.count("headcount_spool_views").await;
    assert_eq!(drops + held, seen);
    let limit = sidecar.metric("headcount_spool_limit_bytes").await;
    assert_eq!(limit, 4096.0);
    let (_, ready) = text(&sidecar.admin_url("/readyz")).await;
    assert!(ready.contains("the spool is full"), "{ready}");

    fragile.database.resume().await;
    let applied = world.wait_for_views(1 + held).await.len();
    assert_eq!(applied, 1 + held);
    alice.sees("/about/").await;
    assert_eq!(world.wait_for_views(applied + 1).await.len(), applied + 1);
    assert_eq!(all_dropped(world).await, f64::from(u32::try_from(drops).unwrap()));
}

#[tokio::test]
async fn w12_a_spool_that_cannot_be_written_drops_what_memory_cannot_hold_and_resumes_by_itself() {
    let wanted = Wanted {
        record: "queue_views = 5\nbatch_views = 5".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let sidecar = &world.sidecar;
    let spool: PathBuf = sidecar.directory().join("spool");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(&world).await;

    // The folder is gone, and in its place is something that no file can be made in.
    std::fs::remove_dir_all(&spool).unwrap();
    std::fs::write(&spool, "").unwrap();
    let unavailable = dropped("spool_unavailable");
    let more = until_dropped(sidecar, &unavailable, async || {
        alice.sees("/about/").await;
    })
    .await;
    let seen = 1 + more;
    assert_eq!(sidecar.metric("headcount_spool_up").await, 0.0);
    let (status, ready) = text(&sidecar.admin_url("/readyz")).await;
    assert_eq!(status, 200);
    // The folder, what becomes of page views, and the remedy: also in the log, once.
    let place = format!("spool.dir: {}: ", spool.display());
    let remedy = "make it a folder of the user that runs headcount (mode 0700)";
    let is_told = |text: &str| {
        let mut lines = text.lines();
        lines.any(|line| {
            line.contains("in memory (record.queue_bytes)") && line.contains(&place) && line.ends_with(remedy)
        })
    };
    assert!(ready.contains("the spool cannot be written"), "{ready}");
    assert!(is_told(&ready), "{ready}");
    sidecar.says("page views cannot be put into the spool");
    let log = sidecar.log();
    assert!(is_told(&log), "{log}");
    assert_eq!(
        log.matches("page views cannot be put into the spool").count(),
        1,
        "{log}"
    );

    std::fs::remove_file(&spool).unwrap();
    std::fs::DirBuilder::new().mode(0o700).create(&spool).unwrap();
    sidecar
        .wait_for_metric("headcount_spool_up", |up| up == 1.0)
        .await;
    sidecar.wait_until_idle().await;
    sidecar.says("the spool can be written again");
    let log = sidecar.log();
    assert_eq!(log.matches("the spool can be written again").count(), 1, "{log}");
    let (_, ready) = text(&sidecar.admin_url("/readyz")).await;
    assert_eq!(ready, "ok\n");
    let drops = sidecar.count(&unavailable).await;
    alice.sees("/about/").await;
    // What memory held is there, and what comes from now on.
    assert_eq!(
        world.wait_for_views(seen + 1 - drops).await.len(),
        seen + 1 - drops
    );
    let metrics = sidecar.metrics().await;
    assert_eq!(drops_in(&metrics), metrics[&unavailable]);
}

#[tokio::test]
async fn i1_views_with_made_up_tokens_wait_for_the_database_and_turn_out_to_be_nobodys() {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let stranger = world.stranger();
    fragile.database.hang();
    // More than are looked up at a time.
    for _ in 0..300 {
        sees_with_token(&stranger, &unknown_token(), "/about/").await;
    }
    world
        .sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 300.0)
        .await;
    fragile.database.resume().await;
    let nobodys = "headcount_page_views_not_counted_total{reason=\"no_session\"}";
    world
        .sidecar
        .wait_for_metric(nobodys, |views| views == 300.0)
        .await;
    world.sidecar.wait_until_idle().await;
    assert!(world.page_views().await.is_empty());
    assert_eq!(all_dropped(world).await, 0.0);
}

/// Their lookups share statements, so that a database which is far away keeps up with them.
#[tokio::test]
async fn i14_made_up_tokens_neither_fill_the_spool_nor_stand_in_the_way_of_members() {
    let fragile = Fragile::start(Wanted {
        // Each view is a row of its own.
        record: "batch_views = 1".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    let stranger = world.stranger();
    fragile.database.is_far(Duration::from_millis(10));
    let reports = |number: usize| {
        let token = match number {
            1_500 => alice.cookie(),
            _ => format!("session_id={}", unknown_token()),
        };
        let request = stranger
            .request(Method::POST, "/api/visits")
            .header("origin", world.sidecar.url(""))
            .header("user-agent", FIREFOX)
            .header("cookie", token)
            .body("{\"url\": \"/about/\"}");
        async { assert_eq!(request.send().await.expect("an answer").status(), 204) }
    };
    stream::iter(0..3_000).for_each_concurrent(128, reports).await;
    let views = world.wait_for_views(1).await;
    assert_eq!((views.len(), &views[0]["username"]), (1, &"alice".into()));
    let metrics = world.sidecar.metrics().await;
    let nobodys = metrics["headcount_page_views_not_counted_total{reason=\"no_session\"}"];
    assert_eq!(nobodys + metrics[&dropped("unknown_token")], 2_999.0);
    assert_eq!(drops_in(&metrics), metrics[&dropped("unknown_token")]);
}

#[tokio::test]
async fn i1_made_up_tokens_take_a_part_of_the_spool_and_leave_room_for_members() {
    // Their part is a quarter, which one group may exceed: far from all.
    let fragile = Fragile::start(with_a_spool_of("64KiB")).await;
    let world = &fragile.world;
    let (alice, mut made) = Made::first(world).await;
    fragile.database.hang();
    let unavailable = dropped("session_unavailable");
    until_dropped(&world.sidecar, &unavailable, async || {
        sees_with_token(&world.stranger(), &unknown_token(), "/about/").await;
    })
    .await;
    made.sees("alice", &alice, &["/about/"]).await;
    fragile.database.resume().await;
    made.are_recorded(world).await;
    // Of the made-up ones only: those that found no room in their part of the spool, and those that were too many
    // before. The spool itself was never full.
    let metrics = world.sidecar.metrics().await;
    let made_up = metrics[&unavailable] + metrics[&dropped("unknown_token")];
    assert_eq!(drops_in(&metrics), made_up);
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

    let others: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO communities_community (slug, name, is_private)
         SELECT 'other-' || n, 'Other', false FROM generate_series(1, 60) AS n RETURNING id",
    )
    .fetch_all(&Postgres::shared().pool(world.database.name()))
    .await
    .expect("communities");

    fragile.redis.hang();
    for (views, other) in (2..).zip(others) {
        made.sees("alice", &alice, &[&format!("/communities/{other}/")])
            .await;
        // One by one, so that only presence has more than it can hold.
        wait_until_applied(world, views).await;
    }
    made.are_exactly(&world.page_views().await);
    let drops = world
        .sidecar
        .metric("headcount_presence_dropped_total{reason=\"queue_full\"}")
        .await;
    // At most sixteen calls, five touches that wait for one, and five in the queue.
    assert!(drops >= 34.0, "only {drops} touches were dropped");
    fragile.redis.resume().await;
    world.sidecar.wait_until_idle().await;
    let touched = world.sidecar.metric("headcount_presence_touches_total").await;
    assert_eq!(touched + drops, 61.0, "each touch was made or counted as dropped");
}

async fn wait_until_applied(world: &World, views: u32) {
    world
        .sidecar
        .wait_for_metric("headcount_applied_views_total", |applied| {
            applied == f64::from(views)
        })
        .await;
}
