//! Panics on demand, for tests that kill each task of a running sidecar: no panic is known that could be provoked from
//! outside, so a test must be able to cause one. Only debug builds have this module: a release build, which is what
//! is installed, contains no way to do it.
//!
//! The environment variable `HEADCOUNT_TEST_FAULTS` names a folder; a file there with the name of a task makes that
//! task panic, and is removed.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::Task;

/// Between two looks for the file.
const LOOK: Duration = Duration::from_millis(20);

/// Where faults are asked for; `None` unless a test does.
pub(super) fn file(task: Task) -> Option<PathBuf> {
    let folder = std::env::var_os("HEADCOUNT_TEST_FAULTS")?;
    Some(PathBuf::from(folder).join(task.label()))
}

/// Does the work, unless a panic is asked for first.
pub(super) async fn or_panic(task: Task, work: BoxFuture<'_, ()>) {
    let Some(file) = file(task) else {
        return work.await;
    };
    let asked = async {
        // Of several tasks of one name, one takes it.
        while std::fs::remove_file(&file).is_err() {
            sleep(LOOK).await;
        }
        // Here, so that the work is dropped as by a panic of its own.
        panic!("a test asked for this");
    };
    tokio::select! {
        () = asked => {}
        () = work => {}
    }
}
