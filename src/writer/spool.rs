//! The spool: page views on disk until the app's database has them.
//!
//! A spool is one SQLite file with one writer, locked for as long as its process lives. The appender puts the
//! views of a few milliseconds into it as one row, in one synced commit; the applier takes rows in their
//! order, keeps them for a while after the database has committed, and deletes them once the ledger has confirmed
//! them. A folder holds the spools of one machine's
//! sidecars; a process adopts those whose owner is gone (see [`directory`]), so that crashes, upgrades and
//! hand-overs need no case of their own.
//!
//! `file` creates and opens such a file, `append` fills it (`insert` row by row), `rows` reads from it, `fresh` keeps in memory what was just
//! appended, `counts` keeps totals, `encode` defines the row format, `tokens` keeps session tokens outside the database file, `resolve` replaces rows after
//! a late lookup, `done` tracks finished rows, `kept` the acknowledged rows that stay for a while, `refused` and
//! `letters` handle rows that the database refused, `passed_over` those that are passed over for a while, `upkeep`
//! removes and shrinks the file.

pub mod append;
mod counts;
pub mod directory;
mod done;
pub mod encode;
mod file;
mod fresh;
mod insert;
mod kept;
pub mod letters;
pub mod passed_over;
mod refused;
mod resolve;
mod rows;
mod sentence;
mod tokens;
mod upkeep;

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};

use crate::batch::{BatchKey, WriterId};

pub use directory::Directory;
use encode::StoredViews;
use file::Files;
pub use rows::Most;
use tokens::Tokens;

/// What can go wrong with a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The file cannot be read or written: the disk is full or broken.
    #[error("the spool file cannot be used")]
    File(#[from] sqlx::Error),
    /// The folder cannot be used.
    #[error("the spool folder cannot be used")]
    Folder(#[from] std::io::Error),
    /// The spool has been closed, or was never created.
    #[error("the spool has been closed")]
    Closed,
}

impl SpoolError {
    /// Whether the disk takes no writes now: it is full, or broken. A file that another process has locked is neither.
    pub fn is_unwritable(&self) -> bool {
        match self {
            Self::File(error) => file::is_unwritable(error),
            Self::Folder(error) => error.kind() != std::io::ErrorKind::ResourceBusy,
            Self::Closed => false,
        }
    }

    /// Whether the file is damaged beyond use: waiting does not help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::File(error) if file::is_damage(error))
    }
}

/// An open spool. Every operation on rows is one transaction: after a failure, or when its future is dropped, all
/// or nothing of it is there.
///
/// Concurrency: one connection, for one operation at a time. Appending waits for at most the applier's current
/// operation.
pub struct Spool {
    id: WriterId,
    files: Files,
    fsync: bool,
    link: AsyncMutex<SpoolConnection>,
    waiting: Mutex<SpoolTotals>,
    /// `PRAGMA data_version` at the last full count.
    counted_at: AtomicI64,
    done: done::Done,
    passed_over: passed_over::PassedOverRows,
    /// The disk took no writes when a late lookup was resolved: rows that are unresolved in the file may be in the
    /// database.
    offers_unresolved: AtomicBool,
    /// An append whose COMMIT failed or was cut off.
    in_doubt: Mutex<Option<append::UncertainCommit>>,
    /// Whether no operation failed since the disk was last known to hold everything.
    is_synced: AtomicBool,
    /// Whether the file was made by this process, and so is of this version.
    is_new: bool,
    /// The place of the next row, as far as this process knows; 0: unknown.
    next_place: AtomicI64,
    fresh: fresh::FreshGroups,
    /// How often rows were made to wait again.
    requeues: AtomicU64,
    /// A mistake planted on purpose: groups are handed over before their commit.
    #[cfg(test)]
    hands_over_early: AtomicBool,
    #[cfg(test)]
    faults: Mutex<std::collections::VecDeque<Option<faults::Fault>>>,
    /// Locked after `link`.
    tokens: AsyncMutex<Tokens>,
    /// Held as long as this lives.
    _lock: Option<File>,
}

