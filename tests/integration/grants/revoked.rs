//! A right that is revoked while the sidecar runs: `/readyz` and the log name it, and no view is lost.

use std::cell::RefCell;

use headcount::store;

use super::{Role, execute, parsed};
use crate::support::backend::{Backend, Settings};
use crate::support::database::Database;
use crate::support::redis::{eventually, eventually_or_else};
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World};

pub(super) async fn readyz(world: &World) -> String {
    let answer = reqwest::get(world.sidecar.admin_url("/readyz")).await;
    answer.expect("an answer").text().await.expect("text")
}

/// Waits until `/readyz` says it.
pub(super) async fn says(world: &World, it: impl Fn(&str) -> bool) {
    let last = RefCell::default();
    let asked = eventually_or_else(
        async || {
            let text = readyz(world).await;
            let is_so = it(&text);
            last.replace(text);
            is_so
        },
        || format!("{}\n{}", last.borrow(), world.sidecar.log()),
    );
    asked.await;
}

/// The sidecar as a role of its own, in front of a site of its own.
pub(super) async fn under_a_role(wanted: Wanted) -> (World, Role) {
    let (database, seeded) = Database::seeded(wanted.parts, wanted.variant).await;
    let site = Backend::start(wanted.variant, &database.url(), Settings::default());
    let config = wanted.configuration(&site, &database);
    store::migrate(&parsed(&config), false).await.expect("migrated");
    let role = Role::make(&database, &config).await;
    execute(&database, &role.sql).await;
    let world = World {
        sidecar: Sidecar::start(&role.uses(&config)),
        site,
        database,
        seeded,
    };
    (world, role)
}

/// Bob's session was never read before, and cannot be when he opens the page.
#[tokio::test]
async fn p32_who_could_not_be_identified_at_the_view_is_present_as_soon_as_that_can_be() {
    let (world, role) = under_a_role(Wanted::usual()).await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let post = format!("{}posts/1/", world.community("rust"));
    alice.sees(&world.community("rust")).await;
    world.wait_for_views(1).await;
    let right = "SELECT (\"is_active\") ON TABLE \"public\".\"accounts_usersession\"";
    execute(&world.database, &format!("REVOKE {right} FROM {}", role.name)).await;
    bob.sees(&post).await;
    let failed = "headcount_session_lookups_total{outcome=\"unavailable\"}";
    world
        .sidecar
        .wait_for_metric(failed, |failed| failed >= 1.0)
        .await;
    execute(&world.database, &format!("GRANT {right} TO \"{}\"", role.name)).await;
    world.wait_for_views(2).await;
    let last = RefCell::default();
    let asked = eventually_or_else(
        async || {
            let mut counts = Vec::new();
            for path in [
                format!("/api{post}visitors/count"),
                world.visitors("rust", "/count"),
                "/api/visitors/count".to_owned(),
            ] {
                counts.push(alice.json(&path).await["current_visitors"].clone());
            }
            let are_there = counts == [1, 2, 2];
            last.replace(counts);
            are_there
        },
        || format!("{:?}\n{}", last.borrow(), world.sidecar.log()),
    );
    asked.await;
}

/// What `/readyz` says is pasted, and nothing else.
#[tokio::test]
async fn d10_a_right_that_is_revoked_while_it_runs_is_named_in_readyz() {
    let (world, role) = under_a_role(Wanted {
        session: "cache_ttl = \"1ms\"\nnegative_ttl = \"1ms\"".into(),
        ..Wanted::usual()
    })
    .await;
    let (alice, rust) = (world.member("alice").await, world.community("rust"));
    alice.sees(&rust).await;
    world.wait_for_views(1).await;
    assert_eq!(readyz(&world).await, "ok\n");
    let mut seen = 1;
    for right in [
        "INSERT (\"metadata\") ON TABLE \"public\".\"accounts_userevent\"",
        "UPDATE (\"pages_visited\") ON TABLE \"public\".\"accounts_usersession\"",
        "SELECT (\"is_active\") ON TABLE \"public\".\"accounts_usersession\"",
        "SELECT, INSERT, DELETE ON TABLE headcount.applied_batch",
    ] {
        let grant = format!("GRANT {right} TO \"{}\";", role.name);
        execute(&world.database, &format!("REVOKE {right} FROM {}", role.name)).await;
        alice.sees(&rust).await;
        seen += 1;
        // To be pasted as it is: one statement at the end of its line.
        let ends_a_line = |text: &str| text.lines().any(|line| line.ends_with(&grant));
        says(&world, ends_a_line).await;
        eventually(async || ends_a_line(&world.sidecar.log())).await;
        execute(&world.database, &grant).await;
        world.wait_for_views(seen).await;
        says(&world, |text| text == "ok\n").await;
    }
    assert!(
        !world.sidecar.log().contains("until its tables are changed"),
        "{}",
        world.sidecar.log()
    );
}
