//! Live connections with a JWT: in `Authorization`, as a subprotocol, or in the query.

use serde_json::json;

use super::feed;
use crate::support::chromium::Chromium;
use crate::support::fake_upstream::{FakeUpstream, OK};
use crate::support::jwt::{Pair, signed, with_jwt, world};
use crate::support::live::{Events, Socket};
use crate::support::member::{FIREFOX, Member};
use crate::support::world::{Wanted, World};

fn live(world: &World) -> String {
    world.visitors("rust", "/live")
}

#[tokio::test]
async fn i28_a_browser_opens_live_connections_with_a_jwt_until_it_expires() {
    let (world, _keys) = world(Wanted::usual(), "query_parameter = \"access_token\"").await;
    let alice = Pair::of(&world, "alice").await;
    let browser = Chromium::start().await;
    browser.open(&world.sidecar.url("/about/")).await;
    let open = |name: &str, jwt: &str| {
        let path = live(&world);
        format!(
            "(() => {{
                const socket = new WebSocket('ws://' + location.host + {path:?}, ['headcount', 'bearer.' + {jwt:?}]);
                window.{name} = {{socket}};
                socket.onmessage = message => window.{name}.count = JSON.parse(message.data).current_visitors;
                socket.onclose = event => window.{name}.code = event.code;
                return true;
            }})()"
        )
    };
    browser.wait_for(&open("lasting", &alice.access)).await;
    browser
        .wait_for("lasting.count === 1 && lasting.socket.protocol === 'headcount'")
        .await;
    browser.wait_for(&open("refused", &alice.refresh)).await;
    browser.wait_for("refused.code === 1006").await;
    let stream = format!(
        "(() => {{
            window.stream = new EventSource({path:?} + '?access_token=' + {jwt:?});
            stream.onmessage = message => window.said = JSON.parse(message.data);
            return true;
        }})()",
        path = live(&world),
        jwt = alice.access,
    );
    browser.wait_for(&stream).await;
    browser.wait_for("said.current_visitors === 1").await;
    browser
        .wait_for(&open("brief", &signed(alice.claims(), 25)))
        .await;
    browser.wait_for("brief.code === 4401").await;
    assert_eq!(browser.wait_for("lasting.socket.readyState").await, json!(1));
    // The cookie of nobody was needed.
    assert_eq!(browser.wait_for("document.cookie === ''").await, json!(true));
}

#[tokio::test]
async fn i28_a_live_connection_ends_with_the_session_that_its_jwt_names() {
    let wanted = Wanted {
        session: "cache_ttl = \"1s\"".into(),
        ..Wanted::usual()
    };
    let (world, _keys) = world(wanted, "session_claim = \"sid\"").await;
    let alice = Pair::of(&world, "alice").await;
    let authorization = format!("Bearer {}", alice.access);
    let headers = [("authorization", &*authorization), ("user-agent", FIREFOX)];
    let opened = Socket::try_open(&world.sidecar, &live(&world), &headers).await;
    let mut socket = opened.expect("a connection");
    socket.until(1).await;
    let headers =
        format!("Accept: text/event-stream\r\nUser-Agent: {FIREFOX}\r\nAuthorization: {authorization}\r\n");
    let mut events = Events::ask(&world.sidecar, &live(&world), &headers).await;
    events.until(1).await;
    world
        .site
        .tell("end-session", &json!({"username": "alice"}))
        .await;
    assert_eq!(socket.close_code().await, 4401);
    assert_eq!(events.ends().await["code"], 4401);
}

#[tokio::test]
async fn i28_a_jwt_in_the_query_is_read_for_live_connections_only_and_goes_no_further() {
    let upstream = FakeUpstream::answering(|_| OK).await;
    let (_keys, wanted) = with_jwt(
        Wanted {
            config: "[api]\naccess = \"backend\"".into(),
            ..Wanted::usual()
        },
        "query_parameter = \"access_token\"",
    );
    let world = wanted.clone().start().await;
    let behind = Wanted {
        servers: Some(vec![upstream.address()]),
        ..wanted
    };
    let sidecar = world.another_sidecar(&behind);
    let alice = Pair::of(&world, "alice").await;
    let path = format!("{}?heartbeat=false&access_token={}", live(&world), alice.access);
    let mut events = Events::ask(&sidecar, &path, "Accept: text/event-stream\r\n").await;
    events.count().await;
    let heard = upstream.heard();
    let check = heard
        .iter()
        .find(|request| request.target().starts_with("GET /api/communities/"))
        .expect("the app was asked");
    assert!(!check.target().contains("access_token"), "{check:?}");
    let authorization = format!("bearer {}", alice.access).to_lowercase();
    assert!(check.head.to_lowercase().contains(&authorization), "{check:?}");
    // Elsewhere it is a parameter like any other: unknown to the API, and the app's own.
    let client = Member::new(sidecar.url(""));
    let count = format!(
        "{}?access_token={}",
        world.visitors("rust", "/count"),
        alice.access
    );
    assert_eq!(client.get(&count).await.status(), 400);
    let page = format!("{}?access_token={}", feed(&world, "rust"), alice.access);
    assert_eq!(client.get(&page).await.status(), 200);
    let asked = upstream.heard();
    let page = asked.last().expect("a request");
    assert!(
        page.target().contains("access_token"),
        "the app gets its requests as they are"
    );
}
