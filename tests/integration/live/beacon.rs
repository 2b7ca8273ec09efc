//! Page views that pages report themselves.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::member::{FIREFOX, Member};
use crate::support::wire::Wire;
use crate::support::world::{Wanted, World};

fn outcome(outcome: &str) -> String {
    format!("headcount_beacons_total{{outcome=\"{outcome}\"}}")
}

/// What a browser sends for `navigator.sendBeacon`.
fn beacon(world: &World, member: &Member, body: impl Into<String>) -> RequestBuilder {
    member
        .request(Method::POST, "/api/visits")
        .header("origin", world.sidecar.url(""))
        .header("sec-fetch-site", "same-origin")
        .header("sec-fetch-mode", "no-cors")
        .header("sec-fetch-dest", "empty")
        .header("user-agent", FIREFOX)
        .header("content-type", "text/plain;charset=UTF-8")
        .body(body.into())
}

async fn status(request: RequestBuilder) -> StatusCode {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    if status.is_success() {
        assert!(
            !response.headers().contains_key("content-length"),
            "{status} has no body"
        );
    } else {
        let problem: Value = response.json().await.expect("a problem document");
        assert_eq!(problem["status"], status.as_u16());
    }
    status
}

fn visit(url: &str) -> String {
    json!({"url": url, "referrer": ""}).to_string()
}

#[tokio::test]
async fn v5_a_reported_view_counts_like_a_navigation() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let community = world.community("rust");
    let url = world
        .sidecar
        .url(&format!("{community}posts/7/?secret=1#comments"));
    let referrer = world.sidecar.url("/about/?q=x");
    let body = json!({"url": url, "referrer": referrer}).to_string();
    assert_eq!(status(beacon(&world, &alice, body)).await, 204);
    let as_json = beacon(&world, &alice, visit("/c/rust/")).header("content-type", "application/json");
    assert_eq!(status(as_json).await, 204);
    let views = world.wait_for_views(2).await;
    assert_eq!(views[0]["username"], "alice");
    assert_eq!(views[0]["metadata"]["url"], format!("{community}posts/7/"));
    assert_eq!(views[0]["metadata"]["page_type"], "post");
    assert_eq!(views[0]["metadata"]["referrer"], world.sidecar.url("/about/"));
    assert_eq!(views[1]["metadata"]["url"], "/c/rust/");
    for view in &views {
        assert_eq!(view["metadata"]["community_id"], world.seeded.community("rust"));
    }
    let list = alice.json(&world.visitors("rust", "")).await;
    assert_eq!(
        (&list["current_visitors"], &list["visitors"][0]["pages_visited"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(world.sidecar.metric(&outcome("accepted")).await, 2.0);
}

#[tokio::test]
async fn v5_what_counts_nowhere_else_does_not_count_when_reported() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    for url in ["/healthz", "/api/visitors/counts?communities=1"] {
        assert_eq!(status(beacon(&world, &alice, visit(url))).await, 204, "{url}");
    }
    let robot = beacon(&world, &alice, visit("/about/")).header("user-agent", "curl/8.0");
    // The later of two headers would be another matter.
    let robot = robot.build().map(|mut robot| {
        robot
            .headers_mut()
            .insert("user-agent", "curl/8.0".parse().unwrap());
        robot
    });
    let answer = reqwest::Client::new()
        .execute(with_cookie(robot.unwrap(), &alice))
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    // Signed out meanwhile: a session of nobody's.
    assert_eq!(world.sidecar.metric(&outcome("not_counted")).await, 3.0);
    alice.sees("/about/").await;
    world.wait_for_views(1).await;
}

fn with_cookie(mut request: reqwest::Request, member: &Member) -> reqwest::Request {
    let cookie = member.cookie().parse().expect("a value");
    request.headers_mut().insert("cookie", cookie);
    request
}

#[tokio::test]
async fn v5_only_the_sites_own_pages_report_and_only_the_sites_own_addresses() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let page = world.community("rust");
    let elsewhere = |origin: &str, site: Option<&str>| {
        let request = alice.request(Method::POST, "/api/visits").body(visit(&page));
        let request = if origin.is_empty() {
            request
        } else {
            request.header("origin", origin)
        };
        match site {
            Some(site) => request.header("sec-fetch-site", site),
            None => request,
        }
    };
    for (origin, site) in [
        ("https://evil.test", Some("cross-site")),
        ("null", None),
        ("", Some("same-site")),
        ("", None),
    ] {
        assert_eq!(status(elsewhere(origin, site)).await, 403, "{origin} {site:?}");
    }
    for url in [
        "https://evil.test/communities/42/",
        "//evil.test/communities/42/",
        "javascript:alert(1)",
        "",
        "communities/42/",
        "http://",
        "/a b",
    ] {
        assert_eq!(status(beacon(&world, &alice, visit(url))).await, 400, "{url}");
    }
    for body in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"url":1}"#,
        r#"{"url":"/","more":1}"#,
        "\u{0}",
    ] {
        assert_eq!(status(beacon(&world, &alice, body)).await, 400, "{body:?}");
    }
    let form = beacon(&world, &alice, visit(&page)).build().map(|mut form| {
        form.headers_mut().insert(
            "content-type",
            "application/x-www-form-urlencoded".parse().unwrap(),
        );
        form
    });
    let answer = reqwest::Client::new()
        .execute(with_cookie(form.unwrap(), &alice))
        .await
        .unwrap();
    assert_eq!(answer.status(), 415);
    assert_eq!(status(beacon(&world, &world.stranger(), visit(&page))).await, 401);
    let large = json!({"url": "/", "referrer": "x".repeat(10_000)}).to_string();
    assert_eq!(status(beacon(&world, &alice, large)).await, 413);
    let get = alice.get("/api/visits").await;
    assert_eq!(
        (get.status().as_u16(), get.headers()["allow"].to_str().unwrap()),
        (405, "POST")
    );
    for (name, times) in [
        ("origin", 4.0),
        ("malformed", 15.0),
        ("anonymous", 1.0),
        ("too_large", 1.0),
        ("accepted", 0.0),
    ] {
        assert_eq!(world.sidecar.metric(&outcome(name)).await, times, "{name}");
    }
    assert_eq!(
        world.sidecar.metric("headcount_page_views_counted_total").await,
        0.0
    );
}

