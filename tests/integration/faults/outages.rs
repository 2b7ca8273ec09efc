//! Redis and the database stop or hang while members browse, and come back.

use reqwest::{Method, StatusCode};

use super::{
    Fragile, Made, all_dropped, dropped, endlessly_patient, is_unavailable, queued, sees_with_token,
    shows_visitors, text, unknown_token,
};
use crate::support::member::Member;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::in_time;
use crate::support::world::{Wanted, World};

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Connections are cut and refused.
    Stops,
    /// Connections stay, and are taken; nothing is answered.
    Hangs,
}

impl Fault {
    async fn happens_to(self, server: &Proxy) {
        match self {
            Self::Stops => server.refuse().await,
            Self::Hangs => server.hang(),
        }
    }
}

/// What visitors of all kinds get to see: a member known to the sidecar, one who has just signed in, and a
/// stranger.
async fn browse(world: &World, alice: &Member, made: &mut Made) -> Vec<(StatusCode, String)> {
    let community = world.community("rust");
    let views = [
        &*community,
        &format!("{community}posts/1/"),
        "/c/rust/",
        "/about/",
    ];
    let others = [
        "/nowhere/",
        "/redirect",
        "/status/503",
        "/healthz",
        "/api/communities/",
    ];
    let carol = world.member("carol").await;
    let mut seen = Vec::new();
    for (name, visitor) in [("alice", alice), ("carol", &carol), ("", &world.stranger())] {
        for path in views.iter().chain(&others) {
            seen.push(answer(visitor.navigation(path)).await);
        }
        for method in [Method::HEAD, Method::POST] {
            seen.push(answer(visitor.request(method, "/upload").body("text")).await);
        }
        if !name.is_empty() {
            for path in views {
                made.note(name, path);
            }
        }
    }
    seen
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, String) {
    let response = request.send().await.expect("an answer");
    (response.status(), response.text().await.expect("text"))
}

/// More lookups at once than connections and places in line.
async fn a_crowd_with_made_up_cookies(world: &World) {
    let crowd = (0..60).map(|_| async {
        sees_with_token(&world.stranger(), &unknown_token(), "/about/").await;
    });
    futures_util::future::join_all(crowd).await;
}

async fn the_site_answers_as_before(database: Option<Fault>, redis: Option<Fault>) {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let visitors = world.visitors("rust", "");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    let before = browse(world, &alice, &mut made).await;
    made.are_recorded(world).await;
    shows_visitors(&alice, &visitors, 2).await;

    if let Some(fault) = database {
        fault.happens_to(&fragile.database).await;
    }
    if let Some(fault) = redis {
        fault.happens_to(&fragile.redis).await;
    }
    let meanwhile = async {
        a_crowd_with_made_up_cookies(world).await;
        assert_eq!(browse(world, &alice, &mut made).await, before);
        is_unavailable(&alice, &visitors).await;
        if database.is_some() {
            // Whose token this is cannot be found out.
            is_unavailable(&world.member("bob").await, &visitors).await;
        }
    };
    in_time("the site", meanwhile).await;
    assert_eq!(text(&world.sidecar.admin_url("/readyz")).await.0, 200);

    fragile.database.resume().await;
    fragile.redis.resume().await;
    fragile.recovered().await;
    // Nothing gave up meanwhile, so nothing is lost.
    made.are_recorded(world).await;
    browse(world, &alice, &mut made).await;
    made.are_recorded(world).await;
    assert_eq!(all_dropped(world).await, 0.0);
    shows_visitors(&alice, &visitors, 2).await;
}

#[tokio::test]
async fn promise_1_the_site_answers_as_before_while_redis_is_stopped() {
    the_site_answers_as_before(None, Some(Fault::Stops)).await;
}

#[tokio::test]
async fn promise_1_the_site_answers_as_before_while_redis_hangs() {
    the_site_answers_as_before(None, Some(Fault::Hangs)).await;
}

#[tokio::test]
async fn promise_1_the_site_answers_as_before_while_the_database_is_stopped() {
    the_site_answers_as_before(Some(Fault::Stops), None).await;
}

#[tokio::test]
async fn promise_1_the_site_answers_as_before_while_the_database_hangs() {
    the_site_answers_as_before(Some(Fault::Hangs), None).await;
}

