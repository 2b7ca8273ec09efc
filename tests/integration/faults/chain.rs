//! Several sidecars for one site.

use super::{Made, shows_visitors};
use crate::support::member::Member;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

const BEHIND_A_SIDECAR: &str =
    "[limits]\ntrusted_proxies = [\"127.0.0.1/32\"]\nsidecars = [\"127.0.0.1/32\"]";

/// A sidecar, another in front of it with these settings of `[record]`, and alice, signed in at that.
async fn chained(record: &str) -> (World, Sidecar, Member) {
    let inner = Wanted {
        config: BEHIND_A_SIDECAR.into(),
        ..Wanted::usual()
    };
    let world = inner.start().await;
    let outer = world.another_sidecar(&Wanted {
        servers: Some(vec![format!("127.0.0.1:{}", world.sidecar.port)]),
        record: record.into(),
        ..Wanted::usual()
    });
    let alice = Member::new(outer.url(""));
    alice.sign_in("alice").await;
    (world, outer, alice)
}

#[tokio::test]
async fn v8_two_sidecars_in_a_chain_count_once() {
    let (world, outer, alice) = chained("").await;
    let mut made = Made::default();
    made.sees(
        "alice",
        &alice,
        &[&world.community("rust"), "/c/rust/", "/about/"],
    )
    .await;
    outer
        .wait_for_metric("headcount_applied_views_total", |views| views == 3.0)
        .await;
    outer.wait_until_idle().await;
    world.sidecar.wait_until_idle().await;
    made.are_exactly(&world.page_views().await);
    let elsewhere = "headcount_page_views_not_counted_total{reason=\"counted_elsewhere\"}";
    // The pages, and the sign-in.
    assert_eq!(world.sidecar.metric(elsewhere).await, 4.0);
    assert_eq!(
        world.sidecar.metric("headcount_page_views_counted_total").await,
        0.0
    );
}

#[tokio::test]
async fn v8_the_inner_sidecar_counts_where_the_outer_one_records_nothing() {
    let records_nothing = "presence = false\nevents = false\npages_visited = false\nlast_active = false";
    let (world, _outer, alice) = chained(records_nothing).await;
    let mut made = Made::default();
    made.sees("alice", &alice, &[&world.community("rust")]).await;
    made.are_recorded(&world).await;
}

#[tokio::test]
async fn v8_a_client_behind_a_trusted_proxy_cannot_opt_out_of_being_counted() {
    let wanted = Wanted {
        config: "[limits]\ntrusted_proxies = [\"127.0.0.1/32\"]".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let alice = world.member("alice").await;
    let page = alice
        .navigation(&world.community("rust"))
        .header("x-headcount-recorded", "1");
    assert!(page.send().await.unwrap().status().is_success());
    world.wait_for_views(1).await;
}

#[tokio::test]
async fn sidecars_side_by_side_on_one_redis_show_the_same_visitors() {
    let wanted = Wanted {
        key_prefix: Some(any_prefix()),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let other = world.another_sidecar(&wanted);
    let alice = world.member("alice").await;
    let bob = Member::new(other.url(""));
    bob.sign_in("bob").await;
    let (community, visitors) = (world.community("rust"), world.visitors("rust", ""));
    let mut made = Made::default();
    made.sees("alice", &alice, &[&community, "/about/"]).await;
    made.sees("bob", &bob, &[&community]).await;
    shows_visitors(&alice, &visitors, 2).await;
    shows_visitors(&bob, &visitors, 2).await;
    other
        .wait_for_metric("headcount_applied_views_total", |views| views == 1.0)
        .await;
    world.wait_for_views(2).await;
    made.are_exactly(&world.page_views().await);
}
