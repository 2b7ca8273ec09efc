//! Tests of things finer than communities: their paths, counts and lists, and access to them.

use std::sync::Arc;

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::json;

use super::support::{Site, now};
use crate::config::Access;
use crate::ids::Finer;
use crate::presence::Scope;
use crate::presence::grants::Verdict;
use crate::routes::{RouteFile, RouteTable};

const POST: &str = "/api/communities/42/posts/7/visitors";

/// The site's routes count posts.
fn counts_posts(site: &Site) {
    let file = RouteFile {
        path: "a.toml".into(),
        text: "[[route]]\nname = 'post'\npattern = '^/c/(?P<community>\\d+)/(?P<post>[^/]+)$'\n\
               presence = ['community', 'post']\n"
            .into(),
    };
    let table = RouteTable::compile(&[file]).unwrap();
    site.api.shared.intake.routes.store(Arc::new(table));
}

/// A user with a profile who was just seen at a post of community 42.
fn reads(site: &Site, post: &str, user: &str, seconds_ago: i64) {
    site.store.profile(user);
    let scope = Scope::Finer("42".into(), Finer::new("post", post).unwrap());
    site.presence
        .seen(scope, user, now() - TimeDelta::seconds(seconds_ago));
}

#[tokio::test]
async fn p23_paths_of_finer_things_are_the_sidecars_only_where_a_route_names_them() {
    let site = Site::new();
    let ends = ["", "/", "/count", "/live"];
    assert!(
        ends.iter()
            .all(|end| site.api.parse(&format!("{POST}{end}")).is_none())
    );
    counts_posts(&site);
    assert!(
        ends.iter()
            .all(|end| site.api.parse(&format!("{POST}{end}")).is_some())
    );
    for path in [
        "/api/communities/42/topics/7/visitors",
        "/api/communities/42/post/7/visitors/count",
        "/api/communities/42/posts//visitors/count",
        "/api/communities//posts/7/visitors/count",
        "/api/communities/42/posts/7/visitors/stats",
        "/api/communities/42/posts/7/8/visitors",
        "/api/communities/42/posts/visitors/count",
    ] {
        assert!(site.api.parse(path).is_none(), "{path}");
    }
}

#[tokio::test]
async fn p23_counts_and_lists_of_a_post_are_its_own() {
    let site = Site::new();
    counts_posts(&site);
    site.visitor("42", "1", 0);
    reads(&site, "7", "2", 0);
    reads(&site, "7", "3", 1);
    reads(&site, "a b", "2", 0);
    let count = json!({
        "community_id": 42,
        "scope": "post",
        "scope_id": "7",
        "current_visitors": 2,
        "window_seconds": 300,
        "as_of": "2026-11-23T07:39:18.123456Z",
        "stale": false,
    });
    assert_eq!(site.get(&format!("{POST}/count")).await.json(), count);
    let list = site.get(&format!("{POST}?limit=1")).await.json();
    assert_eq!(list["visitors"][0]["user_id"], 2);
    let next = list["next"].as_str().unwrap();
    let rest = site.get(&format!("{POST}?limit=1&cursor={next}")).await.json();
    assert_eq!(
        (&rest["visitors"][0]["user_id"], &rest["next"]),
        (&json!(3), &json!(null))
    );
    let spaced = site
        .get("/api/communities/0042/posts/a%20b/visitors/count")
        .await
        .json();
    assert_eq!(
        (&spaced["current_visitors"], &spaced["scope_id"]),
        (&json!(1), &json!("a b"))
    );
    assert_eq!(
        site.get("/api/communities/42/posts/9/visitors/count")
            .await
            .json()["current_visitors"],
        0
    );
}

