//! What an operator is told of a spool that cannot be used: the folder, what is wrong with it, and what to do. Pure.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::{Directory, SpoolError, file};

const OTHER_DISK: &str = "or move the folder to another disk, set spool.dir to it, and restart";
const ACCESS: &str =
    "make the folder and its files those of the user that runs headcount (the folder of mode 0700)";

/// What is wrong, and the remedy.
type WrongAndRemedy = (&'static str, String);

impl Directory {
    /// A sentence about an error of this folder or of a file in it, which ends with the remedy. Where there is a remedy in the
    /// file system, what waits is put into the spool as soon as it is done, without a restart.
    pub fn explain(&self, error: &SpoolError) -> String {
        explain(self.path(), error)
    }
}

fn explain(folder: &Path, error: &SpoolError) -> String {
    let (cause, (fault, remedy)) = match error {
        SpoolError::File(error) => (crate::telemetry::chain(error), of_file(error)),
        SpoolError::Folder(error) => (error.to_string(), of_folder(error)),
        SpoolError::Closed => (error.to_string(), unknown()),
    };
    format!("spool.dir: {}: {fault} ({cause}): {remedy}", folder.display())
}

/// By SQLite's primary code.
fn of_file(error: &sqlx::Error) -> WrongAndRemedy {
    match file::code(error) {
        Some(13) => full(),
        Some(8) => (
            "a file there cannot be written",
            format!("where the disk is mounted read-only, mount it read-write; else {ACCESS}"),
        ),
        Some(14) => (
            "a file there cannot be opened",
            format!(
                "{ACCESS}; it may also be that the folder is gone, or that the process may open no more files"
            ),
        ),
        Some(5 | 6) => (
            "another process has a file there open",
            "end what reads or copies it".to_owned(),
        ),
        Some(11 | 26) => (
            "a file there is damaged",
            "it is set aside and a new one made; look for the disk's errors in the kernel's log".to_owned(),
        ),
        Some(10) => (
            "the disk fails",
            format!("look for its errors in the kernel's log, {OTHER_DISK}"),
        ),
        _ => unknown(),
    }
}

fn of_folder(error: &io::Error) -> WrongAndRemedy {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => full(),
        ErrorKind::ReadOnlyFilesystem => (
            "the disk is mounted read-only",
            format!("look for its errors in the kernel's log, and mount it read-write, {OTHER_DISK}"),
        ),
        ErrorKind::PermissionDenied => ("it is not allowed to write there", ACCESS.to_owned()),
        ErrorKind::NotFound | ErrorKind::NotADirectory => (
            "the folder, or the spool in it, is gone",
            "make it a folder of the user that runs headcount (mode 0700)".to_owned(),
        ),
        ErrorKind::ResourceBusy => (
            "another process has a file there open",
            "end what reads or copies it".to_owned(),
        ),
        _ => unknown(),
    }
}

fn full() -> WrongAndRemedy {
    ("the disk is full", format!("make room on it, {OTHER_DISK}"))
}

fn unknown() -> WrongAndRemedy {
    (
        "it cannot be used",
        format!("look at the disk and at the kernel's log, {OTHER_DISK}"),
    )
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection};

    use super::*;

    /// What a statement of SQLite answers.
    async fn refused(statements: &[&'static str]) -> SpoolError {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut last = Ok(());
        for statement in statements {
            last = sqlx::raw_sql(*statement).execute(&mut connection).await.map(drop);
        }
        last.expect_err("the last fails").into()
    }

    #[tokio::test]
    async fn w12_each_error_of_the_spool_names_the_folder_and_ends_with_the_remedy() {
        let fills = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) \
                     INSERT INTO t SELECT zeroblob(4096) FROM n";
        let full = refused(&["PRAGMA max_page_count = 3", "CREATE TABLE t (a)", fills]).await;
        let read_only = refused(&[
            "CREATE TABLE t (a)",
            "PRAGMA query_only = 1",
            "INSERT INTO t VALUES (1)",
        ])
        .await;
        let folder = |kind: ErrorKind| SpoolError::from(io::Error::from(kind));
        for (error, fault, remedy) in [
            (full, "the disk is full", "and restart"),
            (read_only, "cannot be written", "mode 0700)"),
            (folder(ErrorKind::StorageFull), "the disk is full", "and restart"),
            (
                folder(ErrorKind::ReadOnlyFilesystem),
                "mounted read-only",
                "and restart",
            ),
            (folder(ErrorKind::PermissionDenied), "not allowed", "mode 0700)"),
            (folder(ErrorKind::NotFound), "is gone", "mode 0700)"),
            (folder(ErrorKind::ResourceBusy), "another process", "copies it"),
            (folder(ErrorKind::Other), "cannot be used", "and restart"),
        ] {
            let said = explain(Path::new("/var/spool/headcount"), &error);
            assert!(said.starts_with("spool.dir: /var/spool/headcount: "), "{said}");
            assert!(said.contains(fault) && said.ends_with(remedy), "{said}");
        }
    }
}
