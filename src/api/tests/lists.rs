//! Tests of the visitor list and its pages.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use chrono::TimeDelta;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Site, member, now};
use crate::api::cursor;
use crate::store::VisitorRow;

const LIST: &str = "/api/communities/42/visitors";

#[tokio::test]
async fn the_list_has_exactly_the_documented_fields() {
    let site = Site::new();
    site.presence.seen("42", "7", now());
    site.store.row(VisitorRow {
        user_id: "7".into(),
        username: "alice".into(),
        avatar: Some("profile_pics/alice.png".into()),
        started_at: Some(now() - TimeDelta::hours(1)),
        pages_visited: Some(12),
    });
    let answer = site.get(LIST).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({
            "community_id": 42,
            "current_visitors": 1,
            "window_seconds": 300,
            "as_of": "2026-11-23T07:39:18.123456Z",
            "stale": false,
            "visitors": [{
                "user_id": 7,
                "username": "alice",
                "avatar": "/media/profile_pics/alice.png",
                "started_at": "2026-11-23T06:39:18.123456Z",
                "pages_visited": 12,
                "last_seen_at": "2026-11-23T07:39:18.123000Z",
            }],
            "next": null,
        })
    );
}

#[tokio::test]
async fn a_visitor_without_picture_or_session_has_nulls() {
    let site = Site::new();
    site.visitor("42", "7", 0);
    let visitor = &site.get(LIST).await.json()["visitors"][0];
    for field in ["avatar", "started_at", "pages_visited"] {
        assert_eq!(visitor[field], Value::Null, "{field}");
    }
}

#[tokio::test]
async fn a_community_nobody_is_in_has_an_empty_list_and_asks_for_no_profiles() {
    let site = Site::new();
    let answer = site.get(LIST).await.json();
    assert_eq!(answer["current_visitors"], 0);
    assert_eq!(answer["visitors"], json!([]));
    assert_eq!(answer["next"], Value::Null);
    assert_eq!(site.store.profile_lookups.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn visitors_are_listed_latest_first_whatever_order_the_store_answers_in() {
    let site = Site::new();
    for (user, seconds_ago) in [("1", 30), ("2", 10), ("3", 20)] {
        site.visitor("42", user, seconds_ago);
    }
    assert_eq!(users(&site.get(LIST).await.json()), ["2", "3", "1"]);
}

/// P13: a community of 50 000, many of them seen in the same millisecond.
#[tokio::test]
async fn paging_shows_each_of_50_000_once_with_one_profile_lookup_per_page() {
    const PEOPLE: i64 = 50_000;
    let site = Site::new();
    for user in 0..PEOPLE {
        // In the order of the list, so that filling the fake is quick; groups of 1000 share a moment.
        let user = PEOPLE - user;
        site.visitor("42", &format!("{user:05}"), 50 - user / 1000);
    }
    let mut listed = HashSet::new();
    let mut pages = 0;
    let mut path = format!("{LIST}?limit=200");
    loop {
        let page = site.get(&path).await.json();
        pages += 1;
        assert_eq!(page["current_visitors"], PEOPLE);
        for user in users(&page) {
            assert!(listed.insert(user), "shown twice");
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{LIST}?limit=200&cursor={next}");
    }
    assert_eq!(listed.len(), 50_000);
    assert_eq!(pages, 250);
    assert_eq!(site.store.profile_lookups.load(Ordering::Relaxed), pages);
}

/// W1: users deleted a second ago are still present for a while.
#[tokio::test]
async fn users_without_a_profile_are_left_out_and_do_not_break_paging() {
    let site = Site::new();
    for user in 1..=9 {
        site.visitor("42", &user.to_string(), user);
    }
    for gone in ["gone-a", "gone-b", "gone-c"] {
        site.presence
            .seen("42", gone, now() - TimeDelta::milliseconds(4500));
    }
    let mut listed = Vec::new();
    let mut path = format!("{LIST}?limit=2");
    loop {
        let page = site.get(&path).await.json();
        listed.extend(users(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{LIST}?limit=2&cursor={next}");
    }
    assert_eq!(listed, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

/// A cursor holds a user's id.
#[tokio::test]
async fn s16_no_cursor_names_somebody_who_is_not_shown() {
    for limit in 1..=4 {
        let site = Site::new();
        for place in 0..12 {
            if [0, 3, 4, 5, 8, 11].contains(&place) {
                let at = now() - TimeDelta::seconds(place);
                site.presence.seen("42", &format!("hidden-{place}"), at);
            } else {
                site.visitor("42", &place.to_string(), place);
            }
        }
        let mut listed = Vec::new();
        let mut path = format!("{LIST}?limit={limit}");
        loop {
            let page = site.get(&path).await.json();
            let users = users(&page);
            assert!(
                !users.is_empty() || page["next"].is_null(),
                "no page is empty but the last"
            );
            listed.extend(users);
            let Some(next) = page["next"].as_str() else { break };
            let user = cursor::decode(next).expect("a cursor").user;
            assert_eq!(Some(user.as_str()), listed.last().map(String::as_str));
            path = format!("{LIST}?limit={limit}&cursor={next}");
        }
        assert_eq!(listed, ["1", "2", "6", "7", "9", "10"], "{limit}");
    }
}

#[tokio::test]
async fn the_last_full_page_leads_nowhere() {
    let site = Site::new();
    site.visitor("42", "1", 1);
    site.visitor("42", "2", 2);
    let page = site.get(&format!("{LIST}?limit=2")).await.json();
    assert_eq!(users(&page).len(), 2);
    assert_eq!(page["next"], Value::Null);
}

#[tokio::test]
async fn the_default_limit_is_50_or_the_maximum_where_that_is_smaller() {
    for (max_limit, expected) in [(200, 50), (10, 10)] {
        let site = Site::with(|settings| settings.max_limit = max_limit);
        for user in 0..60 {
            site.visitor("42", &user.to_string(), user);
        }
        assert_eq!(users(&site.get(LIST).await.json()).len(), expected);
    }
}

#[tokio::test]
async fn without_identities_the_list_says_how_many_but_not_who() {
    let site = Site::with(|settings| settings.identities = false);
    for user in 0..60 {
        site.visitor("42", &user.to_string(), user);
    }
    let answer = site.get(LIST).await.json();
    assert_eq!(answer["current_visitors"], 60);
    assert_eq!(answer["visitors"], json!([]));
    assert_eq!(answer["next"], Value::Null);
    assert_eq!(site.store.profile_lookups.load(Ordering::Relaxed), 0);
    let stats = site.get("/api/communities/42/visitors/stats").await;
    assert_eq!(stats.status, StatusCode::OK);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let site = Site::new();
    site.visitor("42", "7", 0);
    for path in [
        LIST,
        "/api/communities/42/visitors/count",
        "/api/communities/42/visitors/stats",
        "/api/visitors/counts?communities=42",
        "/api/visitors/openapi.json",
        "/api/communities/404/visitors",
    ] {
        let get = site.get(path).await;
        let head = site.send(Method::HEAD, path, member()).await;
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.headers, get.headers, "{path}");
        assert!(head.body.is_empty(), "{path}");
        assert_eq!(
            get.headers["content-length"],
            get.body.len().to_string(),
            "{path}"
        );
    }
}

/// The users on a page, as text.
fn users(page: &Value) -> Vec<String> {
    let visitors = page["visitors"].as_array().unwrap();
    visitors
        .iter()
        .map(|visitor| match &visitor["user_id"] {
            Value::String(text) => text.clone(),
            number => number.to_string(),
        })
        .collect()
}
