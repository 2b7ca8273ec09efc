//! `kill -9` of the sidecar under load, at random moments: what is lost is what was not yet on disk, and
//! nothing else.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::crowd::{Crowd, Pace, Visit};
use super::verdict::{Tables, Verdict};
use super::{KNOWN_PARTS, dice, drained, length};
use crate::support::backend::Variant;
use crate::support::postgres::Postgres;
use crate::support::service::wait_until;
use crate::support::world::{Parts, Wanted, World};

/// `spool.max_unspooled`, by default.
const UNSPOOLED: Duration = Duration::from_millis(50);
/// Syncs that a view may have to wait for, each on a thread that must get its turn: one of rows that the database
/// has, one of the group before it, and its own.
const SYNCS: u32 = 3;
/// Shortest time that is taken for a sync: threads of a loaded process wait for their turn where the probe's does not.
const LEAST_SYNC: Duration = Duration::from_millis(50);
/// Between two syncs.
const PAUSE: Duration = Duration::from_millis(20);
/// How long before a kill a sync may have ended that tells how long those at the kill took.
const LATELY: Duration = Duration::from_secs(1);

/// A moment at which the process was killed.
struct Kill {
    /// The signal was not sent yet.
    before: Instant,
    /// The signal was certainly sent.
    after: Instant,
    /// The slowest sync around that moment.
    sync: Duration,
}

impl Kill {
    /// How old a view may be that is lost.
    fn allowed(&self) -> Duration {
        UNSPOOLED + self.sync.max(LEAST_SYNC) * SYNCS
    }

    /// Zero for an answer that was on its way to the member when its process ended.
    fn age(&self, visit: &Visit) -> Duration {
        self.before.saturating_duration_since(visit.done)
    }
}

async fn only_the_last_moments_are_lost(wanted: Wanted, kills: u32) {
    let mut dice = dice();
    let embedded = wanted.parts == Parts::Embedded;
    let mut world = wanted.start().await;
    let tables = tables(&world, embedded);
    let crowd = Crowd::of(&world).await;
    let disk = Disk::probed(world.sidecar.directory());
    let load = crowd.browses(&[world.sidecar.url("")], Pace::STEADY, &mut dice);
    let pause = length(10) / kills;
    let mut killed = Vec::new();
    let mut known_parts = 0.0;
    for _ in 0..kills {
        tokio::time::sleep(pause.mul_f64(dice.random_range(0.2..1.8))).await;
        known_parts += world.sidecar.metric(KNOWN_PARTS).await;
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..100))).await;
        let before = Instant::now();
        world.sidecar.signal("KILL");
        let after = Instant::now();
        world.sidecar.kill();
        let sync = disk.slowest_around(before, after);
        killed.push(Kill { before, after, sync });
        world.sidecar.restart();
    }
    tokio::time::sleep(pause).await;
    let visits = load.stop().await;
    drained(&world.sidecar).await;
    known_parts += world.sidecar.metric(KNOWN_PARTS).await;

    let verdict = Verdict::of(&crowd, &visits, &tables).await;
    let mut losses = Vec::new();
    for visit in &verdict.lost {
        // Nothing is sent again: what one process was asked, no other answered.
        let kill = killed.iter().find(|kill| kill.after >= visit.sent);
        let kill = kill.unwrap_or_else(|| panic!("{} was lost without a kill: {verdict}", visit.path));
        losses.push((kill.age(visit), kill));
    }
    let oldest = losses.iter().map(|(age, _)| *age).max().unwrap_or_default();
    let syncs = killed.iter().map(|kill| kill.sync);
    println!(
        "{kills} kills: {verdict}; oldest loss {oldest:?} before its kill, slowest sync {:?}; parts that the \
         ledger knew {known_parts}",
        syncs.max().unwrap_or_default()
    );
    for (age, kill) in &losses {
        let ages: Vec<_> = losses.iter().map(|(age, _)| age).collect();
        assert!(
            *age <= kill.allowed(),
            "{age:?} > {:?}; all: {ages:?}",
            kill.allowed()
        );
    }
    verdict.nothing_counts_twice();
    assert!(verdict.wrong.is_empty(), "{verdict}");
    assert!(verdict.answered > kills as usize, "there was a load: {verdict}");
}

fn tables(world: &World, embedded: bool) -> Tables {
    if embedded {
        Tables::sqlite(&world.database.url())
    } else {
        Tables::Postgres(Postgres::shared().pool(world.database.name()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_a_killed_sidecar_loses_only_what_was_not_yet_on_disk() {
    only_the_last_moments_are_lost(Wanted::usual(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promise_2_a_killed_embedded_sidecar_loses_only_what_was_not_yet_on_disk() {
    let wanted = Wanted::new(Parts::Embedded, Variant::Default);
    only_the_last_moments_are_lost(wanted, 8).await;
}

/// How long a sync takes, beside everything else that goes on: from when a thread wants to wake for it, so that what a
/// busy machine keeps threads waiting is in it.
struct Disk {
    /// When each was wanted, and how long it then took.
    syncs: Arc<std::sync::Mutex<Vec<(Instant, Duration)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    fn probed(directory: &Path) -> Self {
        let (syncs, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut file = std::fs::File::create(directory.join("probe")).expect("a file");
        let (told, stopped) = (Arc::clone(&syncs), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut wanted = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                file.write_all(&[0; 4096]).expect("it is written");
                file.sync_data().expect("it is synced");
                let told: &std::sync::Mutex<Vec<_>> = &told;
                told.lock().expect("whole").push((wanted, wanted.elapsed()));
                wanted = Instant::now() + PAUSE;
                std::thread::sleep(PAUSE);
            }
        });
        Self {
            syncs,
            stop,
            thread: Some(thread),
        }
    }

    /// The slowest of those that ended shortly before a kill, until one has ended after it.
    fn slowest_around(&self, before: Instant, after: Instant) -> Duration {
        let mut slowest = Duration::ZERO;
        wait_until("a sync of the disk", || {
            let syncs = self.syncs.lock().expect("whole");
            let lately = |(wanted, took): &&(Instant, Duration)| *wanted + *took + LATELY >= before;
            let took = syncs.iter().filter(lately).map(|(_, took)| *took);
            slowest = took.max().unwrap_or_default();
            syncs
                .last()
                .is_some_and(|(wanted, took)| *wanted + *took >= after)
        });
        slowest
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
