//! The whole site and what is finer than a community: hidden members and disabled accounts.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{execute, hide, start_with};
use crate::support::live::Socket;
use crate::support::member::Member;
use crate::support::redis::eventually;
use crate::support::world::{Wanted, World};

/// A site that hides members, and whose accounts can be disabled.
async fn start(record: &str) -> (World, PgPool) {
    start_with(|wanted| Wanted {
        record: record.into(),
        session: "cache_ttl = \"1s\"".into(),
        config: format!(
            "{}\nis_active = {{ table = \"auth_user\", key = \"id\", of = \"user_id\", column = \"is_active\" }}\n",
            wanted.config
        ),
        ..wanted
    })
    .await
}

async fn disable(pool: &PgPool, name: &str) {
    let sql = format!("UPDATE auth_user SET is_active = false WHERE username = '{name}'");
    execute(pool, &sql).await;
}

fn names_in(list: &Value) -> Vec<String> {
    let visitors = list["visitors"].as_array().expect("a list").iter();
    let mut names: Vec<_> = visitors
        .map(|visitor| visitor["username"].as_str().expect("a name").to_owned())
        .collect();
    names.sort();
    names
}

/// What the API says to somebody of the whole site, the community and the post in it: how many, and who.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// Of the site, the community and the post, each by list, count and live connection.
    counts: [u64; 3],
    /// In each of the three lists.
    names: [Vec<String>; 3],
    /// Of all seeded members, who is said to be on the site.
    users: Vec<Value>,
}

async fn told(world: &World, post: &str, asking: &Member) -> Told {
    let members = ["alice", "bob", "carol", "dave"];
    let ids: Vec<_> = members.iter().map(|name| world.seeded.user(name)).collect();
    let users = asking
        .json(&format!("/api/visitors/users?ids={}", ids.join(",")))
        .await;
    let users = users["users"].as_array().expect("a list").iter();
    let users = users.map(|user| user["user_id"].clone()).collect();
    let community = world.visitors("rust", "");
    let of_post = format!("/api{post}visitors");
    let (mut counts, mut names) = ([0; 3], [const { Vec::new() }; 3]);
    for (place, list, count, live) in [
        (
            0,
            "/api/visitors/online?limit=1",
            "/api/visitors/count",
            "/api/visitors/live",
        ),
        (
            1,
            &*community,
            &*format!("{community}/count"),
            &*format!("{community}/live"),
        ),
        (
            2,
            &*of_post,
            &*format!("{of_post}/count"),
            &*format!("{of_post}/live"),
        ),
    ] {
        let (mut path, separator) = (list.to_owned(), if list.contains('?') { '&' } else { '?' });
        loop {
            let page = asking.json(&path).await;
            names[place].extend(names_in(&page));
            counts[place] = page["current_visitors"].as_u64().expect("a number");
            let Some(next) = page["next"].as_str() else { break };
            path = format!("{list}{separator}cursor={next}");
        }
        names[place].sort();
        let counted = asking.json(count).await;
        assert_eq!(counted["current_visitors"], counts[place], "{count}");
        let mut socket = Socket::open(&world.sidecar, &format!("{live}?heartbeat=false"), asking).await;
        let heard = socket.next().await;
        assert_eq!(heard["current_visitors"], counts[place], "{live}");
        let text = heard.to_string();
        assert!(members.iter().all(|name| !text.contains(*name)), "{text}");
    }
    Told { counts, names, users }
}

fn named(names: &[&str]) -> [Vec<String>; 3] {
    [(); 3].map(|()| names.iter().map(|name| (*name).to_owned()).collect())
}

/// Waits until the API says this, and fails with what it says instead.
async fn says(world: &World, post: &str, asking: &Member, expected: &Told) {
    let last = std::cell::RefCell::default();
    let is_so = async || {
        let told = told(world, post, asking).await;
        let is_so = told == *expected;
        last.replace(Some(told));
        is_so
    };
    eventually(is_so).await;
    assert_eq!(last.into_inner().as_ref(), Some(expected));
}

/// Alice is shown; bob is hidden, and carol's account disabled, before they look at the post. Dave's is disabled afterwards.
async fn hidden_and_disabled(record: &str, counted: u64) {
    let (world, pool) = start(record).await;
    let post = format!("{}posts/1/", world.community("rust"));
    let mut members = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        members.push(world.member(name).await);
    }
    let alice = &members[0];
    hide(&pool, "bob").await;
    disable(&pool, "carol").await;
    for member in [alice, &members[1], &members[3]] {
        member.sees(&post).await;
    }
    // The site sends her away, which is no view; a path that answers everybody is none of hers.
    let page = members[2].navigation("/about/").send().await.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    let disabled = "headcount_page_views_not_counted_total{reason=\"account_disabled\"}";
    world
        .sidecar
        .wait_for_metric(disabled, |views| views == 1.0)
        .await;
    let id = |name: &str| json!(world.seeded.user(name));
    let before = Told {
        counts: [counted; 3],
        names: named(&["alice", "dave"]),
        users: vec![id("alice"), id("dave")],
    };
    says(&world, &post, alice, &before).await;

    // From the moment at which that is so, he is named nowhere; he leaves the counts with the window.
    disable(&pool, "dave").await;
    let after = Told {
        names: named(&["alice"]),
        users: vec![id("alice")],
        ..before
    };
    assert_eq!(told(&world, &post, alice).await, after);
    pool.close().await;
}

#[tokio::test]
async fn p33_on_the_site_and_at_a_post_hidden_members_count_and_are_named_nowhere() {
    hidden_and_disabled("", 3).await;
}

#[tokio::test]
async fn p33_on_the_site_and_at_a_post_hidden_members_who_are_not_counted_are_in_nothing() {
    hidden_and_disabled("hidden = \"ignore\"", 2).await;
}
