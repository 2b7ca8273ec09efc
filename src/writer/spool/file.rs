//! One spool file: its names, its format, and how it is opened.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Executor as _, SqliteConnection};
use tokio::task::spawn_blocking;

use super::SpoolError;
use crate::batch::WriterId;

/// `PRAGMA application_id`: "HCNT". Another program's SQLite database is not taken for a spool.
const APPLICATION: i64 = 0x4843_4e54;
/// `PRAGMA user_version`: 2 since rows are binary (`encode`). A file of an earlier version stays one until such a row is
/// put into it.
const VERSION: i64 = 2;
/// Longest wait for `headcount dead-letters`, which also works on the file.
const BUSY: Duration = Duration::from_secs(5);
/// Ends of the names of the database and of the files that SQLite puts beside it.
const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];
/// Extension of a spool file.
pub(super) const EXTENSION: &str = "spool";

/// `state` of a row: ready, to be looked up first, or with damaged bytes.
const TABLES: &str = "
    CREATE TABLE batch (
        place INTEGER PRIMARY KEY AUTOINCREMENT,
        writer_id TEXT NOT NULL,
        batch_seq INTEGER NOT NULL,
        state INTEGER NOT NULL,
        views INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        oldest_at INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (writer_id, batch_seq)
    );
    CREATE TABLE dead_letter (
        writer_id TEXT NOT NULL,
        batch_seq INTEGER NOT NULL,
        reason TEXT NOT NULL,
        refused_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        checksum INTEGER NOT NULL,
        oldest_at INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (writer_id, batch_seq)
    );";

/// The names of one spool's files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) database: PathBuf,
    pub(super) tokens: PathBuf,
    pub(super) lock: PathBuf,
}

impl Files {
    pub(super) fn of(folder: &Path, id: WriterId) -> Self {
        Self {
            database: folder.join(format!("{id}.{EXTENSION}")),
            tokens: folder.join(format!("{id}.tokens")),
            lock: folder.join(format!("{id}.lock")),
        }
    }

    /// The database and the files that SQLite puts beside it.
    fn parts(&self) -> [PathBuf; SUFFIXES.len()] {
        SUFFIXES.map(|suffix| with_suffix(&self.database, suffix))
    }

    /// Opens the lock file, creating it where it is missing, and takes the lock; `None` if another process holds
    /// it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.lock)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// An empty file for the owner alone; SQLite gives its companion files the same mode.
    pub(super) fn create(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&self.database)?;
        // The mode does not depend on the process' umask.
        file.set_permissions(Permissions::from_mode(0o600))
    }

    /// Removes all of them, the lock last.
    pub(super) fn remove(&self) -> io::Result<()> {
        // The database first: without it, the other files mean nothing.
        for path in self.parts().iter().chain([&self.tokens, &self.lock]) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Renames the database and its log, so that they are not taken for a spool. Nothing is lost; renamed back, it
    /// is a spool again. Returns the new name.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = with_suffix(&self.database, ".set-aside");
        let database = self.parts().into_iter().zip(SUFFIXES);
        let renamed = database.map(|(part, suffix)| (part, with_suffix(&aside, suffix)));
        let tokens = (self.tokens.clone(), with_suffix(&self.tokens, ".set-aside"));
        for (from, to) in renamed.chain([tokens]) {
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let _ = std::fs::remove_file(&self.lock);
        Ok(aside)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Why a file is not taken for a spool.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableFile {
    #[error("it is damaged ({0})")]
    Damaged(String),
    #[error("it is a database of something else")]
    Foreign,
    #[error(
        "it was written by a later version ({0}, this one knows {VERSION}); start that version to have its page views written"
    )]
    Newer(i64),
}

/// What an existing file is.
pub(super) enum Opened {
    Spool(SqliteConnection),
    /// Its process ended before anything was in it.
    Nothing(SqliteConnection),
    UnusableFile(UnusableFile),
}

/// Checks the header of a file before it is opened, since opening alone would change another program's database.
/// The header is that of the last checkpoint: with a log beside the file, it may be out of date.
///
/// # Errors
/// The file cannot be read.
pub(super) fn check_header(database: &Path) -> io::Result<Option<UnusableFile>> {
    let mut head = [0; 100];
    let file = File::open(database)?;
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    if let Err(error) = file.read_exact_at(&mut head, 0) {
        return Ok(Some(UnusableFile::Damaged(error.to_string())));
    }
    if !head.starts_with(b"SQLite format 3\0") {
        return Ok(Some(UnusableFile::Damaged(
            "it has not the head of a database".into(),
        )));
    }
    if with_suffix(database, "-wal").exists() {
        return Ok(None);
    }
    // <https://www.sqlite.org/fileformat.html#the_database_header>
    let number = |at: usize| {
        let bytes = head[at..at + 4].try_into().unwrap_or_default();
        i64::from(u32::from_be_bytes(bytes))
    };
    Ok(match (number(68), number(60)) {
        (APPLICATION, version) if version > VERSION => Some(UnusableFile::Newer(version)),
        (APPLICATION, _) => None,
        _ => Some(UnusableFile::Foreign),
    })
}

