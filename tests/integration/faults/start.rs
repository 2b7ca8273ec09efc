//! The sidecar starts before its servers do.

use super::{
    Fragile, Made, endlessly_patient, is_unavailable, refusing_database, refusing_redis, shows_visitors, text,
};
use crate::support::redis;
use crate::support::service::in_time;
use crate::support::world::Wanted;

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

/// It answers, so it is not away; but nobody is counted.
#[tokio::test]
async fn a_redis_that_refuses_what_is_asked_of_it_is_told() {
    let name = format!("user{}", uuid::Uuid::new_v4().simple());
    let rules = ["SETUSER", &name, "on", ">secret", "~*", "&*", "+@all", "-evalsha"];
    let mut raw = redis::shared().raw().await;
    ::redis::cmd("ACL")
        .arg(&rules)
        .exec_async(&mut raw)
        .await
        .expect("a user without the right to run scripts");
    let world = Wanted {
        redis: Some(format!(
            "redis://{name}:secret@127.0.0.1:{}",
            redis::shared().port()
        )),
        ..Wanted::usual()
    };
    let world = world.start().await;
    world
        .sidecar
        .wait_for_metric("headcount_presence_up", |up| up == 0.0)
        .await;
    let (status, told) = text(&world.sidecar.admin_url("/readyz")).await;
    assert_eq!(status, 200);
    assert!(told.contains("degraded: redis answers but refuses"), "{told}");
}
