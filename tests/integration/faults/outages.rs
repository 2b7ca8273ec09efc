//! Redis and the database stop or hang while members browse, and come back.

use reqwest::{Method, StatusCode};

use super::{
    Fragile, Made, all_dropped, endlessly_patient, is_told_from_memory, is_unavailable, queued,
    sees_with_token, shows_visitors, text, unknown_token,
};
use crate::support::member::Member;
use crate::support::proxy::Proxy;
use crate::support::service::{in_time, wait_until};
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
        if database.is_some() {
            is_unavailable(&alice, &visitors).await;
            // Whose token this is cannot be found out.
            is_unavailable(&world.member("bob").await, &visitors).await;
        } else {
            is_told_from_memory(&alice, &visitors, 2).await;
            is_told_from_memory(&world.member("bob").await, &visitors, 2).await;
        }
    };
    in_time("the site", meanwhile).await;
    assert_eq!(text(&world.sidecar.admin_url("/readyz")).await.0, 200);
    if database.is_some() && redis.is_some() {
        // Noticed, though no statement was ever given up.
        let up = "headcount_database_up";
        world.sidecar.wait_for_metric(up, |up| up == 0.0).await;
    }

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
async fn an_outage_shows_in_the_metrics_and_nothing_is_lost() {
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
    made.sees("alice", &alice, &["/c/django/"]).await;
    for _ in 0..5 {
        sees_with_token(&world.stranger(), &unknown_token(), "/about/").await;
    }
    // Three of alice, one of hers whose community is not known, five of nobody knows whom.
    sidecar
        .wait_for_metric("headcount_spool_views", |views| views == 9.0)
        .await;
    sidecar
        .wait_for_metric("headcount_apply_retries_total{class=\"connection\"}", |retries| {
            retries > 0.0
        })
        .await;
    // In the community and on the site, and perhaps on the site again.
    sidecar
        .wait_for_metric("headcount_presence_touch_failures_total", |failures| {
            failures >= 2.0
        })
        .await;
    sidecar
        .wait_for_metric("headcount_redis_errors_total", |errors| errors > 0.0)
        .await;
    for up in ["headcount_database_up", "headcount_redis_up"] {
        sidecar.wait_for_metric(up, |up| up == 0.0).await;
    }
    assert_eq!(sidecar.metric(&queued("writer")).await, 0.0);
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
    assert_eq!(sidecar.metric("headcount_page_views_counted_total").await, 6.0);
    assert_eq!(sidecar.metric("headcount_applied_views_total").await, 6.0);
    assert_eq!(sidecar.metric("headcount_spool_oldest_age_seconds").await, 0.0);
    let nobodys = "headcount_page_views_not_counted_total{reason=\"no_session\"}";
    assert!(sidecar.metric(nobodys).await >= 5.0);
    assert_eq!(all_dropped(world).await, 0.0);
}

#[tokio::test]
async fn w11_that_nothing_reaches_the_tables_shows_while_the_site_answers() {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let sidecar = &world.sidecar;
    let (alice, mut made) = Made::first(world).await;
    let (age, applied) = (
        "headcount_spool_oldest_age_seconds",
        "headcount_last_apply_timestamp_seconds",
    );
    let last = sidecar.metric(applied).await;
    assert!(last > 0.0);
    assert_eq!(sidecar.metric(age).await, 0.0);

    fragile.database.hang();
    made.sees("alice", &alice, &["/about/"]).await;
    // It grows though nothing happens.
    let first = sidecar.wait_for_metric(age, |age| age > 0.0).await;
    sidecar.wait_for_metric(age, |age| age > first + 1.0).await;
    assert_eq!(sidecar.metric(applied).await, last);
    fragile.database.resume().await;
    made.are_recorded(world).await;
    sidecar.wait_for_metric(age, |age| age == 0.0).await;
    assert!(sidecar.metric(applied).await > last);
}

/// However many spools of processes that are gone there are to drain.
#[tokio::test]
async fn w9_an_outage_is_said_once_however_many_spools_wait() {
    let wanted = Wanted {
        database: "acquire_timeout = \"100ms\"".into(),
        ..Wanted::usual()
    };
    let mut fragile = Fragile::start(wanted).await;
    let alice = fragile.world.member("alice").await;
    let mut made = Made::default();
    fragile.database.refuse().await;
    let mut logged_before = 0;
    for spools in [0.0, 1.0, 2.0] {
        let sidecar = &mut fragile.world.sidecar;
        if spools > 0.0 {
            sidecar.kill();
            logged_before = sidecar.log().len();
            sidecar.restart();
        }
        sidecar
            .wait_for_metric("headcount_spools_adopted_total", |adopted| adopted == spools)
            .await;
        made.sees("alice", &alice, &["/about/"]).await;
        let waiting = spools + 1.0;
        sidecar
            .wait_for_metric("headcount_spool_views", |views| views == waiting)
            .await;
    }
    let sidecar = &fragile.world.sidecar;
    let retries = "headcount_apply_retries_total{class=\"connection\"}";
    let before = sidecar.metric(retries).await;
    sidecar.wait_for_metric(retries, |now| now >= before + 3.0).await;
    // It may be told before the process serves.
    let of_the_last = || sidecar.log()[logged_before..].to_owned();
    let told = || {
        of_the_last()
            .matches("the database does not take page views")
            .count()
    };
    // The line is written a moment later.
    wait_until("the outage to be told", || told() > 0);
    assert_eq!(told(), 1, "{}", of_the_last());
    fragile.database.resume().await;
    made.are_recorded(&fragile.world).await;
}
