//! The sidecar starts before its servers do.

use super::{
    Fragile, Made, endlessly_patient, is_unavailable, refusing_database, refusing_redis, shows_visitors, text,
};
use crate::support::service::in_time;

#[tokio::test]
async fn promise_1_the_site_is_served_though_database_and_redis_are_not_there_yet() {
    let fragile = Fragile::behind(endlessly_patient(), refusing_database(), refusing_redis()).await;
    let world = &fragile.world;
    let visitors = world.visitors("rust", "");
    let mut made = Made::default();
    let (status, ready) = text(&world.sidecar.admin_url("/readyz")).await;
    assert_eq!(status, 200);
    assert!(ready.contains("database") && ready.contains("redis"), "{ready}");
    let alice = world.member("alice").await;
    let paths = [&*world.community("rust"), "/c/rust/", "/about/"];
    let meanwhile = async {
        made.sees("alice", &alice, &paths).await;
        is_unavailable(&alice, &visitors).await;
    };
    in_time("the site", meanwhile).await;

    fragile.database.resume().await;
    fragile.redis.resume().await;
    fragile.recovered().await;
    made.sees("alice", &alice, &paths).await;
    made.are_recorded(world).await;
    shows_visitors(&alice, &visitors, 1).await;
}
