//! Three sidecars on a Redis Cluster of six processes: visitors come through all of them, a sidecar and a primary
//! are killed, and each sidecar goes on telling one and the same count, the right one.

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::live::Socket;
use crate::support::member::Member;
use crate::support::redis::eventually;
use crate::support::redis_cluster::RedisCluster;
use crate::support::sentinels::Watched;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

/// How long somebody is there after the last page.
const WINDOW: &str = "10s";
const COMMUNITIES: [&str; 2] = ["rust", "django"];

/// A site behind several sidecars.
struct Site {
    world: World,
    others: Vec<Sidecar>,
    /// Who asks each of them.
    asking: Vec<Member>,
}

impl Site {
    /// Three sidecars with Redis where `at` says.
    async fn start(at: String) -> Self {
        let wanted = Wanted {
            redis_at: Some(at),
            redis_keys: "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"".into(),
            key_prefix: Some(any_prefix()),
            record: format!("window = \"{WINDOW}\""),
            ..Wanted::usual()
        };
        let world = wanted.clone().start().await;
        let others: Vec<_> = (0..2).map(|_| world.another_sidecar(&wanted)).collect();
        let mut asking = Vec::new();
        for sidecar in std::iter::once(&world.sidecar).chain(&others) {
            sidecar
                .wait_for_metric("headcount_redis_partitions_down", |down| down == 0.0)
                .await;
            asking.push(signed_in("dave", sidecar).await);
        }
        Self {
            world,
            others,
            asking,
        }
    }

    fn sidecar(&self, index: usize) -> &Sidecar {
        match index {
            0 => &self.world.sidecar,
            _ => &self.others[index - 1],
        }
    }

    /// Who is in a community, by each of these sidecars; `None` while one answers from memory, or count and list
    /// differ.
    async fn shown(&self, community: &str, sidecars: &[usize]) -> Vec<Option<Vec<String>>> {
        let mut shown = Vec::new();
        for index in sidecars {
            let list = self.asking[*index]
                .json(&self.world.visitors(community, ""))
                .await;
            let visitors = list["visitors"].as_array().expect("a list").iter();
            let mut names: Vec<_> = visitors
                .map(|visitor| visitor["username"].as_str().expect("a name").to_owned())
                .collect();
            names.sort();
            let is_settled = list["stale"] == Value::Bool(false) && list["current_visitors"] == names.len();
            shown.push(is_settled.then_some(names));
        }
        shown
    }

    /// Everybody looks at all communities through their sidecar, until each of the sidecars shows these, and
    /// nobody else.
    async fn show(&self, sidecars: &[usize], visitors: &[(&str, &Member)]) {
        let mut expected: Vec<_> = visitors.iter().map(|(name, _)| (*name).to_owned()).collect();
        expected.sort();
        eventually(async || {
            for community in COMMUNITIES {
                for (_, member) in visitors {
                    member.sees(&self.world.community(community)).await;
                }
            }
            for community in COMMUNITIES {
                let shown = self.shown(community, sidecars).await;
                if shown.iter().any(|names| names.as_ref() != Some(&expected)) {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// What `/readyz` says.
async fn ready(sidecar: &Sidecar) -> String {
    let answer = reqwest::get(sidecar.admin_url("/readyz"))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "the site is served");
    answer.text().await.expect("text")
}

async fn signed_in(name: &str, sidecar: &Sidecar) -> Member {
    let member = Member::new(sidecar.url(""));
    member.sign_in(name).await;
    member
}

#[tokio::test]
async fn p14_three_sidecars_tell_one_count_though_a_sidecar_and_a_primary_are_killed() {
    let mut cluster = RedisCluster::start_failing_over().await;
    let mut site = Site::start(cluster.keys()).await;
    let alice = signed_in("alice", site.sidecar(0)).await;
    let bob = signed_in("bob", site.sidecar(1)).await;
    let carol = signed_in("carol", site.sidecar(2)).await;
    let all = [("alice", &alice), ("bob", &bob), ("carol", &carol)];
    site.show(&[0, 1, 2], &all).await;

    // Carol's sidecar is killed: she stays for the window, and then she has left.
    site.others[1].kill();
    site.show(&[0, 1], &all[..2]).await;
    // The primaries are killed one after the other; each time a replica takes over.
    for primary in 0..3 {
        cluster.nodes[primary].kill();
        let noticed = [0, 1].map(async |sidecar| {
            let sidecar = site.sidecar(sidecar);
            let down = "headcount_redis_partitions_down";
            sidecar.wait_for_metric(down, |down| down > 0.0).await;
            assert!(ready(sidecar).await.contains("partitions do not answer"));
            let up = sidecar.metric("headcount_redis_up").await;
            assert_eq!(up, 1.0, "the other nodes answer");
            sidecar.wait_for_metric(down, |down| down == 0.0).await;
        });
        join_all(noticed).await;
        site.show(&[0, 1], &all[..2]).await;
        cluster.nodes[primary].restart();
        cluster.nodes[primary].is_in_step().await;
    }
    site.others[1].restart();
    site.show(&[0, 1, 2], &all).await;
}

#[tokio::test]
async fn p14_live_pushes_go_on_after_sentinels_have_replaced_the_server() {
    let mut watched = Watched::start_failing_over().await;
    let site = Site::start(watched.keys()).await;
    let alice = signed_in("alice", site.sidecar(0)).await;
    let bob = signed_in("bob", site.sidecar(1)).await;
    let path = site.world.visitors("rust", "/live");
    let mut socket = Socket::open(site.sidecar(0), &path, &alice).await;
    socket.until(1).await;
    watched.servers[0].kill();
    let noticed = [0, 1].map(async |sidecar| {
        let sidecar = site.sidecar(sidecar);
        sidecar
            .wait_for_metric("headcount_redis_up", |up| up == 0.0)
            .await;
        assert!(ready(sidecar).await.contains("redis does not answer"));
        sidecar
            .wait_for_metric("headcount_redis_up", |up| up == 1.0)
            .await;
    });
    join_all(noticed).await;
    bob.sees(&site.world.community("rust")).await;
    socket.until(2).await;
}
