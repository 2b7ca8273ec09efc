//! Who may listen, and for how long.

use reqwest::Method;

use super::{closed, live, refused};
use crate::support::chromium::Chromium;
use crate::support::live::{Events, Socket};
use crate::support::world::{Wanted, World};

async fn world(api: &str, live: &str) -> World {
    let wanted = Wanted {
        config: format!("[api]\n{api}\n[live]\n{live}\n"),
        session: "cache_ttl = \"1s\"".into(),
        ..Wanted::usual()
    };
    wanted.start().await
}

/// The status of an event stream's refusal, which is a problem document.
async fn status(world: &World, path: &str, headers: &str) -> u16 {
    let events = Events::ask(&world.sidecar, path, headers).await;
    let content_type = events.head.header("content-type").expect("a type").to_owned();
    if events.head.status != 200 {
        assert_eq!(content_type, "application/problem+json", "{path}");
    }
    events.head.status
}

const EVENTS: &str = "Accept: text/event-stream\r\n";

#[tokio::test]
async fn whoever_may_not_listen_is_told_so_before_the_upgrade() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let cookie = format!("Cookie: {}\r\n", alice.cookie());
    let path = live(&world, "rust");
    let many: Vec<String> = (1..=101).map(|id| id.to_string()).collect();
    let too_many = format!("/api/visitors/live?communities={}", many.join(","));
    for (path, expected) in [
        (&*path, 200),
        ("/api/communities/999999/visitors/live", 404),
        ("/api/visitors/live?communities=999999,999998", 404),
        ("/api/visitors/live?communities=", 400),
        ("/api/visitors/live?communities=", 400),
        (&too_many, 400),
        (&format!("{path}?heartbeat=perhaps"), 400),
        (&format!("{path}?more=1"), 400),
    ] {
        assert_eq!(
            status(&world, path, &format!("{EVENTS}{cookie}")).await,
            expected,
            "{path}"
        );
        let headers = [("cookie", &*alice.cookie())];
        let socket = Socket::try_open(&world.sidecar, path, &headers).await;
        assert_eq!(socket.err(), (expected != 200).then_some(expected), "{path}");
    }
    assert_eq!(status(&world, &path, EVENTS).await, 401);
    // The row of a new session may still come: an `EventSource` is told when to ask again.
    let cookies = "Accept: text/event-stream\r\nCookie: session_id=made-up-0123456789\r\n";
    assert_eq!(status(&world, &path, cookies).await, 200);
    assert_eq!(
        Socket::try_open(&world.sidecar, &path, &[]).await.err(),
        Some(401)
    );
    assert_eq!(status(&world, &path, &cookie).await, 406);
    assert_eq!(
        status(&world, &path, &format!("Accept: text/html, */*\r\n{cookie}")).await,
        406
    );
    for method in [Method::POST, Method::HEAD, Method::DELETE] {
        let answer = alice
            .request(method.clone(), &path)
            .header("accept", "text/event-stream");
        assert_eq!(answer.send().await.unwrap().status(), 405, "{method}");
    }
    for (reason, times) in [("not_found", 4.0), ("session", 3.0), ("request", 13.0)] {
        assert_eq!(world.sidecar.metric(&refused(reason)).await, times, "{reason}");
    }
}

#[tokio::test]
async fn i6_a_handshake_from_another_origin_is_refused() {
    let world = world("", "allowed_origins = [\"https://app.example.org\"]").await;
    let alice = world.member("alice").await;
    let cookie = alice.cookie();
    let path = live(&world, "rust");
    let own = format!("http://127.0.0.1:{}", world.sidecar.port);
    for (origin, expected) in [
        (&*own, None),
        ("https://app.example.org", None),
        ("https://evil.test", Some(403)),
        ("http://127.0.0.1", Some(403)),
        ("null", Some(403)),
    ] {
        let headers = [("cookie", &*cookie), ("origin", origin)];
        let socket = Socket::try_open(&world.sidecar, &path, &headers).await;
        assert_eq!(socket.err(), expected, "{origin}");
        let host = format!("127.0.0.1:{}", world.sidecar.port);
        let mut wire = crate::support::wire::Wire::open(world.sidecar.port).await;
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{EVENTS}Cookie: {cookie}\r\nOrigin: {origin}\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.head().await.status, expected.unwrap_or(200), "{origin}");
    }
    let other_site = format!("{EVENTS}Cookie: {cookie}\r\nSec-Fetch-Site: cross-site\r\n");
    assert_eq!(status(&world, &path, &other_site).await, 403);
    assert_eq!(world.sidecar.metric(&refused("origin")).await, 7.0);
}

