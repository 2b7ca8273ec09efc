//! A flood of made-up tokens, with a database 10 ms away: members whose sessions nobody has asked for yet are
//! recorded and answered all the same.
//!
//! By default a short one, so that it is known to work. To measure what it costs the members:
//!
//! ```sh
//! cargo build --release
//! HEADCOUNT_TEST_BINARY=target/release/headcount HEADCOUNT_FLOOD_SECONDS=60 HEADCOUNT_FLOOD_RATE=5000 \
//!     HEADCOUNT_FLOOD_ADDRESSES=10000 cargo test --test integration faults::flood -- --nocapture
//! ```

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::{Fragile, dropped, drops_in, unknown_token};
use crate::support::member::{FIREFOX, navigation};
use crate::support::postgres::Postgres;
use crate::support::world::{Wanted, World};

/// Connections that share the flood.
const CONNECTIONS: u64 = 50;

/// New sessions a second: half of them look at a page, half ask the API.
const SESSIONS_A_SECOND: u32 = 20;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn token(session: u32) -> String {
    format!("flooded-session-{session:010}")
}

/// Sessions that the app knows, and nobody has used yet.
async fn make_sessions(world: &World, count: u32) {
    let alice = world.member("alice").await;
    let cookie = alice.cookie();
    let (_, known) = cookie.split_once('=').expect("a cookie");
    let made = sqlx::query(
        "INSERT INTO accounts_usersession
         SELECT (jsonb_populate_record(session, jsonb_build_object(
             'id', gen_random_uuid(), 'session_id', 'flooded-session-' || lpad(n::text, 10, '0')))).*
         FROM accounts_usersession AS session, generate_series(0, $1 - 1) AS n WHERE session_id = $2",
    )
    .bind(i32::try_from(count).expect("a small number"))
    .bind(known)
    .execute(&Postgres::shared().pool(world.database.name()))
    .await
    .expect("a session to copy");
    assert_eq!(made.rows_affected(), u64::from(count));
}

/// Reports page views with tokens that nobody was given, until told to stop; how many were answered.
async fn flood(port: u16, every: Duration, addresses: u64, goes_on: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("a connection");
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answer = vec![0; 4_096];
    let body = "{\"url\": \"/about/\"}";
    while goes_on.load(Ordering::Relaxed) {
        pace.tick().await;
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let from = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number % addresses).expect("few"));
        let request = format!(
            "POST /api/visits HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n\
             X-Forwarded-For: {from}\r\nUser-Agent: {FIREFOX}\r\nCookie: session_id={}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            unknown_token(),
            body.len()
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("an open connection");
        let read = stream.read(&mut answer).await.expect("an answer");
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 204"),
            "{}",
            String::from_utf8_lossy(&answer[..read])
        );
    }
}

/// The address that a session is used from, by which its page view is found.
fn address(session: u32) -> String {
    Ipv4Addr::from_bits(0xc612_0000 + session).to_string()
}

/// A visitor with a session and an address of their own.
fn request(client: &Client, world: &World, session: u32, path: &str) -> reqwest::RequestBuilder {
    client
        .get(world.sidecar.url(path))
        .header("cookie", format!("session_id={}", token(session)))
        .header("user-agent", FIREFOX)
        .header("x-forwarded-for", address(session))
}

/// When each page view was first seen in the database, by its visitor's address; returns after `count` of them.
async fn watch(database: String, count: usize) -> HashMap<String, Instant> {
    let pool = Postgres::shared().pool(&database);
    let mut seen = HashMap::new();
    let mut looks = interval(Duration::from_millis(20));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0_i64;
    while seen.len() < count {
        looks.tick().await;
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT id, host(ip_address) FROM accounts_userevent
             WHERE metadata->>'source' = 'headcount' AND id > $1 ORDER BY id",
        )
        .bind(last)
        .fetch_all(&pool)
        .await
        .expect("the events");
        for (id, address) in rows {
            last = id;
            assert!(seen.insert(address, Instant::now()).is_none(), "twice");
        }
    }
    seen
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 1_000];
    println!(
        "{what}: {} of them, p50 {:?}, p99 {:?}, last {:?}",
        times.len(),
        at(500),
        at(990),
        at(1_000)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i14_members_that_are_new_are_recorded_and_answered_during_a_flood() {
    let seconds = u32::try_from(setting("HEADCOUNT_FLOOD_SECONDS", 2)).expect("few");
    let rate = setting("HEADCOUNT_FLOOD_RATE", 500);
    let addresses = setting("HEADCOUNT_FLOOD_ADDRESSES", 100);
    let fragile = Fragile::start(Wanted {
        config: "[limits]\ntrusted_proxies = [\"127.0.0.0/8\"]".into(),
        ..Wanted::usual()
    })
    .await;
    let world = &fragile.world;
    let sessions = seconds * SESSIONS_A_SECOND;
    make_sessions(world, sessions).await;
    fragile.database.is_far(Duration::from_millis(10));

    let (goes_on, count) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let every = Duration::from_nanos(1_000_000_000 * CONNECTIONS / rate);
        floods.spawn(flood(
            world.sidecar.port,
            every,
            addresses,
            goes_on.clone(),
            count.clone(),
        ));
    }
    let views = usize::try_from(sessions / 2).expect("few");
    let rows = tokio::spawn(watch(world.database.name().to_owned(), views));

    let client = Client::builder().no_proxy().build().expect("a client");
    let community = world.visitors("rust", "");
    let mut pace = interval(Duration::from_secs(1) / SESSIONS_A_SECOND);
    let mut pages = JoinSet::new();
    let mut questions = JoinSet::new();
    let start = Instant::now();
    for session in 0..sessions {
        pace.tick().await;
        if session % 2 == 0 {
            let looking = request(&client, world, session, "/about/").headers(navigation());
            pages.spawn(async move {
                let response = looking.send().await.expect("an answer");
                assert_eq!(response.status(), StatusCode::OK);
                response.bytes().await.expect("a page");
                (address(session), Instant::now())
            });
        } else {
            let question = request(&client, world, session, &community);
            questions.spawn(async move {
                let begun = Instant::now();
                let response = question.send().await.expect("an answer");
                assert_eq!(response.status(), StatusCode::OK);
                response.bytes().await.expect("a list");
                begun.elapsed()
            });
        }
    }
    let pages = pages.join_all().await;
    let answers = questions.join_all().await;
    let took = start.elapsed();
    let flooded = count.load(Ordering::Relaxed);
    let rows = rows.await.expect("every view is recorded");
    goes_on.store(false, Ordering::Relaxed);
    floods.join_all().await;

    println!("{flooded} made-up tokens in {took:?}");
    told("API answers to new sessions", answers);
    let until_recorded = pages
        .iter()
        .map(|(address, at)| rows[address].saturating_duration_since(*at));
    told("from page to row", until_recorded.collect());
    world.sidecar.wait_until_idle().await;
    let metrics = world.sidecar.metrics().await;
    let honest_drops = drops_in(&metrics) - metrics[&dropped("unknown_token")];
    assert_eq!(honest_drops, 0.0);
}
