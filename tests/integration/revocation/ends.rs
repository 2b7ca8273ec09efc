//! Every way in which a session ends is noticed at once, and nothing else is taken for one.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::{Browser, Told};
use crate::support::backend::Variant;
use crate::support::live::{Events, Socket};
use crate::support::redis::eventually;
use crate::support::world::{Wanted, World};

/// What befalls somebody's session.
type Way = for<'a> fn(&'a Told, &'a Browser) -> BoxFuture<'a, ()>;

/// Through the site itself, and by its ORM. To each another member, so that each is one session's end.
const WAYS_OF_THE_SITE: &[(&str, Way)] = &[
    ("alice", |told, _| tell(told, "reset", json!({}))),
    ("bob", |_, browser| browser.member.sign_out().boxed()),
    ("carol", |told, browser| {
        tell(told, "expire-session", json!({"session_id": browser.token}))
    }),
    ("dave", |told, _| {
        let reason = "revoked by an administrator";
        tell(told, "end-session", json!({"username": "dave", "reason": reason}))
    }),
    ("mallory", |told, _| {
        tell(told, "delete-user", json!({"username": "mallory"}))
    }),
];

/// By a statement of somebody else.
const WAYS_OF_OTHERS: &[&str] = &[
    "UPDATE {session} SET is_active = false",
    "UPDATE {session} SET is_ended = true",
    "UPDATE {session} SET expires_at = now() - interval '1 second'",
    "UPDATE {session} SET {token} = 'another-token-of-the-same-session'",
    "DELETE FROM {session}",
];

fn tell<'a>(told: &'a Told, path: &'a str, body: serde_json::Value) -> BoxFuture<'a, ()> {
    async move {
        told.world.site.tell(path, &body).await;
    }
    .boxed()
}

async fn what_the_site_does_is_seen_at_once(variant: Variant) {
    let told = Told::start(variant).await;
    for (name, way) in WAYS_OF_THE_SITE {
        println!("{name}");
        let browser = told.signs_in(name).await;
        told.is_somebody(&browser).await;
        let before = told.evicted("changed").await;
        way(&told, &browser).await;
        told.has_evicted("changed", before + 1.0).await;
        told.is_nobody(&browser).await;
    }
}

#[tokio::test]
async fn i4_a_session_that_the_site_ends_is_seen_at_once() {
    what_the_site_does_is_seen_at_once(Variant::Default).await;
}

#[tokio::test]
async fn i4_a_session_that_the_site_ends_is_seen_at_once_in_other_tables_with_other_keys() {
    what_the_site_does_is_seen_at_once(Variant::Uuid).await;
}

#[tokio::test]
async fn i4_a_session_that_others_end_is_seen_at_once() {
    let told = Told::start(Variant::Default).await;
    for sql in WAYS_OF_OTHERS {
        println!("{sql}");
        let browser = told.signs_in("alice").await;
        told.is_somebody(&browser).await;
        let before = told.evicted("changed").await;
        told.execute(sql).await;
        told.has_evicted("changed", before + 1.0).await;
        told.is_nobody(&browser).await;
        // Told as another thing.
        told.execute("TRUNCATE {session}").await;
    }
}

#[tokio::test]
async fn i4_a_table_that_is_emptied_at_once_ends_all_sessions() {
    let told = Told::start(Variant::Uuid).await;
    let (alice, bob) = (told.signs_in("alice").await, told.signs_in("bob").await);
    told.is_somebody(&alice).await;
    told.is_somebody(&bob).await;
    told.execute("TRUNCATE {session}").await;
    told.has_evicted("all_changed", 1.0).await;
    told.is_nobody(&alice).await;
    told.is_nobody(&bob).await;
    assert_eq!(told.evicted("changed").await, 0.0);
}

#[tokio::test]
async fn i4_all_sessions_of_a_user_end_and_those_of_others_go_on() {
    let told = Told::start(Variant::Default).await;
    let (phone, laptop) = (told.signs_in("alice").await, told.signs_in("alice").await);
    let bob = told.signs_in("bob").await;
    for browser in [&phone, &laptop, &bob] {
        told.is_somebody(browser).await;
    }
    let found = "headcount_session_lookups_total{outcome=\"found\"}";
    told.world
        .site
        .tell("end-session", &json!({"username": "alice"}))
        .await;
    told.has_evicted("changed", 2.0).await;
    told.is_nobody(&phone).await;
    told.is_nobody(&laptop).await;
    let lookups = told.world.sidecar.metric(found).await;
    told.is_somebody(&bob).await;
    assert_eq!(
        told.world.sidecar.metric(found).await,
        lookups,
        "bob is still known"
    );
}

#[tokio::test]
async fn i4_a_session_that_is_handed_to_somebody_else_is_theirs_at_once() {
    let told = Told::start(Variant::Default).await;
    let world = &told.world;
    let browser = told.signs_in("alice").await;
    told.is_somebody(&browser).await;
    let bob = world.seeded.user("bob");
    told.execute(&format!("UPDATE {{session}} SET user_id = {bob}"))
        .await;
    told.has_evicted("changed", 1.0).await;
    told.is_somebody(&browser).await;
    let views = world.wait_for_views(2).await;
    let who: Vec<_> = views.iter().map(|view| view["username"].clone()).collect();
    assert_eq!(who, ["alice", "bob"]);
}

