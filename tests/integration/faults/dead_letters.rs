//! Views that the database refuses: one dead letter each, and everything else lands. What an operator can do
//! about them.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{Made, all_dropped, text};
use crate::support::postgres::Postgres;
use crate::support::process::{self, Told};
use crate::support::world::{Wanted, World};

const LETTERS: &str = "headcount_dead_letters";

/// A page of which the database refuses the view, and two that it takes.
async fn sees_three(world: &World, made: &mut Made, refused: &str) {
    let alice = world.member("alice").await;
    made.sees("alice", &alice, &["/about/"]).await;
    alice.sees(refused).await;
    made.sees("alice", &alice, &[&world.community("rust")]).await;
}

async fn alter(world: &World, sql: &str) {
    let pool = Postgres::shared().pool(world.database.name());
    pool.execute(AssertSqlSafe(sql)).await.expect("the app migrates");
    pool.close().await;
}

fn dead_letters(world: &World, arguments: &[&str]) -> Told {
    let config = world.sidecar.directory().join("headcount.toml");
    let config = ["--config", config.to_str().expect("UTF-8")];
    process::run(&[&["dead-letters"], arguments, &config].concat(), &[])
}

fn listed(world: &World) -> Vec<Value> {
    let told = dead_letters(world, &["list", "--json"]);
    assert_eq!((told.code, &*told.err), (Some(0), ""));
    let lines = told.out.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The app changes under the sidecar's feet, so that the sidecar does not know what a column takes.
async fn is_one_dead_letter(migration: &str, code: &str) {
    let world = Wanted::usual().start().await;
    let mut made = Made::default();
    let post = format!("{}posts/1/", world.community("rust"));
    made.sees("alice", &world.member("alice").await, &["/about/"])
        .await;
    made.are_recorded(&world).await;
    alter(&world, migration).await;

    sees_three(&world, &mut made, &post).await;
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 1.0)
        .await;
    made.are_recorded(&world).await;
    let letters = listed(&world);
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0]["reason"].as_str().unwrap().contains(code),
        "{letters:?}"
    );
    assert_eq!(letters[0]["view"]["view"]["url"], post);
    assert_eq!(all_dropped(&world).await, 0.0);
    let (status, ready) = text(&world.sidecar.admin_url("/readyz")).await;
    assert_eq!(status, 200);
    assert!(ready.contains("the database refused 1 page view;"), "{ready}");
}

#[tokio::test]
async fn w3_a_text_that_became_too_long_is_one_dead_letter() {
    is_one_dead_letter(
        "ALTER TABLE accounts_userevent ALTER description TYPE varchar(30)",
        "22001",
    )
    .await;
}

#[tokio::test]
async fn w4_an_address_that_the_app_does_not_take_is_one_dead_letter() {
    is_one_dead_letter(
        "ALTER TABLE accounts_userevent ADD CONSTRAINT no_loopback
         CHECK (ip_address <> '127.0.0.1'::inet OR description NOT LIKE '%posts%') NOT VALID",
        "23514",
    )
    .await;
}

#[tokio::test]
async fn w1_a_dead_letter_can_be_retried_while_the_sidecar_runs_and_is_written_once() {
    let world = Wanted::usual().start().await;
    let mut made = Made::default();
    alter(
        &world,
        "ALTER TABLE accounts_userevent ADD CONSTRAINT no_about CHECK (description <> 'Page view: /about/')",
    )
    .await;
    let alice = world.member("alice").await;
    alice.sees("/about/").await;
    made.sees("alice", &alice, &[&world.community("rust")]).await;
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 1.0)
        .await;

    // Tried again, it is refused again.
    let told = dead_letters(&world, &["retry", "--all"]);
    assert_eq!(
        (told.code, &*told.out),
        (Some(0), "1 to be tried again\n"),
        "{told:?}"
    );
    let made_again = "headcount_dead_letters_made_total";
    world
        .sidecar
        .wait_for_metric(made_again, |letters| letters == 2.0)
        .await;
    made.are_recorded(&world).await;

    alter(&world, "ALTER TABLE accounts_userevent DROP CONSTRAINT no_about").await;
    let name = listed(&world)[0]["name"].as_str().unwrap().to_owned();
    let told = dead_letters(&world, &["list"]);
    assert!(
        told.out.starts_with(&name) && told.out.contains("/about/"),
        "{told:?}"
    );
    assert_eq!(dead_letters(&world, &["retry", &name]).code, Some(0));
    made.note("alice", "/about/");
    made.are_recorded(&world).await;
    assert_eq!(dead_letters(&world, &["list"]).out, "no dead letters\n");
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 0.0)
        .await;
    let again = dead_letters(&world, &["retry", &name]);
    assert_eq!(again.code, Some(64));
    assert!(again.err.contains("dead-letters list"), "{again:?}");
    let sessions = world.site.ask("oracle/sessions").await;
    assert_eq!(sessions[0]["pages_visited"], 2);
}

#[tokio::test]
async fn w1_a_dead_letter_outlives_its_process_and_can_be_dropped() {
    let mut world = Wanted::usual().start().await;
    let dave = world.member("dave").await;
    alter(
        &world,
        "ALTER TABLE accounts_userevent ADD CHECK (description <> 'Page view: /about/')",
    )
    .await;
    dave.sees("/about/").await;
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 1.0)
        .await;
    world.site.tell("delete-user", &json!({"username": "dave"})).await;
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
    assert_eq!(listed(&world).len(), 1);
    world.sidecar.restart();
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 1.0)
        .await;
    let told = dead_letters(&world, &["drop", "--all"]);
    assert_eq!((told.code, &*told.out), (Some(0), "1 deleted\n"), "{told:?}");
    world
        .sidecar
        .wait_for_metric(LETTERS, |letters| letters == 0.0)
        .await;
    assert!(world.page_views().await.is_empty());
}

#[tokio::test]
async fn a_name_of_nothing_is_wrong_usage() {
    let world = World::shared().await;
    for (arguments, said) in [
        (&["retry"][..], "required"),
        (&["drop", "x"], "is not the name of a dead letter"),
        (
            &["retry", "--all", "0190163d-8694-739b-aea5-966c26f8ad91/1"],
            "cannot be used with",
        ),
    ] {
        let told = dead_letters(world, arguments);
        assert_eq!(told.code, Some(64), "{told:?}");
        assert!(told.err.contains(said), "{told:?}");
    }
}
