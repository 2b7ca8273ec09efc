//! Three sidecars on one Postgres and one Redis, and what may happen to them.

use super::{HELD, agree, by_the_analysis, command, execute, start, wanted};
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

/// The sidecar that has the lease, once one has it.
async fn holder(sidecars: &[&Sidecar]) -> usize {
    let held = async || {
        for (place, sidecar) in sidecars.iter().enumerate() {
            if sidecar.metric(HELD).await == 1.0 {
                return Some(place);
            }
        }
        None
    };
    eventually(async || held().await.is_some()).await;
    held().await.expect("one has it")
}

async fn idle(sidecars: &[&Sidecar]) {
    for sidecar in sidecars {
        sidecar.wait_until_idle().await;
    }
}

async fn sees(member: &Member, sidecar: &Sidecar, paths: &[&str]) {
    let member = member.at(sidecar.url(""));
    for path in paths {
        member.sees(path).await;
    }
}

#[tokio::test]
async fn k1_k2_counters_are_as_the_analysis_counts_whatever_happens() {
    let database = Proxy::before(Postgres::shared().port()).await;
    let wanted = Wanted {
        database_port: Some(database.port()),
        ..wanted()
    };
    let world = start(wanted.clone()).await;
    let mut second = world.another_sidecar(&wanted);
    let mut third = world.another_sidecar(&wanted);
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let carol = world.member("carol").await;
    let (rust, django) = (world.community("rust"), world.community("django"));
    let posts = format!("{rust}posts/1/");

    for (member, sidecar) in [(&alice, &world.sidecar), (&bob, &second), (&alice, &third)] {
        sees(member, sidecar, &[&rust, &posts, "/c/django/"]).await;
    }
    idle(&[&world.sidecar, &second, &third]).await;
    assert_eq!(by_the_analysis(&world, "rust").await, (2.into(), 6.into()));
    agree(&world, &alice).await;

    // kill -9 of whoever has the lease: another takes over. The first is needed to ask.
    let held = holder(&[&world.sidecar, &second, &third]).await;
    let mut world = world;
    {
        let killed = match held {
            0 => &mut world.sidecar,
            1 => &mut second,
            _ => &mut third,
        };
        sees(&carol, killed, &[&rust]).await;
        killed.wait_until_idle().await;
        killed.signal("KILL");
        killed.kill();
    }
    let others: Vec<&Sidecar> = [&world.sidecar, &second, &third]
        .into_iter()
        .enumerate()
        .filter_map(|(place, sidecar)| (place != held).then_some(sidecar))
        .collect();
    sees(&bob, others[0], &[&django, &rust]).await;
    holder(&others).await;
    let asking = alice.at(others[0].url(""));
    idle(&others).await;
    agree(&world, &asking).await;
    assert_eq!(by_the_analysis(&world, "rust").await, (3.into(), 8.into()));
    match held {
        0 => world.sidecar.restart(),
        1 => second.restart(),
        _ => third.restart(),
    }
    let alice = alice.at(world.sidecar.url(""));

    // An outage. What one of them has on disk when it is killed comes late, when others have counted on.
    for (member, sidecar) in [(&alice, &third), (&carol, &second)] {
        sees(member, sidecar, &[&rust]).await;
    }
    idle(&[&world.sidecar, &second, &third]).await;
    database.refuse().await;
    for _ in 0..3 {
        sees(&alice, &third, &[&posts]).await;
        sees(&carol, &second, &[&django]).await;
    }
    third
        .wait_for_metric("headcount_spool_views", |views| views >= 3.0)
        .await;
    third.signal("KILL");
    third.kill();
    database.resume().await;
    idle(&[&second]).await;
    sees(&bob, &second, &[&rust]).await;
    idle(&[&second]).await;
    agree(&world, &alice).await;
    third.restart();
    third
        .wait_for_metric("headcount_applied_views_total", |views| views >= 3.0)
        .await;
    idle(&[&third]).await;
    agree(&world, &alice).await;

    dead_letters_are_retried(&world, &alice, &rust, &posts).await;
    a_counter_is_repaired(&world, &alice).await;
}

async fn dead_letters_are_retried(world: &World, alice: &Member, rust: &str, posts: &str) {
    let letters = "headcount_dead_letters";
    execute(
        world,
        "ALTER TABLE accounts_userevent ADD CHECK (description NOT LIKE '%posts/1/%') NOT VALID",
    )
    .await;
    sees(alice, &world.sidecar, &[posts, rust]).await;
    world
        .sidecar
        .wait_for_metric(letters, |letters| letters == 1.0)
        .await;
    idle(&[&world.sidecar]).await;
    agree(world, alice).await;
    let before = by_the_analysis(world, "rust").await.1;
    execute(
        world,
        "ALTER TABLE accounts_userevent DROP CONSTRAINT accounts_userevent_description_check",
    )
    .await;
    let told = command(&world.sidecar, &["dead-letters", "retry", "--all"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    world
        .sidecar
        .wait_for_metric(letters, |letters| letters == 0.0)
        .await;
    idle(&[&world.sidecar]).await;
    let after = by_the_analysis(world, "rust").await.1;
    assert_eq!(after.as_i64(), before.as_i64().map(|before| before + 1));
    agree(world, alice).await;
}

async fn a_counter_is_repaired(world: &World, alice: &Member) {
    execute(
        world,
        "UPDATE headcount.counter SET page_views = 999, total_visitors = 0, pending = true",
    )
    .await;
    let told = command(&world.sidecar, &["counters", "verify"]);
    assert_eq!(told.code, Some(1), "{}{}", told.out, told.err);
    assert!(told.out.contains("999 and 0 kept"), "{}", told.out);
    let told = command(&world.sidecar, &["counters", "repair"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    agree(world, alice).await;
    let told = command(&world.sidecar, &["counters", "verify"]);
    assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
}