/// The sign-out at the end comes after all that, in the order of the database: nothing else was told before.
#[tokio::test]
async fn i4_what_ends_no_session_is_not_told() {
    let told = Told::start(Variant::Default).await;
    let world = &told.world;
    let browser = told.signs_in("alice").await;
    told.is_somebody(&browser).await;
    // The sidecar itself has written to the session's row.
    world.wait_for_views(1).await;
    told.execute("UPDATE {session} SET pages_visited = pages_visited + 1, user_agent = 'other'")
        .await;
    told.execute("UPDATE {session} SET expires_at = expires_at + interval '1 day'")
        .await;
    told.execute("UPDATE {session} SET is_active = is_active, user_id = user_id")
        .await;
    told.execute("BEGIN; UPDATE {session} SET is_ended = true; ROLLBACK")
        .await;
    // Never known to the sidecar, and over before it is deleted: told once, when it ends.
    let other = json!({"username": "bob", "is_active": false});
    world.site.tell("add-session", &other).await;
    told.has_evicted("changed", 1.0).await;
    told.execute("DELETE FROM {session} WHERE NOT is_active").await;

    let lookups = "headcount_session_lookups_total{outcome=\"found\"}";
    told.is_somebody(&browser).await;
    assert_eq!(world.sidecar.metric(lookups).await, 1.0, "still known");
    browser.member.sign_out().await;
    told.has_evicted("changed", 2.0).await;
    told.is_nobody(&browser).await;
    assert_eq!(told.evicted("changed").await, 2.0);
    assert_eq!(told.evicted("all_changed").await, 0.0);
}

#[tokio::test]
async fn i4_without_the_trigger_a_session_ends_with_its_time_in_the_cache() {
    let world = Wanted {
        session: "cache_ttl = \"1s\"".into(),
        ..Wanted::usual()
    };
    let world: World = world.start().await;
    let alice = world.member("alice").await;
    let visitors = world.visitors("rust", "");
    alice.json(&visitors).await;
    world
        .site
        .tell("end-session", &json!({"username": "alice"}))
        .await;
    eventually(async || alice.get(&visitors).await.status() == 401).await;
    let anonymous = "headcount_page_views_not_counted_total{reason=\"session_ended\"}";
    let before = world.sidecar.metric(anonymous).await;
    alice.sees("/about/").await;
    world
        .sidecar
        .wait_for_metric(anonymous, |views| views == before + 1.0)
        .await;
    assert_eq!(world.sidecar.metric("headcount_session_listener_up").await, -1.0);
}

#[tokio::test]
async fn v6_a_view_that_began_before_the_sign_out_counts_though_it_ended_after_it() {
    let told = Told::start(Variant::Default).await;
    let world = &told.world;
    let browser = told.signs_in("alice").await;
    told.is_somebody(&browser).await;
    let signs_out = async {
        let under_way = browser.member.get("/gates/arrived/wait").await;
        assert_eq!(under_way.status(), 204);
        browser.member.sign_out().await;
        told.has_evicted("changed", 1.0).await;
        browser.member.get("/gates/answer/open").await;
    };
    tokio::join!(browser.sees("/slow?opens=arrived&gate=answer"), signs_out);
    let views = world.wait_for_views(2).await;
    assert_eq!(views[1]["metadata"]["url"], "/slow");
    assert_eq!(views[1]["username"], "alice");
    told.is_nobody(&browser).await;
}

/// Each is seen for the first time with the request in whose course it ends, or gets another token.
#[tokio::test]
async fn i11_a_session_first_seen_with_the_request_that_ends_it_is_counted() {
    let told = Told::start(Variant::Default).await;
    let (world, found) = (&told.world, "headcount_session_lookups_total{outcome=\"found\"}");
    for (seen, ends) in [
        "UPDATE {session} SET {token} = 'the-token-that-comes-with-the-answer'",
        "UPDATE {session} SET is_active = false",
        "DELETE FROM {session}",
    ]
    .into_iter()
    .enumerate()
    {
        let browser = told.signs_in("alice").await;
        let gate = format!("answer-{seen}");
        let looked_up = world.sidecar.metric(found).await;
        let ends = async {
            let under_way = browser.keeper.get(&format!("/gates/arrived-{seen}/wait")).await;
            assert_eq!(under_way.status(), 204);
            // Though the app has not answered.
            let sidecar = &world.sidecar;
            sidecar.wait_for_metric(found, |found| found > looked_up).await;
            let before = told.evicted("changed").await;
            told.execute(ends).await;
            told.has_evicted("changed", before + 1.0).await;
            browser.keeper.get(&format!("/gates/{gate}/open")).await;
        };
        let path = format!("/slow?opens=arrived-{seen}&gate={gate}");
        tokio::join!(browser.sees(&path), ends);
        let views = world.wait_for_views(seen + 1).await;
        assert_eq!(
            (views.len(), &views[seen]["username"]),
            (seen + 1, &json!("alice"))
        );
        told.execute("TRUNCATE {session}").await;
    }
}

#[tokio::test]
async fn i5_live_connections_end_with_their_session_at_once() {
    let told = Told::start(Variant::Default).await;
    let (alice, bob) = (told.signs_in("alice").await, told.signs_in("bob").await);
    let sidecar = &told.world.sidecar;
    let path = told.world.visitors("rust", "/live");
    let mut socket = Socket::open(sidecar, &path, &alice.member).await;
    let mut events = Events::open(sidecar, &path, &alice.member).await;
    let mut others = Socket::open(sidecar, &path, &bob.member).await;
    others.until(2).await;
    // The first check of each, which comes with its first heartbeat, is over. The next is minutes away.
    let beats = "headcount_live_heartbeats_total";
    sidecar.wait_for_metric(beats, |beats| beats >= 3.0).await;

    alice.member.sign_out().await;
    assert_eq!(socket.close_code().await, 4401);
    while events.next().await.is_some() {}
    // Bob's goes on.
    let carol = told.signs_in("carol").await;
    carol.sees(&told.world.community("rust")).await;
    others.until(3).await;
}
