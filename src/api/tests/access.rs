//! Tests of access control.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::json;

use super::fakes::Mood;
use super::support::{Answer, Site, anonymous, member, member_called, now, send, with_header};
use crate::api::Caller;
use crate::browser_session::BrowserSession;
use crate::config::{Access, CommunityKey};
use crate::key_type::KeyType;
use crate::presence::grants::Verdict;

const COUNT: &str = "/api/communities/42/visitors/count";
const CHECK: &str = "/api/communities/42/";

fn without_answer() -> Caller {
    Caller {
        unavailable: true,
        ..Caller::default()
    }
}

fn status(answer: &Answer) -> u16 {
    answer.status.as_u16()
}

#[tokio::test]
async fn session_access_asks_for_a_session() {
    let site = Site::with_access(Access::Session);
    assert_eq!(status(&site.get_as(member(), COUNT).await), 200);
    for path in [
        COUNT,
        "/api/communities/42/visitors",
        "/api/communities/42/visitors/stats",
        "/api/communities/404/visitors/count",
        "/api/visitors/counts?communities=42",
    ] {
        let refused = site.get_as(anonymous(), path).await;
        assert_eq!(status(&refused), 401, "{path}");
        assert_eq!(refused.detail(), "Sign in to see this.");
    }
    assert_eq!(site.backend.times_asked(), 0);
}

/// I3: a session that was valid when it was looked up may not be at use.
#[tokio::test]
async fn a_session_that_is_inactive_ended_or_expired_counts_as_nobody() {
    let site = Site::with_access(Access::Session);
    let invalidate: [fn(&mut BrowserSession); 3] = [
        |session| session.is_active = false,
        |session| session.is_ended = true,
        |session| session.expires_at = now() - TimeDelta::seconds(1),
    ];
    for invalidate in invalidate {
        let mut caller = member();
        invalidate(Arc::make_mut(caller.session.as_mut().unwrap()));
        assert_eq!(status(&site.get_as(caller, COUNT).await), 401);
    }
}

#[tokio::test]
async fn i10_a_caller_whose_session_may_appear_is_told_when_to_ask_again() {
    let site = Site::with_access(Access::Session);
    let caller = Caller {
        may_appear: true,
        ..Caller::default()
    };
    let answer = site.get_as(caller, COUNT).await;
    assert_eq!(status(&answer), 401);
    assert_eq!(answer.headers["retry-after"], "1");
    let refused = site.get_as(anonymous(), COUNT).await;
    assert!(!refused.headers.contains_key("retry-after"));
    assert_eq!(refused.body, answer.body);
}

#[tokio::test]
async fn a_caller_whose_session_cannot_be_looked_up_is_asked_to_come_back() {
    for access in [Access::Visited, Access::Session, Access::Backend] {
        let site = Site::with_access(access);
        let answer = site.get_as(without_answer(), COUNT).await;
        assert_eq!(status(&answer), 503, "{access:?}");
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(site.backend.times_asked(), 0);
    }
}

#[tokio::test]
async fn public_access_needs_nobody() {
    let site = Site::with_access(Access::Public);
    assert_eq!(status(&site.get_as(anonymous(), COUNT).await), 200);
    assert_eq!(status(&site.get_as(without_answer(), COUNT).await), 200);
    assert_eq!(site.backend.times_asked(), 0);
}

