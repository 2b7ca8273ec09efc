//! Tests of `access = "backend"`: what the app's answer decides, for how long it is used, and how often it is asked.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::access::{CHECK, COUNT, status};
use super::support::{Site, anonymous, member, member_called, send, with_header};
use crate::config::{Access, CommunityKey};
use crate::key_type::KeyType;

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
