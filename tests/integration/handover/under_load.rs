//! Five hand-overs in a row while clients send all they can.

use serde_json::Value;

use super::NEVER;
use super::load::{Asked, Done, Load, Way, sign_in};
use crate::support::redis::eventually;
use crate::support::service::free_port;
use crate::support::tls::Certificate;
use crate::support::wire::exchange;
use crate::support::world::{Wanted, World};

const HAND_OVERS: usize = 5;
/// Requests that each process answers at least before the next takes over.
const REQUESTS_EACH: f64 = 60.0;

/// Only a flush writes: what is recorded at the end was recorded at the end of five processes.
fn wanted() -> Wanted {
    Wanted {
        batch_age: NEVER,
        ..Wanted::usual()
    }
}

/// Hands over again and again. Every old process must end by itself, and well.
async fn hand_over_repeatedly(world: &mut World) {
    for _ in 0..HAND_OVERS {
        serves_requests(world).await;
        let mut old = world.sidecar.hand_over();
        assert_eq!(old.wait_for_end(), Some(0), "{}", old.log());
        assert!(!old.log().contains("cut off"), "{}", old.log());
    }
    serves_requests(world).await;
}

/// Waits until the process that runs has answered some.
async fn serves_requests(world: &World) {
    let answered = async || {
        let metrics = world.sidecar.metrics().await;
        let requests = metrics
            .iter()
            .filter(|(name, _)| name.starts_with("headcount_requests_total"));
        requests.map(|(_, requests)| requests).sum::<f64>()
    };
    eventually(async || answered().await >= REQUESTS_EACH).await;
}

/// Everything that was seen is in the tables once, and nothing else.
async fn recorded_is_what_was_seen(world: &mut World, done: &[Done]) {
    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0), "{}", world.sidecar.log());
    let mut seen: Vec<_> = done.iter().flat_map(|done| done.views.clone()).collect();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let views = world.page_views().await;
    let recorded = views
        .iter()
        .map(|view| (text(&view["username"]), text(&view["metadata"]["url"])));
    let mut recorded: Vec<_> = recorded.collect();
    seen.sort();
    recorded.sort();
    assert_eq!(recorded.len(), seen.len());
    assert!(recorded == seen, "not the same views");
    let sessions = world.site.ask("oracle/sessions").await;
    for session in sessions.as_array().expect("a list") {
        let views = seen
            .iter()
            .filter(|(name, _)| session["username"] == **name)
            .count();
        assert_eq!(session["pages_visited"], views, "{session}");
    }
}

/// How much it was, for whoever wants to know.
fn tell(done: &[Done]) {
    let sum = |of: fn(&Done) -> usize| done.iter().map(of).sum::<usize>();
    let (requests, connections) = (sum(|d| d.requests), sum(|d| d.connections));
    let (views, posts) = (sum(|d| d.views.len()), sum(|d| d.posts));
    println!("{requests} requests on {connections} connections, with {views} page views and {posts} posts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hand_overs_under_load_fail_no_request_and_no_view_is_lost_or_counted_twice() {
    let mut world = wanted().start().await;
    let site = world.site.port();
    let way = Way::plain(world.sidecar.port);
    let admin = Way::plain(world.sidecar.admin);
    let community = world.community("rust");

    let mut load = Load::default();
    for (name, kept) in [("alice", true), ("bob", true), ("carol", false), ("dave", false)] {
        let cookie = sign_in(site, name).await;
        let pages = vec![
            Asked::page(site, &cookie, &community).await,
            Asked::page(site, &cookie, "/about/").await,
            Asked::page(site, &cookie, "/c/rust/").await,
        ];
        load.client(name, &way, kept, pages);
    }
    for kept in [true, false] {
        let posts = vec![Asked::post("/tally/handover"), Asked::get("/healthz", "")];
        load.client("", &way, kept, posts);
        let scrapes = vec![
            Asked::get("/metrics", "headcount_requests_total"),
            Asked::get("/livez", "ok"),
        ];
        load.client("", &admin, kept, scrapes);
    }
    hand_over_repeatedly(&mut world).await;
    let done = load.stop().await;

    recorded_is_what_was_seen(&mut world, &done).await;
    let arrived = exchange(
        site,
        "GET /tally/handover?read HTTP/1.1\r\nHost: localhost\r\n\r\n",
        false,
    )
    .await;
    let sent: usize = done.iter().map(|done| done.posts).sum();
    assert_eq!(arrived.text(), sent.to_string(), "posts");
    tell(&done);
    // Whoever keeps connections is led to each process by the one before.
    let leads = done.iter().filter(|done| done.connections < done.requests);
    for done in leads {
        assert!(done.connections > HAND_OVERS, "{} connections", done.connections);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_listeners_served_by_several_threads_are_handed_over_too() {
    let certificate = Certificate::of("site.test");
    let port = free_port();
    let mut world = Wanted {
        config: certificate.listener(port),
        ..wanted()
    }
    .start()
    .await;
    super::configure(&world.sidecar, "threads = 2");
    let site = world.site.port();
    let (tls, plain) = (
        Way::tls(port, certificate.path(), "site.test"),
        Way::plain(world.sidecar.port),
    );
    let mut load = Load::default();
    for (name, kept) in [("alice", true), ("bob", false)] {
        let cookie = sign_in(site, name).await;
        let pages = vec![Asked::page(site, &cookie, "/about/").await];
        load.client(name, &tls, kept, pages.clone());
        load.client(name, &plain, kept, pages);
    }
    hand_over_repeatedly(&mut world).await;
    let done = load.stop().await;
    recorded_is_what_was_seen(&mut world, &done).await;
    tell(&done);
}
