//! The disk of the spool takes what is written, and fails to sync it.

use super::{Made, all_dropped};
use crate::support::failing_fsync::{Errno, FailingFsync};
use crate::support::process::Process;
use crate::support::world::Wanted;

#[tokio::test]
async fn w20_a_view_whose_commit_could_not_be_synced_is_written_once_however_often_it_is_tried() {
    let fsync = FailingFsync::new();
    let mut world = Wanted::usual().start().await;
    world.sidecar.kill();
    let arguments = ["run", "--config", &world.sidecar.config()];
    let folder = world.sidecar.folder();
    let process = Process::start(&folder, &arguments, &fsync.environment());
    process.says("ready");
    world.sidecar.adopt(process);

    let alice = world.member("alice").await;
    let mut made = Made::default();
    made.sees("alice", &alice, &["/about/"]).await;
    made.are_recorded(&world).await;
    for errno in [Errno::Io, Errno::NoSpace, Errno::Quota] {
        fsync.fail(errno);
        made.sees("alice", &alice, &[&world.community("rust")]).await;
        world
            .sidecar
            .wait_for_metric("headcount_spool_up", |up| up == 0.0)
            .await;
        // Several tries of one view.
        fsync.wait_for_failures(12);
        fsync.mend();
        made.are_recorded(&world).await;
    }
    assert_eq!(all_dropped(&world).await, 0.0);
    let sessions = world.site.ask("oracle/sessions").await;
    assert_eq!(sessions[0]["pages_visited"], 4);
}
