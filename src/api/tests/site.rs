//! Tests of the whole site: how many are on it, who, and which of some users.

use chrono::TimeDelta;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::support::{Site, anonymous, member, now, send};
use crate::config::Access;
use crate::presence::Scope;

const PATHS: [&str; 3] = [
    "/api/visitors/count",
    "/api/visitors/online",
    "/api/visitors/users?ids=7",
];

/// A user with a profile who was just seen somewhere.
fn is_online(site: &Site, user: &str, seconds_ago: i64) {
    site.store.profile(user);
    let seen = now() - TimeDelta::seconds(seconds_ago);
    site.presence.seen(Scope::Site, user, seen);
}

#[tokio::test]
async fn p28_the_sites_count_has_exactly_the_documented_fields() {
    let site = Site::new();
    is_online(&site, "7", 0);
    is_online(&site, "8", 1);
    site.visitor("42", "9", 0);
    assert_eq!(
        site.get("/api/visitors/count/").await.json(),
        json!({
            "current_visitors": 2,
            "window_seconds": 300,
            "as_of": "2026-11-23T07:39:18.123456Z",
            "stale": false,
        })
    );
}

#[tokio::test]
async fn p28_the_sites_list_is_paged_as_that_of_a_community() {
    let site = Site::new();
    for user in 1..=3 {
        is_online(&site, &user.to_string(), user);
    }
    // Without a profile: as whoever the app hides.
    site.presence.seen(Scope::Site, "4", now());
    let users = |page: &Value| {
        let visitors = page["visitors"].as_array().unwrap().iter();
        visitors
            .map(|visitor| visitor["user_id"].clone())
            .collect::<Vec<_>>()
    };
    let first = site.get("/api/visitors/online?limit=2").await.json();
    assert_eq!(
        (users(&first), &first["current_visitors"]),
        (vec![json!(1)], &json!(4))
    );
    let next = first["next"].as_str().unwrap();
    let second = site
        .get(&format!("/api/visitors/online?limit=2&cursor={next}"))
        .await
        .json();
    assert_eq!(
        (users(&second), &second["next"]),
        (vec![json!(2), json!(3)], &Value::Null)
    );
}

#[tokio::test]
async fn p27_of_the_users_asked_for_those_who_are_on_the_site_are_told_in_that_order() {
    let site = Site::new();
    for user in [1, 2, 3] {
        is_online(&site, &user.to_string(), user);
    }
    site.presence.seen(Scope::Site, "4", now());
    site.visitor("42", "5", 0);
    let answer = site
        .get("/api/visitors/users?ids=3,5,4,1,99,003,x,99999999999999999999")
        .await
        .json();
    let seen = |user: i64| now() - TimeDelta::seconds(user);
    let millis = |user| seen(user).format("%Y-%m-%dT%H:%M:%S%.3f000Z").to_string();
    assert_eq!(
        answer,
        json!({
            "window_seconds": 300,
            "stale": false,
            "users": [
                {"user_id": 3, "last_seen_at": millis(3)},
                {"user_id": 1, "last_seen_at": millis(1)},
            ],
        })
    );
}

#[tokio::test]
async fn p27_ids_limits_and_cursors_out_of_range_are_refused_with_the_range() {
    let site = Site::new();
    let many = (0..101).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    for ids in [
        "",
        "?ids=",
        "?ids=1,,2",
        &format!("?ids={}", "x".repeat(256)),
        &format!("?ids={many}"),
    ] {
        let answer = site.get(&format!("/api/visitors/users{ids}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{ids}");
        assert!(
            answer
                .detail()
                .starts_with("ids must be 1 to 100 keys of users, of 1 to 255 characters")
        );
    }
    let hundred = (0..100).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    assert_eq!(
        site.get(&format!("/api/visitors/users?ids={hundred}"))
            .await
            .status,
        StatusCode::OK
    );
    for (query, range) in [
        ("limit=0", "from 1 to 200"),
        ("limit=201", "from 1 to 200"),
        ("cursor=x", "value of next"),
    ] {
        let answer = site.get(&format!("/api/visitors/online?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(answer.detail().contains(range), "{}", answer.detail());
    }
    let answer = site.get("/api/visitors/count?communities=42").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

/// By access, and whether identities of the site are configured: statuses of a member and of an anonymous caller for count,
/// list and users, and how many the list shows the member.
#[tokio::test]
async fn p29_who_may_see_the_site_and_who_is_on_it() {
    let (ok, sign_in, none) = (StatusCode::OK, StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND);
    for (access, configured, member_gets, anonymous_gets, shown) in [
        (Access::Public, None, [ok, ok, ok], [ok, ok, ok], 1),
        (Access::Public, Some(false), [ok, ok, none], [ok, ok, none], 0),
        (Access::Session, None, [ok, ok, ok], [sign_in; 3], 1),
        (Access::Visited, None, [ok, ok, none], [sign_in; 3], 0),
        (Access::Visited, Some(true), [ok, ok, ok], [sign_in; 3], 1),
        (Access::Backend, None, [ok, ok, none], [sign_in; 3], 0),
        (Access::Backend, Some(true), [ok, ok, ok], [sign_in; 3], 1),
    ] {
        let site = Site::with(|settings| {
            settings.access = access;
            settings.site_identities = configured;
        });
        is_online(&site, "7", 0);
        let is = format!("{access:?} {configured:?}");
        for (place, path) in PATHS.iter().enumerate() {
            assert_eq!(site.get(path).await.status, member_gets[place], "{is} {path}");
            let answer = send(&site.api, Method::GET, path, anonymous()).await;
            assert_eq!(answer.status, anonymous_gets[place], "{is} {path}");
        }
        let list = site.get("/api/visitors/online").await.json();
        assert_eq!(list["current_visitors"], 1, "{is}");
        assert_eq!(list["visitors"].as_array().unwrap().len(), shown, "{is}");
        assert!(
            site.backend.asked.lock().unwrap().is_empty(),
            "the app decides about communities only"
        );
    }
    let site = Site::with(|settings| {
        settings.identities = false;
        settings.site_identities = Some(true);
    });
    assert_eq!(site.get(PATHS[2]).await.status, none, "no identities at all");
    let mut away = anonymous();
    away.unavailable = true;
    assert_eq!(
        site.get_as(away, PATHS[0]).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(site.get_as(member(), PATHS[0]).await.status, ok);
}