#[tokio::test]
async fn promise_1_the_site_answers_as_before_while_redis_and_database_hang() {
    the_site_answers_as_before(Some(Fault::Hangs), Some(Fault::Hangs)).await;
}

#[tokio::test]
async fn an_outage_shows_in_the_metrics_and_what_is_dropped_is_counted_by_reason() {
    let fragile = Fragile::start(Wanted {
        database: "acquire_timeout = \"1s\"".into(),
        session: "cache_ttl = \"1h\"".into(),
        ..Wanted::usual()
    })
    .await;
    let world = &fragile.world;
    let sidecar = &world.sidecar;
    let community = world.community("rust");
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(world).await;
    fragile.recovered().await;

    fragile.database.refuse().await;
    fragile.redis.hang();
    made.sees("alice", &alice, &[&community, "/about/", &community])
        .await;
    // The slug is not known yet.
    alice.sees("/c/django/").await;
    for _ in 0..5 {
        sees_with_token(&world.stranger(), &unknown_token(), "/about/").await;
    }
    let session_unavailable = dropped("session_unavailable");
    sidecar
        .wait_for_metric(&session_unavailable, |drops| drops == 5.0)
        .await;
    let community_unavailable = dropped("community_unavailable");
    sidecar
        .wait_for_metric(&community_unavailable, |drops| drops == 1.0)
        .await;
    sidecar
        .wait_for_metric("headcount_apply_retries_total{class=\"connection\"}", |retries| {
            retries > 0.0
        })
        .await;
    sidecar
        .wait_for_metric("headcount_presence_touch_failures_total", |failures| {
            failures == 2.0
        })
        .await;
    sidecar
        .wait_for_metric("headcount_redis_errors_total", |errors| errors > 0.0)
        .await;
    assert_eq!(sidecar.metric("headcount_database_up").await, 0.0);
    assert_eq!(sidecar.metric("headcount_redis_up").await, 0.0);
    assert_eq!(sidecar.metric(&queued("writer")).await, 3.0);
    let (status, ready) = text(&sidecar.admin_url("/readyz")).await;
    assert_eq!(status, 200);
    assert!(ready.contains("the database does not answer"), "{ready}");
    assert!(ready.contains("redis does not answer"), "{ready}");
    assert_eq!(text(&sidecar.admin_url("/livez")).await.0, 200);

    fragile.database.resume().await;
    fragile.redis.resume().await;
    fragile.recovered().await;
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(world).await;
    assert_eq!(sidecar.metric("headcount_page_views_counted_total").await, 5.0);
    assert_eq!(sidecar.metric("headcount_applied_views_total").await, 5.0);
    assert_eq!(all_dropped(world).await, 6.0);
}

#[tokio::test]
async fn p14_visitors_come_back_after_redis_was_killed_and_restarted_empty() {
    let mut server = RedisServer::start(&[]);
    let wanted = Wanted {
        redis: Some(server.url()),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let visitors = world.visitors("rust", "");
    let community = world.community("rust");
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community]).await;
    made.sees("bob", &bob, &[&community]).await;
    shows_visitors(&alice, &visitors, 2).await;

    server.kill();
    made.sees("alice", &alice, &[&community]).await;
    is_unavailable(&alice, &visitors).await;
    server.restart();
    world
        .sidecar
        .wait_for_metric("headcount_redis_up", |up| up == 1.0)
        .await;
    made.sees("alice", &alice, &[&community]).await;
    made.sees("bob", &bob, &[&community]).await;
    shows_visitors(&alice, &visitors, 2).await;
    made.are_recorded(&world).await;
}

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
    let drops = world.sidecar.metric(&dropped("writer_queue_full")).await;
    let held = world.sidecar.count(&queued("writer")).await;
    assert_eq!(drops + held as f64, 30.0);
    let most_held = world.sidecar.metric(of).await;
    assert!(most_held <= most, "{of} is {most_held}");

    fragile.database.resume().await;
    let applied = world.wait_for_views(1 + held).await.len();
    assert_eq!(applied as f64 + drops, 31.0);
    assert_eq!(all_dropped(world).await, drops);
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
