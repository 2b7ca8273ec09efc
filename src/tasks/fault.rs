//! Panics on demand, for tests that kill each task of a running sidecar. No panic is known that can be provoked from
//! outside. Only debug builds have this module: a release build, which is what is installed, contains no way to do it.
//!
//! The environment variable `HEADCOUNT_TEST_FAULTS` names a folder; a file there with the name of a task makes that
//! task panic, and is removed.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::Task;
use crate::metrics::LabelValue as _;

/// Time between two checks for the file.
const LOOK: Duration = Duration::from_millis(20);

/// The file that asks for a fault; `None` unless a test sets the folder.
pub(super) fn file(task: Task) -> Option<PathBuf> {
    let folder = std::env::var_os("HEADCOUNT_TEST_FAULTS")?;
    Some(PathBuf::from(folder).join(task.label()))
}

/// Runs the work, until a panic is asked for.
pub(super) async fn or_panic(task: Task, work: BoxFuture<'_, ()>) {
    let Some(file) = file(task) else {
        return work.await;
    };
    let asked = async {
        // Of several tasks of one name, one removes it.
        while std::fs::remove_file(&file).is_err() {
            sleep(LOOK).await;
        }
        // Panics here, so that the work is dropped as by a panic of its own.
        panic!("a test asked for this");
    };
    tokio::select! {
        () = asked => {}
        () = work => {}
    }
}
