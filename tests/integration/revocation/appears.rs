//! Sessions whose row comes after their cookie (I10).

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Browser, Told};
use crate::support::backend::Variant;
use crate::support::fake_upstream::{FakeUpstream, Heard, OK, Reply};
use crate::support::member::Member;
use crate::support::world::{Wanted, World};

/// A cookie that the app keeps at sign-in.
const TOKEN: &str = "a-token-that-is-kept-at-sign-in";

/// Whose the cookie is, as the visitors API sees it.
async fn status(member: &Member, path: &str) -> StatusCode {
    let request = member.request(Method::GET, path);
    let request = request.header("cookie", format!("session_id={TOKEN}"));
    request.send().await.expect("an answer").status()
}

#[tokio::test]
async fn i10_a_session_whose_row_comes_after_its_cookie_is_told() {
    let told = Told::start(Variant::Default).await;
    let browser = Browser {
        member: told.world.stranger(),
        token: TOKEN.into(),
        keeper: told.world.stranger(),
        cookie: format!("session_id={TOKEN}"),
    };
    told.is_nobody(&browser).await;
    let row = json!({"username": "alice", "session_id": TOKEN});
    told.world.site.tell("add-session", &row).await;
    // The site makes the row, and then gives it this token.
    told.has_evicted("appeared", 2.0).await;
    told.has_evicted("changed", 1.0).await;
    told.is_somebody(&browser).await;
    // Waiting for a second factor.
    told.execute("UPDATE {session} SET is_active = false").await;
    told.has_evicted("changed", 2.0).await;
    told.is_nobody(&browser).await;
    told.execute("UPDATE {session} SET is_active = true").await;
    told.has_evicted("changed", 3.0).await;
    told.is_somebody(&browser).await;
}

/// What the app answers to a sign-in.
fn signs_in(request: &Heard) -> Reply {
    match request.target() {
        "POST /sign-in" => Reply::Keep(
            "HTTP/1.1 204 No Content\r\nSet-Cookie: session_id=a-token-that-is-kept-at-sign-in; Path=/; HttpOnly\r\n\r\n",
        ),
        _ => OK,
    }
}

#[tokio::test]
async fn i10_a_cookie_that_the_app_sets_is_asked_about_again() {
    let server = FakeUpstream::answering(signs_in).await;
    let world = World::usual().await;
    let wanted = Wanted {
        servers: Some(vec![server.address()]),
        session: "negative_ttl = \"1h\"".into(),
        ..Wanted::usual()
    };
    let sidecar = world.another_sidecar(&wanted);
    let visitor = Member::new(sidecar.url(""));
    let visitors = world.visitors("rust", "/count");
    assert_eq!(status(&visitor, &visitors).await, StatusCode::UNAUTHORIZED);
    let row = json!({"username": "alice", "session_id": TOKEN});
    world.site.tell("add-session", &row).await;
    let answer = visitor.request(Method::POST, "/sign-in").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(status(&visitor, &visitors).await, StatusCode::OK);
    let appeared = "headcount_session_evictions_total{reason=\"appeared\"}";
    assert_eq!(sidecar.metric(appeared).await, 1.0);
}