#[tokio::test]
async fn v5_a_session_reports_so_much_and_no_more() {
    let wanted = Wanted {
        config: "[api]\nbeacon_rate = 1\n".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    for _ in 0..10 {
        assert_eq!(status(beacon(&world, &alice, visit("/about/"))).await, 204);
    }
    assert_eq!(status(beacon(&world, &alice, visit("/about/"))).await, 429);
    assert_eq!(status(beacon(&world, &bob, visit("/about/"))).await, 204);
    assert_eq!(world.sidecar.metric(&outcome("too_many")).await, 1.0);
    world.wait_for_views(11).await;
}

#[tokio::test]
async fn a_report_that_does_not_come_to_an_end_is_given_up() {
    let wanted = Wanted {
        config: "[api]\ntimeout = \"1s\"\n".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let mut wire = Wire::open(world.sidecar.port).await;
    wire.send("POST /api/visits HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{\"url\"")
        .await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, &answer.json()["status"]), (408, &408.into()));
    wire.closes().await;
}

/// What a client breaks off or garbles is no failure of the server.
#[tokio::test]
async fn i15_a_broken_report_counts_as_the_clients_fault() {
    let wanted = Wanted {
        config: "[limits]\nread_timeout = \"1s\"\n".into(),
        ..Wanted::usual()
    };
    let world = wanted.start().await;
    let head = "POST /api/visits HTTP/1.1\r\nHost: a\r\n";
    for (rest, expected) in [
        ("Transfer-Encoding: chunked\r\n\r\nno size\r\n", 400),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\n{\"url", 408),
        ("Content-Length: 100\r\n\r\n{\"url\"", 408),
    ] {
        let mut wire = Wire::open(world.sidecar.port).await;
        wire.send(format!("{head}{rest}")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, expected, "{rest}");
        assert_eq!(answer.json()["status"], expected, "{rest}");
        wire.closes().await;
    }
    let counted =
        |class: &str| format!("headcount_requests_total{{route=\"visitors_api\",status=\"{class}\"}}");
    world
        .sidecar
        .wait_for_metric(&counted("4xx"), |refused| refused == 3.0)
        .await;
    let failed = world.sidecar.metrics().await.get(&counted("5xx")).copied();
    assert!(failed.is_none_or(|failed| failed == 0.0), "{failed:?}");
    assert!(!world.sidecar.log().contains("could not be proxied"));
}

/// A page may report one view after the other on one connection.
#[tokio::test]
async fn reports_keep_their_connection() {
    let world = World::usual().await;
    let alice = world.member("alice").await;
    let mut wire = Wire::open(world.sidecar.port).await;
    let body = visit("/about/");
    for _ in 0..3 {
        wire.send(format!(
            "POST /api/visits HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nCookie: {}\r\nUser-Agent: {FIREFOX}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            alice.cookie(),
            body.len()
        ))
        .await;
        assert_eq!(wire.answer().await.status, 204);
    }
    world.wait_for_views(3).await;
}