#[tokio::test]
async fn p24_keys_out_of_range_are_refused_with_the_range() {
    let site = Site::new();
    counts_posts(&site);
    let long = "x".repeat(Finer::MAX_CHARS + 1);
    for key in [&*long, "%0A", "%FF", "a%1Fb"] {
        let answer = site
            .get(&format!("/api/communities/42/posts/{key}/visitors/count"))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key}");
        assert_eq!(
            answer.detail(),
            "The key of a post has 1 to 128 characters and no control characters."
        );
    }
    for (query, range) in [("limit=0", "from 1 to 200"), ("cursor=x", "value of next")] {
        let answer = site.get(&format!("{POST}?{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.detail().contains(range), "{}", answer.detail());
    }
}

#[tokio::test]
async fn p30_access_to_a_post_takes_that_to_its_community() {
    let site = Site::with_access(Access::Visited);
    counts_posts(&site);
    site.store.community("43");
    site.answered("42", Verdict::Shown);
    site.answered("43", Verdict::Refused);
    for community in ["42", "43"] {
        site.answered(post(community), Verdict::Shown);
    }
    for end in ["", "/count"] {
        assert_eq!(site.get(&format!("{POST}{end}")).await.status, StatusCode::OK);
        let others = site
            .get(&format!("/api/communities/43/posts/7/visitors{end}"))
            .await;
        let nowhere = site
            .get(&format!("/api/communities/404/posts/7/visitors{end}"))
            .await;
        assert_eq!(others.status, StatusCode::NOT_FOUND);
        assert_eq!(others, nowhere, "they look the same");
    }
    let backend = Site::with_access(Access::Backend);
    counts_posts(&backend);
    backend
        .backend
        .says("/api/communities/42/", StatusCode::FORBIDDEN);
    assert_eq!(
        backend.get(&format!("{POST}/count")).await.status,
        StatusCode::NOT_FOUND
    );
}

fn post(community: &str) -> Scope {
    Scope::Finer(community.into(), Finer::new("post", "7").unwrap())
}

/// Something that the app hides from some who may see the community.
#[tokio::test]
async fn a26_a_post_that_was_not_shown_is_told_like_one_that_nobody_has_seen() {
    let site = Site::with_access(Access::Visited);
    counts_posts(&site);
    reads(&site, "7", "2", 0);
    site.answered("42", Verdict::Shown);
    let told = async |end: &str| site.get(&format!("{POST}{end}")).await;
    let absent = async |end: &str| {
        site.get(&format!("/api/communities/42/posts/999/visitors{end}"))
            .await
    };
    for verdict in [None, Some(Verdict::Refused)] {
        if let Some(verdict) = verdict {
            site.answered(post("42"), verdict);
        }
        for end in ["", "/count"] {
            let hidden = told(end).await;
            assert_eq!(hidden.status, StatusCode::NOT_FOUND, "{verdict:?}");
            assert_eq!(hidden, absent(end).await);
        }
    }
    site.answered(post("42"), Verdict::Shown);
    for end in ["", "/count"] {
        assert_eq!(told(end).await.json()["current_visitors"], 1);
    }
    // The community's own numbers are not affected by it.
    site.answered(post("42"), Verdict::Refused);
    let community = site.get("/api/communities/42/visitors/count").await;
    assert_eq!(community.status, StatusCode::OK);
}

#[tokio::test]
async fn p31_the_contract_has_the_paths_of_each_kind_that_the_routes_have() {
    let site = Site::new();
    let paths = async || {
        let document = site.get("/api/visitors/openapi.json").await.json();
        let paths = document["paths"].as_object().unwrap().keys().cloned();
        paths.filter(|path| path.contains("/posts/")).collect::<Vec<_>>()
    };
    assert!(paths().await.is_empty());
    counts_posts(&site);
    let post = "/api/communities/{community}/posts/{post}/visitors";
    let mut found = paths().await;
    found.sort();
    assert_eq!(found, ["", "/count", "/live"].map(|end| format!("{post}{end}")));
    let document = site.get("/api/visitors/openapi.json").await.json();
    let count = &document["paths"][format!("{post}/count")]["get"];
    assert_eq!(count["operationId"], "count_visitors_of_post");
    let parameters = count["parameters"].as_array().unwrap();
    assert!(
        parameters
            .iter()
            .any(|one| one["name"] == "post" && one["schema"]["maxLength"] == 128)
    );
    let script = site.get("/api/visitors/widget.js").await;
    let script = String::from_utf8(script.body.to_vec()).unwrap();
    assert!(script.contains(r#"SCOPES = {"post":"posts"};"#));
}