#[tokio::test]
async fn a_request_without_a_caller_is_anonymous() {
    let site = Site::with_access(Access::Session);
    let answer = site.get_as(Caller::default(), COUNT).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_contract_is_for_everybody() {
    for access in [Access::Visited, Access::Session, Access::Backend, Access::Public] {
        let answer = Site::with_access(access)
            .get_as(without_answer(), "/api/visitors/openapi.json")
            .await;
        assert_eq!(status(&answer), 200);
    }
}

#[tokio::test]
async fn only_a_200_of_the_backend_is_a_yes() {
    for (backend, expected) in [
        (200, 200),
        (201, 404),
        (204, 404),
        (301, 404),
        (302, 404),
        (304, 404),
        (400, 404),
        (401, 404),
        (403, 404),
        (404, 404),
        (410, 404),
        (408, 503),
        (429, 503),
        (500, 503),
        (502, 503),
        (503, 503),
    ] {
        for caller in [member(), anonymous()] {
            let site = Site::with_access(Access::Backend);
            site.backend.says(CHECK, StatusCode::from_u16(backend).unwrap());
            assert_eq!(status(&site.get_as(caller, COUNT).await), expected, "{backend}");
        }
    }
}

#[tokio::test]
async fn a_backend_that_cannot_be_asked_lets_nobody_in_and_is_asked_again() {
    let site = Site::with_access(Access::Backend);
    site.backend.says(CHECK, None);
    assert_eq!(status(&site.get(COUNT).await), 503);
    site.backend.says(CHECK, StatusCode::OK);
    assert_eq!(status(&site.get(COUNT).await), 200);
}

/// I9: forbidden and absent are the same bytes, whoever asks and whatever for, and even while the backend is
/// in trouble.
#[tokio::test]
async fn forbidden_and_absent_look_the_same() {
    let site = Site::with_access(Access::Backend);
    site.backend.says(CHECK, StatusCode::FORBIDDEN);
    site.backend.says("/api/communities/404/", StatusCode::NOT_FOUND);
    site.store.community("43");
    site.backend.says("/api/communities/43/", None);
    site.backend.says("/api/communities/405/", None);
    for operation in ["", "/count", "/stats", "?limit=0", "/stats?days=x"] {
        for caller in [member(), anonymous()] {
            for (there, absent) in [("42", "404"), ("43", "405")] {
                let ask = async |id| {
                    let path = format!("/api/communities/{id}/visitors{operation}");
                    site.get_as(caller.clone(), &path).await
                };
                assert_eq!(ask(there).await, ask(absent).await, "{operation}");
            }
        }
    }
    assert_eq!(status(&site.get(COUNT).await), 404);
    let lists_nothing = site.get("/api/visitors/counts?communities=42,404").await;
    assert_eq!(lists_nothing.json()["counts"], json!([]));
}

#[tokio::test]
async fn an_absent_community_is_not_found_whatever_the_backend_says() {
    let site = Site::with_access(Access::Backend);
    assert_eq!(
        status(&site.get("/api/communities/404/visitors/count").await),
        404
    );
}

#[tokio::test]
async fn the_backend_is_asked_about_the_rows_own_id_percent_encoded() {
    let site = Site::with_access(Access::Backend);
    site.get("/api/communities/042/visitors/count").await;
    site.store.keys_are(KeyType::Text(None), KeyType::BIGINT);
    site.store.community("ä/ b?");
    site.get("/api/communities/%C3%A4%2F%20b%3F/visitors/count").await;
    site.get("/api/communities/%2E%2E/visitors/count").await;
    assert_eq!(
        *site.backend.asked.lock().unwrap(),
        [CHECK, "/api/communities/%C3%A4%2F%20b%3F/"]
    );
}

#[tokio::test]
async fn the_backends_word_is_used_for_a_while_for_the_same_session_and_community() {
    let site = Site::with_access(Access::Backend);
    site.store.community("43");
    for _ in 0..3 {
        site.get_as(member_called("s1"), COUNT).await;
        site.get_as(member_called("s1"), "/api/communities/42/visitors/stats")
            .await;
    }
    assert_eq!(site.backend.times_asked(), 1);
    site.get_as(member_called("s2"), COUNT).await;
    assert_eq!(site.backend.times_asked(), 2);
    site.get_as(member_called("s1"), "/api/communities/43/visitors")
        .await;
    assert_eq!(site.backend.times_asked(), 3);
}

#[tokio::test]
async fn the_backends_no_is_used_for_a_while_too() {
    let site = Site::with_access(Access::Backend);
    site.backend.says(CHECK, StatusCode::FORBIDDEN);
    for _ in 0..3 {
        assert_eq!(status(&site.get(COUNT).await), 404);
    }
    assert_eq!(site.backend.times_asked(), 1);
}

#[tokio::test]
async fn with_a_ttl_of_zero_the_backend_is_asked_each_time() {
    let site = Site::with(|settings| {
        settings.access = Access::Backend;
        settings.backend_check_ttl = Duration::ZERO;
    });
    assert_eq!(status(&site.get(COUNT).await), 200);
    site.backend.says(CHECK, StatusCode::FORBIDDEN);
    assert_eq!(status(&site.get(COUNT).await), 404);
}

/// The backend may know users that the session table does not. What it shows to one of them is not shown to
/// others.
#[tokio::test]
async fn a_yes_for_credentials_that_the_sidecar_does_not_know_is_nobody_elses() {
    let site = Site::with_access(Access::Backend);
    site.backend.says(CHECK, StatusCode::FORBIDDEN);
    *site.backend.master_cookie.lock().unwrap() = Some("sessionid=staff");
    let staff = || with_header(anonymous(), "cookie", "sessionid=staff");
    assert_eq!(status(&site.get_as(staff(), COUNT).await), 200);
    assert_eq!(status(&site.get_as(anonymous(), COUNT).await), 404);
    let other = with_header(anonymous(), "cookie", "sessionid=other");
    assert_eq!(status(&site.get_as(other, COUNT).await), 404);
    let bearer = with_header(staff(), "authorization", "Bearer x");
    site.get_as(bearer, COUNT).await;
    assert_eq!(site.backend.times_asked(), 4);
    site.get_as(staff(), COUNT).await;
    site.get_as(anonymous(), COUNT).await;
    assert_eq!(site.backend.times_asked(), 4);
}

/// I2, for checks: many requests of one caller are one question.
#[tokio::test]
async fn identical_checks_at_the_same_time_are_one() {
    let site = Site::with_access(Access::Backend);
    let hold = site.backend.hold.lock().await;
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let api = site.api.clone();
            tokio::spawn(async move { send(&api, http::Method::GET, COUNT, member()).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(hold);
    for request in requests {
        assert_eq!(status(&request.await.unwrap()), 200);
    }
    assert_eq!(site.backend.times_asked(), 1);
}

#[tokio::test]
async fn counts_leave_out_what_the_caller_may_not_see_and_ask_a_few_at_a_time() {
    let site = Site::with_access(Access::Backend);
    let ids: Vec<String> = (1..=100).map(|id| id.to_string()).collect();
    for id in &ids {
        site.store.community(id);
        if id != "9" && id != "11" {
            site.backend
                .says(&format!("/api/communities/{id}/"), StatusCode::FORBIDDEN);
        }
    }
    let path = format!("/api/visitors/counts?communities={}", ids.join(","));
    let counts = site.get(&path).await.json()["counts"].clone();
    assert_eq!(
        counts,
        json!([
            {"community_id": 9, "current_visitors": 0},
            {"community_id": 11, "current_visitors": 0},
        ])
    );
    assert_eq!(site.backend.times_asked(), 100);
    assert!(site.backend.most_in_flight.load(Ordering::Relaxed) <= 8);
}

#[tokio::test]
async fn checks_of_all_callers_together_are_bounded() {
    let site = Site::with_access(Access::Backend);
    let hold = site.backend.hold.lock().await;
    let requests: Vec<_> = (0..50)
        .map(|caller| {
            let api = site.api.clone();
            tokio::spawn(async move {
                let caller = member_called(&caller.to_string());
                send(&api, http::Method::GET, COUNT, caller).await
            })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.backend.times_asked(), 16);
    drop(hold);
    for request in requests {
        assert_eq!(status(&request.await.unwrap()), 200);
    }
}

#[tokio::test]
async fn counts_of_which_one_cannot_be_checked_are_not_answered() {
    let site = Site::with_access(Access::Backend);
    site.store.community("43");
    site.backend.says("/api/communities/43/", None);
    let answer = site.get("/api/visitors/counts?communities=42,43").await;
    assert_eq!(status(&answer), 503);
}

#[tokio::test]
async fn existence_cannot_be_told_from_answers_while_the_database_is_away() {
    let site = Site::with_access(Access::Backend);
    *site.store.mood.lock().unwrap() = Mood::Away;
    let there = site.get(COUNT).await;
    assert_eq!(status(&there), 503);
    assert_eq!(there, site.get("/api/communities/404/visitors/count").await);
}

#[test]
fn a_caller_does_not_print_its_credentials() {
    let caller = with_header(member(), "cookie", "session_id=very-secret");
    assert!(!format!("{caller:?}").contains("very-secret"));
}

#[tokio::test]
async fn a7_whoever_the_app_has_not_shown_a_community_is_told_what_there_is_not() {
    let site = Site::with_access(Access::Visited);
    site.store.community("43");
    let paths = ["", "?limit=5", "/count", "/stats"];
    for path in paths {
        let forbidden = site.get(&format!("/api/communities/42/visitors{path}")).await;
        let absent = site.get(&format!("/api/communities/404/visitors{path}")).await;
        assert_eq!(status(&forbidden), 404, "{path}");
        assert_eq!(forbidden, absent, "{path}");
    }
    site.answered("42", Verdict::Shown);
    for path in paths {
        let path = format!("/api/communities/42/visitors{path}");
        assert_eq!(status(&site.get(&path).await), 200, "{path}");
        assert_eq!(status(&site.get_as(anonymous(), &path).await), 401, "{path}");
    }
    let counts = site
        .get("/api/visitors/counts?communities=43,42,404")
        .await
        .json();
    assert_eq!(counts["counts"].as_array().unwrap().len(), 1);
    assert_eq!(counts["counts"][0]["community_id"], 42);
    site.answered("42", Verdict::Refused);
    assert_eq!(status(&site.get(COUNT).await), 404);
    assert_eq!(site.backend.times_asked(), 0);
}

#[tokio::test]
async fn v23_a_community_is_named_as_it_was_asked_for() {
    let site = Site::with(|settings| settings.community_key = CommunityKey::Either);
    site.store.slug("rust", "42");
    site.visitor("42", "7", 1);
    for (asked, named) in [("rust", json!("rust")), ("42", json!(42)), ("042", json!(42))] {
        for path in ["", "/count", "/stats"] {
            let path = format!("/api/communities/{asked}/visitors{path}");
            assert_eq!(site.get(&path).await.json()["community_id"], named, "{path}");
        }
    }
    let counts = site
        .get("/api/visitors/counts?communities=rust,404,nowhere")
        .await;
    let counts = counts.json();
    assert_eq!(
        counts["counts"],
        json!([{"community_id": "rust", "current_visitors": 1}])
    );
    let counts = site.get("/api/visitors/counts?communities=42,rust").await.json();
    assert_eq!(
        counts["counts"],
        json!([{"community_id": 42, "current_visitors": 1}, {"community_id": "rust", "current_visitors": 1}]),
        "under each name"
    );
    let counts = site
        .get("/api/visitors/counts?communities=42,042,rust")
        .await
        .json();
    assert_eq!(counts["counts"].as_array().unwrap().len(), 2, "each once");
}

#[tokio::test]
async fn v23_an_unknown_slug_is_an_unknown_community() {
    for key in [CommunityKey::Id, CommunityKey::Slug, CommunityKey::Either] {
        let site = Site::with(|settings| settings.community_key = key);
        let by_id = site.get("/api/communities/404/visitors").await;
        let by_slug = site.get("/api/communities/nowhere/visitors").await;
        assert_eq!(status(&by_id), 404);
        assert_eq!(by_id, by_slug, "{key:?}");
    }
}

#[tokio::test]
async fn v26_the_backend_is_asked_by_slug_where_its_path_says_so() {
    let site = Site::with(|settings| {
        settings.access = Access::Backend;
        settings.community_key = CommunityKey::Either;
        settings.backend_check = "/c/{community_slug}/".into();
    });
    site.store.slug("rust", "42");
    site.backend.says("/c/rust/", StatusCode::OK);
    site.backend.says("/c/404/", StatusCode::NOT_FOUND);
    site.backend.says("/c/no%2Fwhere/", StatusCode::NOT_FOUND);
    for (asked, expected) in [("rust", 200), ("42", 200), ("404", 404), ("no%2Fwhere", 404)] {
        let answer = site
            .get(&format!("/api/communities/{asked}/visitors/count"))
            .await;
        assert_eq!(status(&answer), expected, "{asked}");
    }
}

/// A slug that there is not may look like the id of a community.
#[tokio::test]
async fn v26_what_the_backend_said_of_a_name_is_not_said_of_an_id() {
    let site = Site::with(|settings| {
        settings.access = Access::Backend;
        settings.community_key = CommunityKey::Slug;
        settings.backend_check = "/c/{community_slug}/".into();
    });
    site.store.slug("rust", "42");
    site.backend.says("/c/rust/", StatusCode::OK);
    site.backend.says("/c/42/", StatusCode::NOT_FOUND);
    for (asked, expected) in [("42", 404), ("rust", 200), ("42", 404)] {
        let answer = site
            .get(&format!("/api/communities/{asked}/visitors/count"))
            .await;
        assert_eq!(status(&answer), expected, "{asked}");
    }
}
