//! Tests of access control; what the app decides itself is in `access_by_backend`.

use std::sync::Arc;

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::json;

use super::fakes::Mood;
use super::support::{Answer, Site, anonymous, member, now, with_header};
use crate::api::Caller;
use crate::browser_session::BrowserSession;
use crate::config::{Access, CommunityKey};
use crate::presence::grants::Verdict;

pub(super) const COUNT: &str = "/api/communities/42/visitors/count";
pub(super) const CHECK: &str = "/api/communities/42/";

fn without_answer() -> Caller {
    Caller {
        unavailable: true,
        ..Caller::default()
    }
}

pub(super) fn status(answer: &Answer) -> u16 {
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
