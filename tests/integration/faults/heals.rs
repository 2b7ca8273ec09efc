//! Two sidecars in front of one site share a Redis that is killed, hangs, is flushed, or fails over. While it
//! is away each tells whom it has seen itself; afterwards both tell everybody (P14), though nobody looks at
//! another page. That holds of the community, of the post in it at which they are, and of the whole site.

use serde_json::Value;

use super::{Made, text};
use crate::support::member::Member;
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, eventually};
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

struct Pair {
    world: World,
    second: Sidecar,
    /// Who asks each of them.
    asking: [Member; 2],
    made: Made,
}

/// A sidecar that gives a hung Redis up within the test's patience.
fn wanted(redis: String) -> Wanted {
    Wanted {
        redis: Some(redis),
        redis_keys: "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"".into(),
        key_prefix: Some(any_prefix()),
        ..Wanted::usual()
    }
}

impl Pair {
    /// Alice looks at a post through one sidecar, bob through the other, carol through both.
    async fn start(redis: String) -> Self {
        let wanted = wanted(redis);
        let world = wanted.clone().start().await;
        let second = world.another_sidecar(&wanted);
        let asking = [world.member("dave").await, signed_in("dave", &second).await];
        let mut pair = Self {
            world,
            second,
            asking,
            made: Made::default(),
        };
        pair.sees("alice", false).await;
        pair.sees("bob", true).await;
        pair.sees("carol", false).await;
        pair.sees("carol", true).await;
        pair.both_show(&["alice", "bob", "carol"]).await;
        pair
    }

    fn sidecar(&self, second: bool) -> &Sidecar {
        if second { &self.second } else { &self.world.sidecar }
    }

    async fn sees(&mut self, name: &str, second: bool) {
        let member = signed_in(name, self.sidecar(second)).await;
        let page = self.post();
        self.made.sees(name, &member, &[&page]).await;
    }

    fn post(&self) -> String {
        format!("{}posts/1/", self.world.community("rust"))
    }

    /// Whether one of the sidecars tells that these are there, and whether that is stale: of the community, the post and the
    /// site, by list and count.
    async fn shows(&self, second: bool, names: &[&str], is_stale: bool) -> bool {
        let visitors = self.world.visitors("rust", "");
        let of_post = format!("/api{}visitors", self.post());
        for (list, count) in [
            (visitors.clone(), format!("{visitors}/count")),
            (of_post.clone(), format!("{of_post}/count")),
            ("/api/visitors/online".into(), "/api/visitors/count".into()),
        ] {
            if self.shown(second, &list, &count).await != (self::names(names), is_stale) {
                return false;
            }
        }
        true
    }

    /// Who is there, and whether that is stale, as one of the sidecars tells; both by the list and by the
    /// count.
    async fn shown(&self, second: bool, list: &str, count: &str) -> (Vec<String>, bool) {
        let asking = &self.asking[usize::from(second)];
        let list = asking.json(list).await;
        let names = list["visitors"].as_array().expect("a list").iter();
        let mut names: Vec<_> = names
            .map(|visitor| visitor["username"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        let count = asking.json(count).await;
        let stale = [&list["stale"], &count["stale"]].contains(&&Value::Bool(true));
        let settled = list["current_visitors"] == names.len() && count["current_visitors"] == names.len();
        (names, stale || !settled)
    }

    async fn both_show(&self, names: &[&str]) {
        for second in [false, true] {
            eventually(async || self.shows(second, names, false).await).await;
        }
    }

    /// Redis is away: each tells its own visitors. Dave comes meanwhile.
    async fn each_tells_its_own(&mut self) {
        for (second, names) in [(false, ["alice", "carol"]), (true, ["bob", "carol"])] {
            eventually(async || self.shows(second, &names, true).await).await;
            let sidecar = self.sidecar(second);
            sidecar
                .wait_for_metric("headcount_presence_stale_answers_total", |answers| answers > 0.0)
                .await;
            let (status, ready) = text(&sidecar.admin_url("/readyz")).await;
            assert_eq!(status, 200);
            assert!(ready.contains("redis does not answer"), "{ready}");
        }
        self.sees("dave", false).await;
        eventually(async || self.shows(false, &["alice", "carol", "dave"], true).await).await;
    }

    async fn everything_was_recorded(&self) {
        let views = self.made.0.len();
        for sidecar in [&self.world.sidecar, &self.second] {
            sidecar.wait_until_idle().await;
        }
        eventually(async || self.world.page_views().await.len() >= views).await;
        self.made.are_exactly(&self.world.page_views().await);
    }
}

async fn signed_in(name: &str, sidecar: &Sidecar) -> Member {
    let member = Member::new(sidecar.url(""));
    member.sign_in(name).await;
    member
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn p14_counts_are_right_again_after_redis_was_killed_and_restarted_empty() {
    let mut redis = RedisServer::start(&[]);
    let mut pair = Pair::start(redis.url()).await;
    redis.kill();
    pair.each_tells_its_own().await;
    redis.restart();
    pair.both_show(&["alice", "bob", "carol", "dave"]).await;
    pair.everything_was_recorded().await;
}

#[tokio::test]
async fn p14_counts_are_right_again_after_redis_hung() {
    let redis = RedisServer::start(&[]);
    let mut pair = Pair::start(redis.url()).await;
    redis.hang();
    pair.each_tells_its_own().await;
    redis.resume();
    pair.both_show(&["alice", "bob", "carol", "dave"]).await;
    pair.everything_was_recorded().await;
}

#[tokio::test]
async fn p12_p14_counts_are_right_again_after_redis_was_flushed() {
    let redis = RedisServer::start(&[]);
    let pair = Pair::start(redis.url()).await;
    redis.flush().await;
    pair.both_show(&["alice", "bob", "carol"]).await;
    pair.everything_was_recorded().await;
}

#[tokio::test]
async fn p14_counts_are_right_again_after_redis_failed_over_to_a_replica_that_lacks_the_last_views() {
    let mut primary = RedisServer::start(&[]);
    let replication = Proxy::before(primary.port()).await;
    let replica = RedisServer::replica_of(replication.port()).await;
    let way = Proxy::before(primary.port()).await;
    let mut pair = Pair::start(format!("redis://127.0.0.1:{}", way.port())).await;
    replication.refuse().await;
    pair.sees("dave", true).await;
    pair.both_show(&["alice", "bob", "carol", "dave"]).await;
    primary.kill();
    way.lead_to(replica.port());
    replica.is_promoted().await;
    pair.both_show(&["alice", "bob", "carol", "dave"]).await;
    pair.everything_was_recorded().await;
}