/// Totals of what waits in a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpoolTotals {
    /// Views to apply.
    pub views: u64,
    /// Bytes of those views.
    pub bytes: u64,
    /// Bytes of the unresolved ones among them.
    pub unresolved_bytes: u64,
    /// When the oldest view was made.
    pub oldest: Option<DateTime<Utc>>,
    /// Dead letters.
    pub dead_letters: u64,
    /// Bytes of the dead letters.
    pub dead_bytes: u64,
}

/// A part in a spool, as it is read.
#[derive(Debug)]
pub struct Row {
    /// Its place in the file.
    pub place: i64,
    /// Its key in the ledger.
    pub key: BatchKey,
    /// How many views it should have.
    pub views: u64,
    /// The views; `None` if the bytes are damaged.
    pub body: Option<StoredViews>,
}

/// Outcome for a refused view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterOutcome {
    /// It is a dead letter.
    Kept,
    /// There is no room for another dead letter: it is dropped.
    NoRoom,
}

impl Spool {
    /// The id of its writer.
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// How often rows that were finished were made to wait again.
    pub fn requeues(&self) -> u64 {
        self.requeues.load(Ordering::Relaxed)
    }

    /// What waits in it, as of the last operation.
    pub fn waiting(&self) -> SpoolTotals {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, SpoolTotals> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it can no longer be used: it was never created, or has been closed.
    pub fn is_closed(&self) -> bool {
        self.link
            .try_lock()
            .is_ok_and(|link| matches!(*link, SpoolConnection::Closed))
    }

    /// The connection, for one operation. Unless the operation reports success ([`BorrowedConnection::done`]), the connection
    /// is not used again: after a COMMIT that failed for want of space SQLite has rolled back by itself, and the
    /// driver no longer knows its state.
    async fn lease(&self) -> Result<BorrowedConnection<'_>, SpoolError> {
        let mut link = self.link.lock().await;
        match *link {
            SpoolConnection::Open(_) => {}
            SpoolConnection::Broken => {
                self.is_synced.store(false, Ordering::Relaxed);
                let mut connection = file::connect(&self.files.database, self.fsync).await?;
                // `data_version` is relative to a connection: the count must be repeated.
                self.counted_at.store(-1, Ordering::Relaxed);
                self.look_for_doubted(&mut connection).await?;
                *link = SpoolConnection::Open(connection);
            }
            SpoolConnection::Closed => return Err(SpoolError::Closed),
        }
        Ok(BorrowedConnection { link, is_done: false })
    }

    async fn disconnect(&self) {
        let mut link = self.link.lock().await;
        if let SpoolConnection::Open(connection) = std::mem::replace(&mut *link, SpoolConnection::Closed) {
            let _ = sqlx::Connection::close(connection).await;
        }
    }

    /// Ends the connection, and removes the file if nothing is left in it.
    pub async fn close(&self) {
        let _ = self.make_room().await;
        if !matches!(self.remove().await, Ok(true)) {
            self.disconnect().await;
        }
    }
}

/// The connection to a spool's file.
enum SpoolConnection {
    Open(SqliteConnection),
    /// To be opened again.
    Broken,
    /// Never to be opened again.
    Closed,
}

/// The connection, borrowed for one operation.
struct BorrowedConnection<'a> {
    link: AsyncGuard<'a, SpoolConnection>,
    is_done: bool,
}

impl BorrowedConnection<'_> {
    /// The operation succeeded.
    fn done(mut self) {
        self.is_done = true;
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        match &mut *self.link {
            SpoolConnection::Open(connection) => connection,
            // `Spool::lease` lends no other.
            SpoolConnection::Broken | SpoolConnection::Closed => unreachable!("a lease has a connection"),
        }
    }
}

impl Drop for BorrowedConnection<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.link = SpoolConnection::Broken;
        }
    }
}

#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
mod tests;
