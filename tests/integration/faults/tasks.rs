//! Every task is killed in turn, in a running sidecar, by what only debug builds have (`tasks::fault`): each is
//! noticed, told and at work again, or the process ends, and nothing is lost.

use std::path::{Path, PathBuf};

use headcount::metrics::LabelValue as _;
use headcount::tasks::Task;

use super::{Fragile, Made, text};
use crate::support::live::Events;
use crate::support::process;
use crate::support::redis::eventually;
use crate::support::redis_cluster::RedisCluster;
use crate::support::service::in_time;
use crate::support::sidecar::Sidecar;
use crate::support::world::{Wanted, World, any_prefix};

/// So that there are the counters' tasks, too.
const COUNTERS: (&str, &str) = ("HEADCOUNT__COUNTERS__ENABLED", "true");
const LOADED: &str = "headcount_config_reloads_total{outcome=\"success\"}";

/// Restarts a sidecar so that its tasks can be killed; returns the folder in which that is asked for.
fn restart_mortal(sidecar: &mut Sidecar, environment: &[(&'static str, &str)]) -> PathBuf {
    let folder = sidecar.folder();
    let faults = folder.to_str().expect("UTF-8").to_owned();
    let more = environment
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    let environment: Vec<_> = more.chain([("HEADCOUNT_TEST_FAULTS", faults)]).collect();
    sidecar.restart_with(&environment);
    folder
}

fn failures(task: Task) -> String {
    format!("headcount_task_failures_total{{task=\"{}\"}}", task.label())
}

impl World {
    /// Has a task panic, and waits until that was noticed.
    async fn kill(&self, task: Task, faults: &Path, times: f64) {
        std::fs::write(faults.join(task.label()), "").expect("a file");
        self.sidecar
            .wait_for_metric(&failures(task), |failures| failures == times)
            .await;
    }
}

#[tokio::test]
async fn t3_each_task_is_killed_and_is_at_work_again() {
    let cluster = RedisCluster::start().await;
    let wanted = Wanted {
        redis_at: Some(cluster.keys()),
        key_prefix: Some(any_prefix()),
        session: "revocation = \"trigger\"".into(),
        ..Wanted::usual()
    };
    let mut world = wanted.with_default_access().start().await;
    let migrated = process::run(&["migrate", "--config", &world.sidecar.config()], &[COUNTERS]);
    assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    let faults = restart_mortal(&mut world.sidecar, &[COUNTERS]);
    let (community, live) = (world.community("rust"), world.visitors("rust", "/live"));
    let (mut made, alice) = (Made::default(), world.member("alice").await);
    made.sees("alice", &alice, &[&community]).await;
    let mut events = Events::open(&world.sidecar, &live, &alice).await;
    events.until(1).await;

    let readyz = world.sidecar.admin_url("/readyz");
    for task in Task::ALL.iter().copied().filter(|task| *task != Task::Site) {
        made.sees("alice", &alice, &[&community]).await;
        made.are_recorded(&world).await;
        world.kill(task, &faults, 1.0).await;
        let told = format!("degraded: the task {} failed", task.label());
        let (status, answer) = text(&readyz).await;
        assert!(status == 200 && answer.contains(&told), "{answer}");
        // What comes before it is at work again waits for it.
        made.sees("alice", &alice, &[&community]).await;
        // What a task has in hand when it is killed is dropped and counted: here none has.
        made.are_recorded(&world).await;
        // Only a task that runs can be killed once more.
        world.kill(task, &faults, 2.0).await;
        made.sees("alice", &alice, &[&community]).await;
        made.are_recorded(&world).await;
    }

    // All of them at once do what they are there for.
    for metric in [
        "headcount_session_listener_up",
        "headcount_live_subscription_up",
        "headcount_database_up",
        "headcount_redis_up",
        "headcount_spool_up",
    ] {
        world.sidecar.wait_for_metric(metric, |up| up == 1.0).await;
    }
    let loaded = world.sidecar.metric(LOADED).await;
    world.sidecar.signal("HUP");
    world.sidecar.wait_for_metric(LOADED, |now| now > loaded).await;
    let bob = world.member("bob").await;
    bob.sees(&community).await;
    made.note("bob", &community);
    events.until(2).await;
    let carol = world.member("carol").await;
    made.sees("carol", &carol, &[&community]).await;
    let mut theirs = Events::open(&world.sidecar, &live, &carol).await;
    theirs.until(3).await;
    carol.sign_out().await;
    in_time("the end of a session's connection", theirs.ends()).await;
    eventually(async || alice.json(&world.visitors("rust", "/count")).await["stale"] == false).await;
    made.are_recorded(&world).await;

    world.sidecar.signal("TERM");
    assert_eq!(world.sidecar.wait_for_end(), Some(0));
}

#[tokio::test]
async fn t3_when_the_site_is_lost_the_process_ends_and_nothing_else_is_lost() {
    let mut fragile = Fragile::start(Wanted::usual()).await;
    let faults = restart_mortal(&mut fragile.world.sidecar, &[]);
    let community = fragile.world.community("rust");
    let (mut made, alice) = (Made::default(), fragile.world.member("alice").await);
    made.sees("alice", &alice, &[&community]).await;
    made.are_recorded(&fragile.world).await;
    fragile.database.refuse().await;
    made.sees("alice", &alice, &[&community, &community]).await;
    std::fs::write(faults.join(Task::Site.label()), "").expect("a file");
    assert_eq!(fragile.world.sidecar.wait_for_end(), Some(1));
    let log = fragile.world.sidecar.log();
    assert!(log.contains("the task site failed"), "{log}");
    fragile.database.resume().await;
    fragile.world.sidecar.restart();
    let applied = "headcount_applied_views_total";
    fragile
        .world
        .sidecar
        .wait_for_metric(applied, |views| views == 2.0)
        .await;
    made.are_exactly(&fragile.world.page_views().await);
}
