//! Tests of answers that end a session, where nothing is recorded and the intake reads requests for the API's sake alone.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::*;
use crate::page_view::Exchange;

const TOKEN: &str = "token-of-alice-token-of-alice";

/// The app's answer to a request with the session's cookie.
fn answers(intake: &Intake, set_cookie: &'static str) {
    let cookie = &crate::config::Session::default().cookie;
    let header = |text: String| HeaderValue::from_str(&text).expect("a header");
    let request = HeaderMap::from_iter([(COOKIE, header(format!("{cookie}={TOKEN}")))]);
    let response = HeaderMap::from_iter([(SET_COOKIE, header(set_cookie.replace("NAME", cookie)))]);
    let facts = RequestFacts::new(Utc::now());
    let exchange = Exchange {
        method: &Method::POST,
        path: "/sign-out/",
        query: None,
        request: &request,
        status: StatusCode::FOUND,
        response: &response,
        route: None,
        is_of_a_file: false,
        has_token: false,
        counted_elsewhere: false,
        client_ip: None,
        started_at: facts.at,
        duration: Duration::ZERO,
    };
    intake.record_exchange(&facts, exchange);
}

#[tokio::test]
async fn a29_a_sign_out_is_noticed_where_nothing_is_recorded() {
    for (set_cookie, is_over) in [
        ("NAME=; Max-Age=0; Path=/", true),
        ("NAME=another-token-another-token; Path=/", true),
        ("csrftoken=; Max-Age=0; Path=/", false),
    ] {
        let bench = Bench::new();
        bench.signs_in(TOKEN);
        let intake = Intake {
            is_recording: false,
            ..testing::intake(bench.table.clone())
        };
        assert!(!intake.asks_for_visitors());
        let authenticator = Arc::clone(&intake.recorder.authenticator);
        let is_somebody = async || {
            let found = authenticator.resolve(&SessionToken::new(TOKEN), Utc::now()).await;
            found.expect("an answer").is_some()
        };
        assert!(is_somebody().await);
        bench.table.rows.lock().unwrap().clear();
        assert!(is_somebody().await, "from the cache");
        answers(&intake, set_cookie);
        assert_eq!(is_somebody().await, !is_over, "{set_cookie}");
    }
}
