//! Tests of error answers, and of headers that every answer has.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::fakes::Mood;
use super::support::{Site, anonymous, member, send};
use crate::config::Access;

const LIST: &str = "/api/communities/42/visitors";
const COUNT: &str = "/api/communities/42/visitors/count";
const STATS: &str = "/api/communities/42/visitors/stats";
const COUNTS: &str = "/api/visitors/counts?communities=42";

#[tokio::test]
async fn presence_away_is_a_503_and_broken_a_500_with_fixed_texts() {
    for (mood, status) in [(Mood::Away, 503), (Mood::Broken, 500)] {
        let site = Site::new();
        *site.presence.mood.lock().unwrap() = mood;
        for path in [LIST, COUNT, COUNTS] {
            let answer = site.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert!(!answer.detail().contains("secret"));
        }
        assert_eq!(site.get(STATS).await.status, StatusCode::OK, "reads no presence");
    }
}

#[tokio::test]
async fn answers_from_memory_say_that_they_are_stale() {
    for (stale_counts, stale_lists, expected) in [
        (false, false, [false, false, false]),
        (true, false, [true, true, true]),
        (false, true, [true, false, false]),
    ] {
        let site = Site::new();
        site.visitor("42", "7", 0);
        site.presence.stale_counts.store(stale_counts, Ordering::Relaxed);
        site.presence.stale_lists.store(stale_lists, Ordering::Relaxed);
        for (path, expected) in [LIST, COUNT, COUNTS].iter().zip(expected) {
            let answer = site.get(path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert_eq!(answer.json()["stale"], expected, "{path}");
        }
        let list = site.get(LIST).await.json();
        assert_eq!(list["current_visitors"], 1);
        assert_eq!(list["visitors"][0]["user_id"], 7);
    }
}

#[tokio::test]
async fn the_database_away_is_a_503_and_broken_a_500_with_fixed_texts() {
    for (mood, status) in [(Mood::Away, 503), (Mood::Broken, 500)] {
        let site = Site::new();
        *site.store.mood.lock().unwrap() = mood;
        for path in [LIST, COUNT, STATS, COUNTS] {
            let answer = site.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert!(!answer.detail().contains("secret"));
        }
    }
}

#[tokio::test]
async fn the_database_away_after_the_community_was_found_is_a_503_where_it_is_needed() {
    let site = Site::new();
    site.visitor("42", "7", 0);
    site.get(COUNT).await;
    *site.store.mood.lock().unwrap() = Mood::Away;
    assert_eq!(site.get(LIST).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get(STATS).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get(COUNT).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_failed_lookup_is_not_remembered() {
    let site = Site::new();
    *site.store.mood.lock().unwrap() = Mood::Away;
    assert_eq!(site.get(STATS).await.status, StatusCode::SERVICE_UNAVAILABLE);
    *site.store.mood.lock().unwrap() = Mood::Fine;
    assert_eq!(site.get(STATS).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_503_says_when_to_try_again() {
    let site = Site::new();
    *site.store.mood.lock().unwrap() = Mood::Away;
    let answer = site.get(COUNT).await;
    assert!(
        answer.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    assert_eq!(
        answer.json(),
        json!({
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "This cannot be answered right now. Try again soon.",
        })
    );
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_503() {
    let site = Site::with(|settings| settings.timeout = Duration::from_millis(20));
    *site.store.mood.lock().unwrap() = Mood::Hung;
    for path in [LIST, COUNT, STATS, COUNTS] {
        assert_eq!(
            site.get(path).await.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}"
        );
    }
}

#[tokio::test]
async fn more_requests_than_the_bound_are_answered_503_at_once() {
    let site = Site::new();
    let hold = site.store.hold.lock().await;
    let requests: Vec<_> = (0..256)
        .map(|_| {
            let api = site.api.clone();
            tokio::spawn(async move { send(&api, Method::GET, COUNT, member()).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.get(COUNT).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let head = site.send(Method::HEAD, COUNT, member()).await;
    assert_eq!(head.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(head.body.is_empty());
    drop(hold);
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(site.get(COUNT).await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_methods_are_refused_with_the_ones_allowed() {
    let site = Site::new();
    for path in [
        LIST,
        COUNT,
        STATS,
        COUNTS,
        "/api/visitors/openapi.json",
        "/api/communities/404/visitors/",
    ] {
        for method in [
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
            Method::TRACE,
        ] {
            let answer = site.send(method.clone(), path, anonymous()).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answer.headers["allow"], "GET,HEAD", "{method} {path}");
            assert_eq!(answer.detail(), "Method not allowed.");
        }
    }
}

#[tokio::test]
async fn no_answer_about_people_may_be_stored_and_none_may_be_sniffed() {
    let site = Site::new();
    let away = Site::new();
    *away.store.mood.lock().unwrap() = Mood::Away;
    let answers = [
        site.get(LIST).await,
        site.get(COUNT).await,
        site.get(STATS).await,
        site.get(COUNTS).await,
        site.get("/api/communities/42/visitors?limit=0").await,
        site.get_as(anonymous(), LIST).await,
        site.get("/api/communities/404/visitors").await,
        site.send(Method::POST, LIST, member()).await,
        away.get(LIST).await,
    ];
    for answer in answers {
        assert_eq!(answer.headers["cache-control"], "no-store", "{}", answer.status);
        assert_eq!(answer.headers["vary"], "Cookie", "{}", answer.status);
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
    }
}

#[tokio::test]
async fn a2_every_problem_is_a_complete_document() {
    let site = Site::with_access(Access::Session);
    for (answer, title) in [
        (site.get("/api/visitors/counts").await, "Bad Request"),
        (site.get_as(anonymous(), LIST).await, "Unauthorized"),
        (site.get("/api/communities/404/visitors").await, "Not Found"),
        (
            site.send(Method::POST, LIST, member()).await,
            "Method Not Allowed",
        ),
    ] {
        let document = answer.json();
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["title"], title);
        assert_eq!(document["status"], answer.status.as_u16());
        assert!(!answer.detail().is_empty());
    }
}
