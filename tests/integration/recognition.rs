//! Who is not recognised, and why; and that it is told when it is everybody.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::backend::Variant;
use crate::support::chromium::Chromium;
use crate::support::member::Member;
use crate::support::postgres::Postgres;
use crate::support::redis::eventually;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World};

const OK: &str = "headcount_recognition_ok";
const TOLD: &str = "nobody is recognised";

fn not_counted(reason: &str) -> String {
    format!("headcount_page_views_not_counted_total{{reason=\"{reason}\"}}")
}

async fn readyz(sidecar: &Sidecar) -> String {
    let answer = reqwest::get(sidecar.admin_url("/readyz")).await;
    answer.expect("an answer").text().await.expect("text")
}

/// Navigates with this `Cookie` header.
async fn sees_with(visitor: &Member, cookies: &str) {
    let request = visitor.navigation("/about/").header("cookie", cookies);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

/// Sessions of Django's own that let nobody in.
#[tokio::test]
async fn i30_a_session_that_lets_nobody_in_is_counted_by_its_reason() {
    let world = Wanted::new(Parts::Production, Variant::Django).start().await;
    let pool = Postgres::shared().pool(world.database.name());
    let data = |json: &str| format!("{}:1tXyZa:c2ln", URL_SAFE_NO_PAD.encode(json));
    let account =
        "\"_auth_user_backend\":\"django.contrib.auth.backends.ModelBackend\",\"_auth_user_hash\":\"0f\"";
    for (reason, outcome, data) in [
        ("signed_out", "anonymous", data("{}")),
        (
            "no_profile",
            "no_profile",
            data(&format!("{{\"_auth_user_id\":\"987654\",{account}}}")),
        ),
        (
            "unreadable_session",
            "unreadable",
            "not what Django writes".into(),
        ),
    ] {
        let key = format!("{reason:0<32}").replace('_', "0");
        let insert = sqlx::query("INSERT INTO django_session VALUES ($1, $2, '2999-01-01')");
        let inserted = insert.bind(&key).bind(data).execute(&pool).await;
        inserted.expect("a row");
        sees_with(&world.stranger(), &format!("sessionid={key}")).await;
        world
            .sidecar
            .wait_for_metric(&not_counted(reason), |views| views == 1.0)
            .await;
        let outcome = format!("headcount_session_lookups_total{{outcome=\"{outcome}\"}}");
        assert!(world.sidecar.metric(&outcome).await >= 1.0, "{reason}");
    }
    assert_eq!(world.sidecar.metric(&not_counted("no_session")).await, 0.0);
    assert_eq!(world.page_views().await.len(), 0);
    pool.close().await;
}

#[tokio::test]
async fn h7_a_session_cookie_of_another_name_is_told_with_the_names_that_are_seen() {
    let mut world = World::usual().await;
    let other = ("HEADCOUNT__SESSION__COOKIE", "sessionid".to_owned());
    world.sidecar.restart_with(&[other]);
    let sidecar = &world.sidecar;
    let alice = world.member("alice").await;
    for number in 0..50 {
        assert_eq!(sidecar.metric(OK).await, 1.0, "{number}");
        alice.sees("/about/").await;
    }
    sidecar.wait_for_metric(OK, |ok| ok == 0.0).await;
    let ready = readyz(sidecar).await;
    let line = ready
        .lines()
        .find(|line| line.starts_with(&format!("degraded: {TOLD}")));
    let line = line.unwrap_or_else(|| panic!("{ready}"));
    for part in [
        "none of 50",
        "the cookie `sessionid` (session.cookie)",
        "`session_id`",
        "no_cookie: 50",
    ] {
        assert!(line.contains(part), "{line}");
    }
    alice.sees("/about/").await;
    let log = sidecar.says(TOLD);
    assert_eq!(log.matches(TOLD).count(), 1, "{log}");
    let cookie = alice.cookie();
    let (_, token) = cookie.split_once('=').expect("a cookie");
    assert!(!log.contains(token) && !ready.contains(token));

    let report: Value = {
        let answer = reqwest::get(sidecar.admin_url("/dashboard.json")).await;
        answer.expect("an answer").json().await.expect("JSON")
    };
    assert_eq!(
        (
            &report["page_views"]["unrecognised"],
            &report["page_views"]["total"]
        ),
        (&json!(51), &json!(0))
    );
    let browser = Chromium::start().await;
    browser.open(&sidecar.admin_url("/")).await;
    browser
        .wait_for("document.querySelector('#recognised dd').textContent === '0%'")
        .await;
    browser
        .wait_for("document.querySelector('#not-counted tr[data-key=no_cookie] td').textContent === '51'")
        .await;

    sees_with(&world.stranger(), &format!("sessionid={token}")).await;
    sidecar.wait_for_metric(OK, |ok| ok == 1.0).await;
    assert!(!readyz(sidecar).await.contains(TOLD));
    sidecar.says("visitors are recognised");
    browser
        .wait_for("document.querySelector('#recognised dd').textContent === '1.9%'")
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test]
async fn h9_each_reason_for_not_being_recognised_has_its_own_count() {
    let world = World::usual().await;
    let sidecar = &world.sidecar;
    let alice = world.member("alice").await;
    let cookie = alice.cookie();
    let ended = json!({"username": "alice"});
    world.site.tell("end-session", &ended).await;
    let stranger = world.stranger();
    for cookies in [
        "_ga=GA1.2.3",
        "session_id=short",
        "session_id=a-token-that-nobody-has",
        &cookie,
    ] {
        sees_with(&stranger, cookies).await;
    }
    for reason in ["no_cookie", "not_a_token", "no_session", "session_ended"] {
        let name = not_counted(reason);
        eventually(async || sidecar.metric(&name).await == 1.0).await;
    }
    // What is no page has other reasons, whoever asks.
    let redirected = stranger.get("/redirect").await;
    assert!(redirected.status().is_redirection());
    sidecar
        .wait_for_metric(&not_counted("redirect"), |views| views >= 1.0)
        .await;
    assert_eq!(sidecar.metric(&not_counted("no_cookie")).await, 1.0);

    // A site that hardly anybody signs in to.
    world.member("bob").await.sees("/about/").await;
    world.wait_for_views(1).await;
    for _ in 0..60 {
        sees_with(&stranger, "_ga=GA1.2.3; _gid=GA1.2.4").await;
    }
    sidecar
        .wait_for_metric(&not_counted("no_cookie"), |views| views == 61.0)
        .await;
    assert_eq!(sidecar.metric(OK).await, 1.0);
    assert!(!sidecar.log().contains(TOLD) && !readyz(sidecar).await.contains(TOLD));
}
