//! The whole site and posts, end to end: what each of several sidecars says equals what the site's own `online_tracker`
//! finds in its rows.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::backend::{Variant, text};
use crate::support::live::Socket;
use crate::support::member::{FIREFOX, Member};
use crate::support::redis::{RedisServer, eventually};
use crate::support::redis_cluster::RedisCluster;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Parts, Wanted, World, any_prefix};

/// A site behind three sidecars, and who asks each of them.
struct Site {
    world: World,
    others: Vec<Sidecar>,
}

impl Site {
    async fn start(wanted: Wanted) -> Self {
        let wanted = Wanted {
            key_prefix: Some(any_prefix()),
            ..wanted
        };
        let world = wanted.clone().start().await;
        let others = (0..2).map(|_| world.another_sidecar(&wanted)).collect();
        Self { world, others }
    }

    fn sidecars(&self) -> impl Iterator<Item = &Sidecar> {
        std::iter::once(&self.world.sidecar).chain(&self.others)
    }

    /// What the site's own code finds: how many are online, who, and who of these at the post.
    async fn tracked(&self, ids: &str, post: &str) -> Value {
        let path = format!("oracle/online?seconds=300&ids={ids}&url={post}");
        self.world.site.ask(&path).await
    }

    /// What a sidecar says: the same.
    async fn told(&self, sidecar: &Sidecar, asking: &Member, ids: &str, post: &str) -> Value {
        let asking = asking.at(sidecar.url(""));
        let count = asking.json("/api/visitors/count").await;
        let online = asking.json("/api/visitors/online?limit=200").await;
        let users = asking.json(&format!("/api/visitors/users?ids={ids}")).await;
        let at = asking.json(&format!("/api{post}visitors")).await;
        let keys = |list: &Value| -> BTreeSet<String> {
            let entries = list.as_array().expect("a list").iter();
            entries.map(|entry| text(&entry["user_id"])).collect()
        };
        let which = users["users"].as_array().expect("a list").iter();
        // Each is compared with what is expected, and not with the other: somebody may come or go between two questions.
        json!({
            "count": [count["current_visitors"], online["current_visitors"]],
            "count_at": at["current_visitors"],
            "user_ids": keys(&online["visitors"]),
            "which": which.map(|user| text(&user["user_id"])).collect::<Vec<_>>(),
            "at": keys(&at["visitors"]),
        })
    }

    /// Waits until all views are in the site's rows, and each of these sidecars says what the site's own code does.
    async fn all_agree(&self, asking: &Member, post: &str, sidecars: &[&Sidecar]) -> Value {
        let names = ["dave", "alice", "carol", "bob", "mallory"];
        let ids: Vec<_> = names
            .iter()
            .map(|name| self.world.seeded.user(name).clone())
            .collect();
        let ids = ids.join(",");
        for sidecar in sidecars {
            sidecar.wait_until_idle().await;
        }
        let tracked = self.tracked(&ids, post).await;
        let texts =
            |list: &Value| -> Vec<String> { list.as_array().expect("a list").iter().map(text).collect() };
        let sorted = |list: &Value| -> BTreeSet<String> { texts(list).into_iter().collect() };
        let at = sorted(&tracked["at"]);
        let expected = json!({
            "count": [tracked["count"], tracked["count"]],
            "count_at": at.len(),
            "user_ids": sorted(&tracked["user_ids"]),
            "which": texts(&tracked["which"]),
            "at": at,
        });
        for sidecar in sidecars {
            let last = std::cell::RefCell::default();
            let is_so = async || {
                let told = self.told(sidecar, asking, &ids, post).await;
                let is_so = told == expected;
                last.replace(told);
                is_so
            };
            eventually(is_so).await;
            assert_eq!(last.into_inner(), expected);
        }
        json!({ "count": tracked["count"], "at": at })
    }
}

#[tokio::test]
async fn p28_the_site_and_its_users_are_those_of_the_sites_own_online_tracker() {
    let mut redis = RedisServer::start(&[]);
    let mut site = Site::start(Wanted {
        redis: Some(redis.url()),
        ..Wanted::usual()
    })
    .await;
    let post = format!("{}posts/1/", site.world.community("rust"));
    let alice = site.world.member("alice").await;
    let (bob, carol, dave) = (
        site.world.member("bob").await,
        site.world.member("carol").await,
        site.world.member("dave").await,
    );
    let places: Vec<_> = site.others.iter().map(|sidecar| sidecar.url("")).collect();
    let through = |member: &Member, place: usize| member.at(places[place].clone());
    alice.sees(&post).await;
    alice.sees(&site.world.community("django")).await;
    through(&bob, 0).sees(&post).await;
    // A page of no community.
    through(&carol, 1).sees("/about/").await;
    let all: Vec<_> = site.sidecars().collect();
    let found = site.all_agree(&alice, &post, &all).await;
    assert_eq!(
        (&found["count"], found["at"].as_array().unwrap().len()),
        (&json!(3), 2)
    );

    // A sidecar that is killed takes nobody along, and knows them when it is back.
    let asking = through(&alice, 0);
    site.others[1].kill();
    through(&dave, 0).sees("/about/").await;
    let left = [&site.world.sidecar, &site.others[0]];
    assert_eq!(site.all_agree(&asking, &post, &left).await["count"], 4);
    site.others[1].restart();
    let all: Vec<_> = site.sidecars().collect();
    assert_eq!(site.all_agree(&asking, &post, &all).await["count"], 4);

    // A Redis that comes back empty is told by each sidecar whom it saw: all but the one that the killed one saw.
    redis.kill();
    redis.restart();
    through(&carol, 1).sees("/about/").await;
    site.world
        .member("mallory")
        .await
        .sees(&site.world.community("rust"))
        .await;
    let all: Vec<_> = site.sidecars().collect();
    let found = site.all_agree(&asking, &post, &all).await;
    assert_eq!(
        (&found["count"], found["at"].as_array().unwrap().len()),
        (&json!(5), 2)
    );
}

