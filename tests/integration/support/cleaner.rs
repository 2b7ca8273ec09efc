//! Removes what a test, or the whole test process, leaves on disk: folders, and databases of the shared server.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use super::postgres::url;
use super::service::LONGEST_WAIT;

/// A folder that goes when this is dropped, and with this process: what all tests share is never dropped.
pub fn folder() -> TempDir {
    static PARENT: LazyLock<(PathBuf, Cleaner)> = LazyLock::new(|| {
        let parent = TempDir::with_prefix("headcount-tests-")
            .expect("a directory")
            .keep();
        // Some is given to users that servers run as.
        let others_pass = Permissions::from_mode(0o711);
        std::fs::set_permissions(&parent, others_pass).expect("own folder");
        let cleaner = Cleaner::of(&parent);
        (parent, cleaner)
    });
    tempfile::tempdir_in(&PARENT.0).expect("a directory")
}

/// Removes a directory when it is dropped, after the server that uses it, and also when this process ends or is
/// killed: a shell waits for its standard input to close.
pub struct Cleaner(Child);

impl Cleaner {
    pub fn of(directory: &Path) -> Self {
        // A server that is ending may write new files meanwhile.
        let script = r#"
            cat >/dev/null
            for _ in {1..600}; do rm -rf "$1" 2>/dev/null && break; sleep 0.1; done
        "#;
        let shell = Command::new("bash")
            .args(["-c", script, "cleaner"])
            .arg(directory)
            // In a group of its own: whoever ends the group of this process must not end its cleaners.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Nobody who reads what this process prints to its end is to wait for the removal.
            .stderr(Stdio::null())
            .spawn();
        Self(shell.expect("bash starts"))
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A database of a test. Dropping this drops it, beside the tests that go on: all databases of a run together take
/// gigabytes.
pub struct TestDatabase {
    /// Port of its server.
    pub port: u16,
    name: String,
}

impl TestDatabase {
    pub fn new(port: u16, name: String) -> Self {
        Self { port, name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves it to the end of its server; returns its name.
    pub fn keep(mut self) -> String {
        std::mem::take(&mut self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        static OVER: LazyLock<Sender<(u16, String)>> = LazyLock::new(|| {
            let (over, databases) = channel();
            std::thread::spawn(|| drop_each(databases));
            over
        });
        let name = std::mem::take(&mut self.name);
        if !name.is_empty() {
            let _ = OVER.send((self.port, name));
        }
    }
}

fn drop_each(databases: Receiver<(u16, String)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    for (port, name) in databases {
        let dropped = async {
            let mut admin = PgConnection::connect(&url(port, "postgres")).await?;
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            admin.execute(AssertSqlSafe(sql)).await?;
            admin.close().await
        };
        // It fails where the server has ended, whose folder goes as a whole.
        let _ = runtime.block_on(async { tokio::time::timeout(LONGEST_WAIT, dropped).await });
    }
}