/// The same site on another port is another origin, to which the browser brings the same cookies.
#[tokio::test]
async fn a4_in_a_browser_a_page_of_an_origin_that_is_allowed_reads_lists_and_hears_its_event_stream() {
    let world = World::shared().await;
    let alice = world.member("alice").await;
    let page = world.site.url("/about/");
    let origin = page.strip_suffix("/about/").expect("an address");
    let browser = Chromium::start().await;
    browser.open(&page).await;
    let cookie = alice.cookie();
    browser
        .wait_for(&format!("(document.cookie = '{cookie}; path=/', true)"))
        .await;
    for (origins, hears) in [(vec![origin], true), (vec![], false)] {
        let sidecar = world.another_sidecar(&Wanted {
            config: format!("[live]\nallowed_origins = {origins:?}\n"),
            ..Wanted::usual()
        });
        let url = sidecar.url(&live(world, "rust"));
        browser
            .wait_for(&format!(
                "(() => {{ window.told = []; window.stream?.close();
                    window.stream = new EventSource('{url}', {{withCredentials: true}});
                    stream.onmessage = (event) => told.push(JSON.parse(event.data)); return true; }})()"
            ))
            .await;
        let outcome = if hears {
            "told.some((message) => message.type === 'count')"
        } else {
            "stream.readyState === EventSource.CLOSED && told.length === 0"
        };
        browser.wait_for(outcome).await;
        // A header of the page's own, so that the browser asks first whether it may ask.
        for path in [
            world.visitors("rust", "?format=json"),
            world.visitors("rust", "/count"),
            world.visitors("rust", "/stats"),
            format!(
                "/api/visitors/counts?communities={}",
                world.seeded.community("rust")
            ),
        ] {
            let url = sidecar.url(&path);
            let told = browser
                .wait_for(&format!(
                    "fetch('{url}', {{credentials: 'include', headers: {{'X-Requested-With': 'fetch'}}}})
                        .then((answer) => answer.json()).then((body) => JSON.stringify(body), String)"
                ))
                .await;
            let told = told.as_str().expect("text");
            let is_read = told.contains("\"community_id\":42") || told.contains("\"counts\":[");
            assert_eq!(is_read, hears, "{path}: {told}");
        }
    }
}

#[tokio::test]
async fn i5_signing_out_ends_the_connections() {
    let world = world("", "").await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let path = live(&world, "rust");
    let mut socket = Socket::open(&world.sidecar, &path, &alice).await;
    let mut events = Events::open(&world.sidecar, &path, &alice).await;
    let mut bobs = Socket::open(&world.sidecar, &path, &bob).await;
    bobs.until(2).await;
    alice.sign_out().await;
    assert_eq!(socket.close_code().await, 4401);
    let last = loop {
        let message = events.next().await.expect("a last word");
        if message["type"] != "count" {
            break message;
        }
    };
    assert_eq!((&last["type"], &last["code"]), (&"close".into(), &4401.into()));
    assert_eq!(events.next().await, None, "the end of the stream");
    events.closes().await;
    world
        .sidecar
        .wait_for_metric(&closed("session_ended"), |ended| ended == 2.0)
        .await;
    // Bob's goes on.
    bobs.say(r#"{"type":"subscribe","communities":["nowhere"]}"#)
        .await;
    assert_eq!(bobs.next().await["type"], "unknown");
}

#[tokio::test]
async fn with_access_backend_the_site_decides_again_and_again() {
    let world = world(
        "access = \"backend\"\nbackend_check_ttl = \"0s\"",
        "access_check_interval = \"1s\"",
    )
    .await;
    let (alice, mallory) = (world.member("alice").await, world.member("mallory").await);
    let hidden = live(&world, "hidden");
    let cookie = mallory.cookie();
    let forbidden = Socket::try_open(&world.sidecar, &hidden, &[("cookie", &cookie)]).await;
    assert_eq!(forbidden.err(), Some(404));
    let mut socket = Socket::open(&world.sidecar, &hidden, &alice).await;
    socket.count().await;
    // The site forgets who alice is; what it let her see is its own to take back.
    alice.sign_out().await;
    let code = socket.close_code().await;
    assert!([4401, 4404].contains(&code), "{code}");
}

#[tokio::test]
async fn with_public_access_anybody_listens() {
    let world = world("access = \"public\"", "").await;
    let path = live(&world, "rust");
    let mut events = Events::ask(&world.sidecar, &path, EVENTS).await;
    assert_eq!(events.head.status, 200);
    assert_eq!(events.count().await.1, 0);
    let bob = world.member("bob").await;
    bob.sees(&world.community("rust")).await;
    events.until(1).await;
}

#[tokio::test]
async fn what_is_switched_off_is_the_apps() {
    let world = world("live = false\nbeacon = false", "").await;
    let alice = world.member("alice").await;
    let answer = alice.json(&live(&world, "rust")).await;
    assert_eq!(answer["answered_by"], "backend");
}