/// Opens the file as it is, and writes nothing.
pub(super) async fn connect(database: &Path, fsync: bool) -> Result<SqliteConnection, sqlx::Error> {
    options(database, fsync).connect().await
}

fn options(database: &Path, fsync: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(if fsync {
            SqliteSynchronous::Full
        } else {
            SqliteSynchronous::Normal
        })
        .busy_timeout(BUSY)
        .disable_statement_logging()
}

/// Makes a spool of a file that is still empty, and opens it.
///
/// The disk is waited for once, when the file is finished. Until then nothing in it can be lost: what a process leaves that
/// ends before is a spool without rows, an empty file, or after a power cut one that is set aside as no spool. Its name is in the folder for good with the first commit: SQLite syncs the
/// folder when it makes the log.
pub(super) async fn make(database: &Path, fsync: bool) -> Result<SqliteConnection, SpoolError> {
    let unsynced = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(false)
        .synchronous(SqliteSynchronous::Off)
        .disable_statement_logging();
    let mut connection = unsynced.connect().await?;
    // Both settings are kept in the file and are commits, too: hence not among the options, where they come before
    // `synchronous`. `auto_vacuum` would be written each time it is set, which a full disk would refuse.
    let settings = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;";
    let format = format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
    let all = format!("{settings} BEGIN IMMEDIATE; {TABLES} {format} COMMIT;");
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(all)))
        .await?;
    // This moves everything from the log into the file.
    sqlx::Connection::close(connection).await?;
    if fsync {
        // While SQLite has the file open this would give up its locks: a process' locks end when it closes any descriptor.
        let file = File::open(database)?;
        spawn_blocking(move || file.sync_all())
            .await
            .map_err(io::Error::other)??;
    }
    Ok(connect(database, fsync).await?)
}

/// Makes a file one of this version, whose rows an earlier one cannot read.
pub(super) async fn raise_version(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    if version >= VERSION {
        return Ok(());
    }
    let raise = format!("PRAGMA user_version = {VERSION}");
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(raise)))
        .await?;
    Ok(())
}

/// Opens an existing file and checks what it is; `thoroughly`: also that it is undamaged, which takes time.
///
/// # Errors
/// The file cannot be read now.
pub(super) async fn open(database: &Path, fsync: bool, thoroughly: bool) -> Result<Opened, sqlx::Error> {
    let looked = async {
        let mut connection = connect(database, fsync).await?;
        let state = examine(&mut connection, thoroughly).await?;
        Ok::<_, sqlx::Error>((connection, state))
    };
    match looked.await {
        Ok((connection, Examined::Spool)) => Ok(Opened::Spool(connection)),
        Ok((connection, Examined::Nothing)) => Ok(Opened::Nothing(connection)),
        Ok((connection, Examined::UnusableFile(unusable))) => {
            let _ = sqlx::Connection::close(connection).await;
            Ok(Opened::UnusableFile(unusable))
        }
        Err(error) if is_damage(&error) => Ok(Opened::UnusableFile(UnusableFile::Damaged(error.to_string()))),
        Err(error) => Err(error),
    }
}

enum Examined {
    Spool,
    Nothing,
    UnusableFile(UnusableFile),
}

async fn examine(connection: &mut SqliteConnection, thoroughly: bool) -> Result<Examined, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id")
        .fetch_one(&mut *connection)
        .await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 && application == 0 && version == 0 {
        return Ok(Examined::Nothing);
    }
    if application != APPLICATION {
        return Ok(Examined::UnusableFile(UnusableFile::Foreign));
    }
    if version > VERSION {
        return Ok(Examined::UnusableFile(UnusableFile::Newer(version)));
    }
    if !thoroughly {
        return Ok(Examined::Spool);
    }
    let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(connection)
        .await?;
    Ok(if found == "ok" {
        Examined::Spool
    } else {
        Examined::UnusableFile(UnusableFile::Damaged(found))
    })
}

/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`: waiting does not help.
pub(super) fn is_damage(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(11 | 26))
}

/// `SQLITE_FULL`, `SQLITE_IOERR` and `SQLITE_READONLY`: the disk is full, broken, or was made read-only because it
/// is broken. Deleting needs room, too.
pub(super) fn is_unwritable(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(8 | 10 | 13))
}

/// SQLite's primary code. <https://www.sqlite.org/rescode.html>
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?.parse::<i32>().ok()?;
    Some(code & 0xff)
}
