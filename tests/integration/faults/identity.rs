//! Cookies do not become database load.

use std::time::Instant;

use futures_util::{StreamExt as _, stream};

use super::{Fragile, NEVER, endlessly_patient, lookups, sees_with_token, unknown_token};
use crate::support::postgres::Postgres;
use crate::support::world::{Wanted, World};

async fn all_see_a_page(world: &World, tokens: impl Iterator<Item = &str>) {
    let visitor = world.stranger();
    stream::iter(tokens)
        .for_each_concurrent(16, |token| sees_with_token(&visitor, token, "/about/"))
        .await;
    world.sidecar.wait_until_idle().await;
}

#[tokio::test]
async fn i1_an_unknown_token_is_looked_up_once_and_a_malformed_one_never() {
    let world = Wanted {
        session: format!("negative_ttl = \"{NEVER}\""),
        database: "max_connections = 3".into(),
        ..Wanted::usual()
    };
    let world = world.start().await;
    let unknown: Vec<String> = (0..400).map(|_| unknown_token()).collect();
    let repeated = (0..5).flat_map(|_| &unknown).map(String::as_str);
    let start = Instant::now();
    all_see_a_page(&world, repeated).await;
    let nobody = world.sidecar.metric(&lookups("nobody")).await;
    // A view waits for a second answer; further ones come 1, 3, 7, … seconds after the first.
    let answers = 2.0 + (start.elapsed().as_secs_f64() + 1.0).log2().floor();
    assert!((400.0..=400.0 * answers).contains(&nobody), "{nobody} lookups");
    let nobodys = |reason| format!("headcount_page_views_not_counted_total{{reason=\"{reason}\"}}");
    assert_eq!(world.sidecar.metric(&nobodys("no_session")).await, 2_000.0);
    let connections: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'headcount' AND datname = $1",
    )
    .bind(world.database.name())
    .fetch_one(&Postgres::shared().pool("postgres"))
    .await
    .unwrap();
    assert!(connections <= 3, "{connections} connections");

    let malformed = [
        "",
        "short",
        &"x".repeat(256),
        "a token with spaces in it",
        "semi%colon%and%percent",
        "<script>alert(1)</script>",
    ];
    all_see_a_page(&world, malformed.into_iter().cycle().take(60)).await;
    let metrics = world.sidecar.metrics().await;
    assert_eq!(metrics[&lookups("nobody")], nobody);
    assert_eq!(metrics[&lookups("found")], 0.0);
    assert_eq!(metrics[&lookups("unavailable")], 0.0);
    assert_eq!(metrics[&nobodys("no_session")], 2_000.0);
    // All but the empty one, which is as none.
    assert_eq!(metrics[&lookups("malformed")], 50.0);
    assert_eq!(metrics[&nobodys("not_a_token")], 50.0);
    assert_eq!(metrics[&nobodys("no_cookie")], 10.0);
}

#[tokio::test]
async fn i2_many_requests_with_one_new_cookie_make_one_lookup() {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    // The lookup cannot end before all have asked.
    fragile.database.hang();
    let requests = (0..200).map(|_| alice.sees("/about/"));
    futures_util::future::join_all(requests).await;
    fragile.database.resume().await;
    assert_eq!(world.wait_for_views(200).await.len(), 200);
    assert_eq!(world.sidecar.metric(&lookups("found")).await, 1.0);
    assert_eq!(world.sidecar.metric(&lookups("nobody")).await, 0.0);
}

#[tokio::test]
async fn i1_a_token_that_could_not_be_looked_up_is_asked_about_again() {
    let wanted = Wanted {
        database: "acquire_timeout = \"200ms\"".into(),
        ..Wanted::usual()
    };
    let fragile = Fragile::start(wanted).await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    fragile.database.refuse().await;
    alice.sees("/about/").await;
    let unavailable = lookups("unavailable");
    world
        .sidecar
        .wait_for_metric(&unavailable, |lookups| lookups >= 1.0)
        .await;
    fragile.database.resume().await;
    fragile.recovered().await;
    alice.sees("/about/").await;
    // The first one waited for its answer.
    assert_eq!(world.wait_for_views(2).await.len(), 2);
}