/// Views that a page reports are in the same scopes as those that it loads.
#[tokio::test]
async fn p23_what_is_no_view_touches_nothing_and_what_a_page_reports_what_it_shows() {
    let world = Wanted::new(Parts::Embedded, Variant::Default).start().await;
    let post = format!("{}posts/1/", world.community("rust"));
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let counts = async || {
        let mut counts = Vec::new();
        for path in [
            "/api/visitors/count".to_owned(),
            world.visitors("rust", "/count"),
            format!("/api{post}visitors/count"),
        ] {
            counts.push(
                alice.json(&path).await["current_visitors"]
                    .as_u64()
                    .expect("a number"),
            );
        }
        counts
    };
    let prefetch = [("sec-purpose", "prefetch")];
    let robot = [(
        "user-agent",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    )];
    let script = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    for headers in [&prefetch[..], &robot, &script] {
        let request = headers
            .iter()
            .fold(bob.navigation(&post), |request, (name, value)| {
                let mut headers = reqwest::header::HeaderMap::new();
                headers.insert(*name, value.parse().expect("a value"));
                request.headers(headers)
            });
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK);
    }
    assert_eq!(
        bob.visits("/communities/none/posts/1/").await,
        StatusCode::NOT_FOUND
    );
    let not_counted = async || {
        let metrics = world.sidecar.metrics().await;
        let of = metrics
            .iter()
            .filter(|(name, _)| name.starts_with("headcount_page_views_not_counted_total"));
        of.map(|(_, value)| value).sum::<f64>()
    };
    eventually(async || not_counted().await >= 4.0).await;
    let report = bob
        .request(Method::POST, "/api/visits")
        .header("origin", world.sidecar.url(""))
        .header("user-agent", FIREFOX)
        .body(json!({"url": post}).to_string());
    assert_eq!(counts().await, [0, 0, 0]);
    assert_eq!(
        report.send().await.expect("an answer").status(),
        StatusCode::NO_CONTENT
    );
    eventually(async || counts().await == [1, 1, 1]).await;
    alice.sees("/about/").await;
    eventually(async || counts().await == [2, 1, 1]).await;
}

/// Counts and live connections of a post and of the site, over a Cluster whose nodes keep them apart.
#[tokio::test]
async fn p23_two_sidecars_over_a_cluster_tell_the_same_of_posts_and_the_site() {
    let cluster = RedisCluster::start().await;
    let wanted = Wanted {
        redis_at: Some(cluster.keys()),
        key_prefix: Some(any_prefix()),
        record: "window = \"15s\"".into(),
        ..Wanted::usual()
    };
    let world = wanted.clone().start().await;
    let other = world.another_sidecar(&wanted);
    let post = format!("{}posts/1/", world.community("rust"));
    let (alice, bob) = (world.member("alice").await, world.member("bob").await);
    let quiet = |path: &str| format!("{path}?heartbeat=false");
    let mut sockets = Vec::new();
    for sidecar in [&world.sidecar, &other] {
        for path in [
            quiet(&format!("/api{post}visitors/live")),
            quiet("/api/visitors/live"),
        ] {
            sockets.push(Socket::open(sidecar, &path, &alice).await);
        }
    }
    // All at a time: who does not read answers no pings.
    let until = async |sockets: &mut Vec<Socket>, at_post: u64, on_site: u64| {
        let each = sockets.iter_mut().enumerate().map(async |(place, socket)| {
            let (expected, scope) = if place % 2 == 0 {
                (at_post, json!("1"))
            } else {
                (on_site, Value::Null)
            };
            loop {
                let message = socket.next().await;
                assert_eq!(
                    (&message["type"], &message["scope_id"]),
                    (&json!("count"), &scope)
                );
                if message["current_visitors"] == expected {
                    break;
                }
            }
        });
        join_all(each).await;
    };
    until(&mut sockets, 0, 0).await;
    bob.at(other.url("")).sees(&post).await;
    until(&mut sockets, 1, 1).await;
    // They leave when their window is over.
    until(&mut sockets, 0, 0).await;
}
