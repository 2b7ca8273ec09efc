//! A spool that comes back from a copy of its disk.

use std::process::Command;

use sqlx::Executor as _;

use super::{Fragile, Made, all_dropped, endlessly_patient};
use crate::support::postgres::Postgres;
use crate::support::world::{Wanted, World};

#[tokio::test]
async fn w23_a_spool_that_comes_back_from_an_older_copy_of_its_disk_is_not_written_again() {
    let mut fragile = Fragile::start(endlessly_patient()).await;
    let alice = fragile.world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(&fragile.world).await;

    fragile.database.hang();
    for _ in 0..3 {
        made.sees("alice", &alice, &["/about/"]).await;
        let waiting = made.0.len() - 1;
        let waiting = f64::from(u32::try_from(waiting).unwrap());
        let spooled = "headcount_spool_views";
        let sidecar = &fragile.world.sidecar;
        sidecar.wait_for_metric(spooled, |views| views == waiting).await;
    }
    let folder = fragile.world.sidecar.directory().join("spool");
    let copy = fragile.world.sidecar.folder();
    let copied = Command::new("cp").arg("-a").arg(&folder).arg(&copy).status();
    assert!(copied.unwrap().success());
    fragile.database.resume().await;
    // Batch after batch: what is in the copy is settled, and the ledger need not hold it.
    for _ in 0..3 {
        made.sees("alice", &alice, &["/about/"]).await;
        made.are_recorded(&fragile.world).await;
    }

    let sidecar = &mut fragile.world.sidecar;
    sidecar.kill();
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::rename(copy.join("spool"), &folder).unwrap();
    sidecar.restart();
    sidecar
        .wait_for_metric("headcount_spools_adopted_total", |spools| spools == 1.0)
        .await;
    sidecar.wait_until_idle().await;
    made.are_exactly(&fragile.world.page_views().await);
    assert_eq!(all_dropped(&fragile.world).await, 0.0);
}

/// As a machine does that is resumed from a snapshot with its memory: its numbers are in the ledger already.
#[tokio::test]
async fn w23_a_process_whose_numbers_were_used_by_a_copy_of_it_says_so_and_begins_a_new_spool() {
    let fragile = Fragile::start(endlessly_patient()).await;
    let world = &fragile.world;
    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(world).await;
    the_numbers_are_used_by_a_copy(world).await;
    alice.sees("/about/").await;
    world
        .sidecar
        .process()
        .says("its machine was resumed from a snapshot");
    made.sees("alice", &alice, &["/about/", "/about/"]).await;
    made.are_recorded(world).await;
}

/// What waits in the copied spool has the copy's numbers, too: that it is known is no reason to replace the new spool.
#[tokio::test]
async fn w23_the_rest_of_a_copied_spool_replaces_no_other() {
    let fragile = Fragile::start(Wanted {
        record: "batch_views = 1".into(),
        ..endlessly_patient()
    })
    .await;
    let world = &fragile.world;
    let (alice, mut made) = Made::first(world).await;
    fragile.database.hang();
    for waiting in [1.0, 2.0, 3.0] {
        alice.sees("/about/").await;
        let spooled = "headcount_spool_views";
        world
            .sidecar
            .wait_for_metric(spooled, |views| views == waiting)
            .await;
    }
    the_numbers_are_used_by_a_copy(world).await;
    fragile.database.resume().await;
    world.sidecar.wait_until_idle().await;
    let copied = "its machine was resumed from a snapshot";
    world.sidecar.process().says(copied);
    let told = world.sidecar.process().log();
    assert_eq!(told.matches(copied).count(), 1, "{told}");
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(world).await;
}

/// Marks in the ledger that every number of the one writer is settled.
async fn the_numbers_are_used_by_a_copy(world: &World) {
    let pool = Postgres::shared().pool(world.database.name());
    let copied = "INSERT INTO headcount.applied_batch (writer_id, batch_seq)
                  SELECT writer_id, -1000 FROM headcount.applied_batch GROUP BY writer_id";
    assert_eq!(pool.execute(copied).await.unwrap().rows_affected(), 1);
}
