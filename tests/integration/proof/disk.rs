//! The spool's disk is full: the site goes on, what cannot be held is counted, and recording resumes by
//! itself. The disk is a small one made for the test, in memory.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use tempfile::TempDir;

use super::crowd::{Crowd, Pace};
use super::verdict::{Tables, Verdict};
use super::{DROPS, RETRIES, dice, drained_in, family};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::world::{Wanted, World};

/// Large views, quickly.
const HEAVY: Pace = Pace {
    pause: Duration::from_millis(5),
    user_agent: 500,
};

/// A file system of a size.
struct Disk {
    home: TempDir,
}

impl Disk {
    fn of(size: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let owner = |which: &str| {
            let id = Command::new("id").arg(which).output().expect("id runs");
            String::from_utf8(id.stdout).expect("a number").trim().to_owned()
        };
        let options = format!("size={size},mode=0700,uid={},gid={}", owner("-u"), owner("-g"));
        let disk = Self { home };
        let mounted = as_root(
            &["mount", "-t", "tmpfs", "-o", &options, "headcount-test"],
            &disk.folder(),
        );
        assert!(
            mounted,
            "a small file system cannot be mounted: this test must run as root, or as somebody who may use \
             `sudo -n mount`, and in a container with CAP_SYS_ADMIN"
        );
        disk
    }

    fn folder(&self) -> PathBuf {
        self.home.path().to_owned()
    }

    /// Something else takes all the room that is left.
    fn is_filled(&self) {
        let mut file = File::create(self.something_else()).expect("a file");
        let mut piece = vec![0; 64 * 1024];
        while !piece.is_empty() {
            if file.write_all(&piece).is_err() {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    /// And is removed again.
    fn is_freed(&self) {
        std::fs::remove_file(self.something_else()).expect("it is there");
    }

    fn something_else(&self) -> PathBuf {
        self.home.path().join("something-else")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a sidecar that still runs must not keep it.
        as_root(&["umount", "--lazy"], &self.folder());
    }
}

fn as_root(command: &[&str], folder: &Path) -> bool {
    let is_root = Command::new("id").arg("-u").output().expect("id runs").stdout == b"0\n";
    let sudo: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    let words: Vec<&str> = sudo.iter().chain(command).copied().collect();
    let status = Command::new(words[0]).args(&words[1..]).arg(folder).status();
    status.is_ok_and(|status| status.success())
}

struct Trial {
    // Dropped in this order: the sidecar before its disk.
    world: World,
    database: Proxy,
    disk: Disk,
    crowd: Crowd,
    dice: StdRng,
}

impl Trial {
    async fn begins() -> Self {
        let (dice, disk) = (dice(), Disk::of("2m"));
        let database = Proxy::before(Postgres::shared().port()).await;
        let wanted = Wanted {
            database_port: Some(database.port()),
            database: "acquire_timeout = \"500ms\"\nstatement_timeout = \"1s\"".into(),
            session: "cache_ttl = \"1h\"".into(),
            // Little memory, so that it is the disk that matters.
            record: "queue_views = 50\nbatch_views = 50".into(),
            config: format!(
                "[spool]\ndir = \"{}\"\nmax_bytes = \"1GiB\"",
                disk.folder().display()
            ),
            ..Wanted::usual()
        };
        let world = wanted.start().await;
        let crowd = Crowd::of(&world).await;
        Self {
            world,
            database,
            disk,
            crowd,
            dice,
        }
    }

    /// Members browse meanwhile; in the end each view is there or was counted as dropped.
    async fn all_is_there_or_counted(mut self, meanwhile: impl AsyncFnOnce(&World, &Proxy, &Disk)) {
        let sidecar = &self.world.sidecar;
        let load = self.crowd.browses(&[sidecar.url("")], HEAVY, &mut self.dice);
        meanwhile(&self.world, &self.database, &self.disk).await;
        sidecar
            .wait_for_metric("headcount_spool_up", |up| up == 1.0)
            .await;
        let applied = sidecar.metric(APPLIED).await;
        sidecar.wait_for_metric(APPLIED, |now| now > applied).await;
        let visits = load.stop().await;
        drained_in(sidecar, &self.disk.folder()).await;
        // Those from now on are recorded.
        let load = self
            .crowd
            .browses(&[sidecar.url("")], Pace::STEADY, &mut self.dice);
        sidecar.wait_for_metric(APPLIED, |now| now > applied + 20.0).await;
        let after = load.stop().await;
        drained_in(sidecar, &self.disk.folder()).await;

        let tables = Tables::Postgres(Postgres::shared().pool(self.world.database.name()));
        let (drops, retries) = (family(sidecar, DROPS).await, family(sidecar, RETRIES).await);
        let all = [&visits[..], &after].concat();
        let verdict = Verdict::of(&self.crowd, &all, &tables).await;
        println!("{verdict}; drops {drops:?}, retries {retries:?}");
        verdict.the_site_never_failed();
        verdict.nothing_counts_twice();
        assert!(!verdict.lost.is_empty(), "the disk was full");
        let dropped: f64 = drops.iter().map(|(_, drops)| drops).sum();
        let lost = u32::try_from(verdict.lost.len()).expect("few");
        assert_eq!(dropped, f64::from(lost), "{verdict}");
        let lost_after = verdict
            .lost
            .iter()
            .filter(|lost| after.iter().any(|visit| visit.path == lost.path));
        assert_eq!(lost_after.count(), 0, "recording has resumed");
    }
}

const APPLIED: &str = "headcount_applied_views_total";
const UNAVAILABLE: &str = "headcount_recorder_dropped_total{reason=\"spool_unavailable\"}";

async fn drops_begin(world: &World) {
    let before = world.sidecar.metric(UNAVAILABLE).await;
    world
        .sidecar
        .wait_for_metric(UNAVAILABLE, |drops| drops > before)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w12_a_disk_that_the_spool_itself_filled_is_emptied_when_the_database_is_back() {
    let trial = Trial::begins().await;
    let meanwhile = async |world: &World, database: &Proxy, _: &Disk| {
        database.hang();
        drops_begin(world).await;
        database.resume().await;
    };
    trial.all_is_there_or_counted(meanwhile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w12_a_disk_that_something_else_filled_is_used_again_once_it_is_freed() {
    let trial = Trial::begins().await;
    let meanwhile = async |world: &World, _: &Proxy, disk: &Disk| {
        disk.is_filled();
        drops_begin(world).await;
        disk.is_freed();
    };
    trial.all_is_there_or_counted(meanwhile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn w12_a_disk_that_is_full_to_the_last_byte_while_the_database_hangs_loses_only_what_is_counted() {
    let trial = Trial::begins().await;
    let meanwhile = async |world: &World, database: &Proxy, disk: &Disk| {
        database.hang();
        let waiting = "headcount_spool_views";
        world
            .sidecar
            .wait_for_metric(waiting, |views| views > 100.0)
            .await;
        disk.is_filled();
        drops_begin(world).await;
        // What waits reaches the database, though it cannot be deleted yet.
        let applied = world.sidecar.metric(APPLIED).await;
        database.resume().await;
        world
            .sidecar
            .wait_for_metric(APPLIED, |now| now > applied + 50.0)
            .await;
        disk.is_freed();
    };
    trial.all_is_there_or_counted(meanwhile).await;
}
