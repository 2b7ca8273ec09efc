//! Tests of counts of one and of many communities, and of community ids.

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};
use serde_json::json;

use super::support::{Site, member, send};
use crate::key_type::KeyType;

#[tokio::test]
async fn the_count_has_exactly_the_documented_fields() {
    let site = Site::new();
    site.visitor("42", "7", 0);
    assert_eq!(
        site.get("/api/communities/42/visitors/count/").await.json(),
        json!({
            "community_id": 42,
            "current_visitors": 1,
            "window_seconds": 300,
            "as_of": "2026-11-23T07:39:18.123456Z",
            "stale": false,
        })
    );
}

#[tokio::test]
async fn many_counts_come_in_the_order_asked_each_once_without_absent_communities() {
    let site = Site::new();
    site.store.community("1");
    site.store.community("3");
    site.visitor("3", "7", 0);
    let answer = site.get("/api/visitors/counts?communities=3,404,1,3,003").await;
    assert_eq!(
        answer.json(),
        json!({
            "window_seconds": 300,
            "as_of": "2026-11-23T07:39:18.123456Z",
            "stale": false,
            "counts": [
                {"community_id": 3, "current_visitors": 1},
                {"community_id": 1, "current_visitors": 0},
            ],
        })
    );
}

#[tokio::test]
async fn counts_of_absent_communities_only_are_an_empty_list() {
    let answer = Site::new()
        .get("/api/visitors/counts?communities=404%2C405")
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["counts"], json!([]));
    assert_eq!(answer.json()["as_of"], "2026-11-23T07:39:18.123456Z");
}

#[tokio::test]
async fn a_hundred_communities_can_be_counted_at_once() {
    let site = Site::new();
    let ids: Vec<String> = (1..=100).map(|id| id.to_string()).collect();
    for id in &ids {
        site.store.community(id);
    }
    let answer = site
        .get(&format!("/api/visitors/counts?communities={}", ids.join(",")))
        .await;
    assert_eq!(answer.json()["counts"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn an_unknown_community_is_not_found() {
    let site = Site::new();
    for path in [
        "/api/communities/404/visitors",
        "/api/communities/404/visitors/count",
        "/api/communities/404/visitors/stats",
    ] {
        assert_eq!(site.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// I1, for communities: whatever is known is not asked again, absence included.
#[tokio::test]
async fn communities_are_looked_up_once_there_or_not() {
    let site = Site::new();
    for _ in 0..5 {
        site.get("/api/communities/42/visitors/count").await;
        site.get("/api/communities/43/visitors/count").await;
    }
    assert_eq!(site.store.existence_lookups.load(Ordering::Relaxed), 2);
}

/// I1, for communities: many ids are a few lookups at a time.
#[tokio::test]
async fn lookups_of_communities_are_bounded() {
    let site = Site::new();
    let hold = site.store.hold.lock().await;
    let requests: Vec<_> = (0..50)
        .map(|id| {
            let api = site.api.clone();
            let path = format!("/api/communities/10{id}/visitors/count");
            tokio::spawn(async move { send(&api, Method::GET, &path, member()).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(site.store.existence_lookups.load(Ordering::Relaxed), 8);
    drop(hold);
    for request in requests {
        assert_eq!(request.await.unwrap().status, StatusCode::NOT_FOUND);
    }
}

/// W2: text that no key can be never reaches the database.
#[tokio::test]
async fn text_that_cannot_be_an_id_is_not_found_without_a_lookup() {
    let site = Site::new();
    site.store.keys_are(KeyType::Text(None), KeyType::BIGINT);
    let long = "x".repeat(65);
    for id in [long.as_str(), "%00", "a%0Ab", "%ff%fe", ".", "..", "%2E%2E"] {
        let answer = site.get(&format!("/api/communities/{id}/visitors/count")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}");
    }
    assert_eq!(site.store.existence_lookups.load(Ordering::Relaxed), 0);
    assert_eq!(
        site.get(&format!("/api/communities/{}/visitors/count", &long[1..]))
            .await
            .status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(site.store.existence_lookups.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_community_segment_is_decoded_exactly_once() {
    let site = Site::new();
    site.store.keys_are(KeyType::Text(None), KeyType::BIGINT);
    site.store.community("a/b");
    site.store.community("a%2Fb");
    for (path, id) in [("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%34%32", "42")] {
        let answer = site.get(&format!("/api/communities/{path}/visitors/count")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let shown = &answer.json()["community_id"];
        assert_eq!(shown.as_str().map_or(shown.to_string(), str::to_owned), id);
    }
}

/// `042` finds row 42 in an integer column, but presence and statistics are kept under `42`.
#[tokio::test]
async fn v20_every_spelling_of_a_key_means_its_one_form() {
    let uuid = "0190aaaa-0000-7000-8000-00000000000f";
    for (community, key, spellings) in [
        (KeyType::BIGINT, "42", &["42", "042", "0000042"][..]),
        (
            KeyType::Uuid,
            uuid,
            &[
                uuid,
                "0190AAAA-0000-7000-8000-00000000000F",
                "0190aaaa00007000800000000000000f",
                "%7B0190aaaa-0000-7000-8000-00000000000f%7D",
            ],
        ),
        (KeyType::Text(None), "007", &["007"]),
        (KeyType::Text(None), "7", &["7"]),
    ] {
        let site = Site::new();
        site.store.keys_are(community, KeyType::Uuid);
        site.store.community(key);
        site.visitor(key, "1", 0);
        let shown = match community {
            KeyType::Integer(..) => json!(42),
            KeyType::Uuid | KeyType::Text(_) => json!(key),
        };
        for asked in spellings {
            let path = format!("/api/communities/{asked}/visitors/count");
            let answer = site.get(&path).await.json();
            assert_eq!(answer["community_id"], shown, "{asked}");
            assert_eq!(answer["current_visitors"], 1, "{asked}");
        }
        let all = format!("/api/visitors/counts?communities={}", spellings.join(","));
        let answer = site.get(&all).await.json();
        assert_eq!(answer["counts"].as_array().unwrap().len(), 1, "{all}");
        assert_eq!(answer["counts"][0]["community_id"], shown);
    }
}

#[tokio::test]
async fn v21_the_table_is_not_asked_about_what_is_no_key() {
    let site = Site::new();
    for asked in ["abc", "4.2", "+42", "99999999999999999999"] {
        let answer = site.get(&format!("/api/communities/{asked}/visitors")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{asked}");
    }
    assert_eq!(site.store.existence_lookups.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn v22_the_type_of_a_key_is_its_columns() {
    for (community, user, expected) in [
        (KeyType::BIGINT, KeyType::Text(None), (json!(42), json!("7"))),
        (KeyType::Text(None), KeyType::BIGINT, (json!("42"), json!(7))),
    ] {
        let site = Site::new();
        site.store.keys_are(community, user);
        site.visitor("42", "7", 0);
        let list = site.get("/api/communities/42/visitors").await.json();
        assert_eq!(list["community_id"], expected.0);
        assert_eq!(list["visitors"][0]["user_id"], expected.1);
        let stats = site.get("/api/communities/42/visitors/stats").await.json();
        assert_eq!(stats["community_id"], expected.0);
    }
}
