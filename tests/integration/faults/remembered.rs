//! Members whose sessions are past their time in the cache go on being recorded while the database is away.
//! Nobody is answered anything for it.

use chrono::{DateTime, Utc};

use super::{Fragile, Made, all_dropped, is_unavailable, lookups, shows_visitors};
use crate::support::postgres::Postgres;
use crate::support::world::Wanted;

/// Nothing stays in the cache, and a database that is away is soon given up.
fn forgetful() -> Wanted {
    Wanted {
        session: "cache_ttl = \"0s\"".into(),
        database: "acquire_timeout = \"200ms\"".into(),
        ..Wanted::usual()
    }
}

#[tokio::test]
async fn members_are_recorded_past_their_time_in_the_cache_while_the_database_is_stopped() {
    let fragile = Fragile::start(forgetful()).await;
    let world = &fragile.world;
    let sidecar = &world.sidecar;
    let (rust, visitors) = (world.community("rust"), world.visitors("rust", ""));
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(world).await;
    let count = world.visitors("rust", "/count");
    assert_eq!(alice.json(&count).await["current_visitors"], 0);

    fragile.database.refuse().await;
    // The first one finds out; what is only late is looked up later.
    made.sees("alice", &alice, &["/about/"]).await;
    let unavailable = lookups("unavailable");
    sidecar
        .wait_for_metric(&unavailable, |lookups| lookups >= 1.0)
        .await;
    made.sees("alice", &alice, &[&rust, "/about/", &rust, &rust])
        .await;
    let remembered = lookups("remembered");
    sidecar.wait_for_metric(&remembered, |views| views >= 4.0).await;
    // Presence needs no database.
    let touches = "headcount_presence_touches_total";
    sidecar.wait_for_metric(touches, |touches| touches >= 1.0).await;
    // The community is known, and the count is in Redis: who asks is what is not known for sure.
    let before = sidecar.metric(&remembered).await;
    is_unavailable(&alice, &count).await;
    assert_eq!(sidecar.metric(&remembered).await, before);

    fragile.database.resume().await;
    fragile.recovered().await;
    shows_visitors(&alice, &visitors, 1).await;
    made.are_recorded(world).await;
    assert_eq!(all_dropped(world).await, 0.0);
}

#[tokio::test]
async fn nobody_is_recorded_past_the_expiry_of_the_session() {
    let fragile = Fragile::start(forgetful()).await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    alice.sees("/about/").await;
    world.wait_for_views(1).await;
    let pool = Postgres::shared().pool(world.database.name());
    let expires_at: DateTime<Utc> = sqlx::query_scalar(
        "UPDATE accounts_usersession SET expires_at = now() + interval '5 seconds' RETURNING expires_at",
    )
    .fetch_one(&pool)
    .await
    .expect("a session");
    alice.sees("/about/").await;
    world.wait_for_views(2).await;

    fragile.database.refuse().await;
    let nobodys = "headcount_page_views_not_counted_total{reason=\"session_ended\"}";
    let before = world.sidecar.count(nobodys).await;
    let mut seen = 2;
    while Utc::now() < expires_at {
        alice.sees("/about/").await;
        seen += 1;
    }
    alice.sees("/about/").await;
    seen += 1;
    fragile.database.resume().await;
    fragile.recovered().await;
    world.sidecar.wait_until_idle().await;
    let counted = world.sidecar.count("headcount_applied_views_total").await;
    let nobodys = world.sidecar.count(nobodys).await - before;
    assert!(nobodys >= 1, "the last view was after the end");
    assert_eq!(counted + nobodys, seen);
    for view in world.wait_for_views(counted).await {
        let at = view["timestamp"].as_str().expect("text");
        assert!(
            at.parse::<DateTime<Utc>>().expect("a moment") < expires_at,
            "{at}"
        );
    }
}
