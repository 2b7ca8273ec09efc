//! The spool: page views on disk, until the app's database has them.
//!
//! A spool is one SQLite file with one writer, locked for as long as its process lives. The appender puts the
//! views of a few milliseconds into it as one row, in one synced commit; the applier takes rows in their
//! order, and deletes them once the database has committed. A folder holds the spools of one machine's
//! sidecars; a process adopts those whose owner is gone (see [`directory`]), so that crashes, upgrades and
//! hand-overs need no case of their own.
//!
//! `file` makes and opens such a file, `append` fills it, `rows` takes from it, `counts` what waits, `encode` the form of what is
//! in a row, `tokens` what must not be in one, `resolve` what was found out late, `done` the rows that are done with, `kept` those that stay for a while, `refused` and
//! `letters` those that it refused, `apart` those that are passed over for a while, `upkeep` ends it.

pub mod apart;
pub mod append;
mod counts;
pub mod directory;
mod done;
pub mod encode;
mod file;
mod kept;
pub mod letters;
mod refused;
mod resolve;
mod rows;
mod tokens;
mod upkeep;

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncGuard};

use crate::writer::batch::{BatchKey, WriterId};

pub use directory::Directory;
use encode::Body;
use file::Files;
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
    /// It has been closed, or was never made.
    #[error("the spool has been closed")]
    Closed,
}

impl SpoolError {
    /// Whether the disk takes nothing just now: it is full, or broken. A file that somebody else is at is neither.
    pub fn takes_nothing(&self) -> bool {
        match self {
            Self::File(error) => file::takes_nothing(error),
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
/// Concurrency: one connection, for one operation at a time. Appending waits for at most the operation that the
/// applier is at.
pub struct Spool {
    id: WriterId,
    files: Files,
    fsync: bool,
    link: AsyncMutex<Link>,
    waiting: Mutex<Waiting>,
    /// What `PRAGMA data_version` was when everything was counted last.
    counted_at: AtomicI64,
    done: done::Done,
    apart: apart::Apart,
    /// The disk took nothing when something was found out, so that unresolved rows of the file may be in the
    /// database.
    offers_unresolved: AtomicBool,
    /// An append that failed, or was cut off, in its COMMIT.
    in_doubt: Mutex<Option<append::Doubt>>,
    /// Whether nothing failed since the disk was last seen to hold everything.
    is_synced: AtomicBool,
    #[cfg(test)]
    faults: Mutex<std::collections::VecDeque<Option<faults::Fault>>>,
    /// Locked after `link`.
    tokens: AsyncMutex<Tokens>,
    /// Held as long as this lives.
    _lock: Option<File>,
}

/// What waits in a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Views to be applied.
    pub views: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Bytes of those that must be looked up first.
    pub unresolved_bytes: u64,
    /// When the oldest was made.
    pub oldest: Option<DateTime<Utc>>,
    /// Views that the database refused.
    pub dead_letters: u64,
    /// Bytes of those.
    pub dead_bytes: u64,
}

/// A part of a spool, as it is taken.
#[derive(Debug)]
pub struct Row {
    /// Its place in the file.
    pub place: i64,
    /// What the ledger knows it by.
    pub key: BatchKey,
    /// How many views it says it has.
    pub views: u64,
    /// The views; `None` if the bytes are damaged.
    pub body: Option<Body>,
}

/// What became of a refused view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buried {
    /// It is a dead letter.
    Kept,
    /// There is no room for another dead letter: it is gone.
    NoRoom,
}

impl Spool {
    /// Whose it is.
    pub fn id(&self) -> WriterId {
        self.id
    }

    /// What waits in it, as of the last operation.
    pub fn waiting(&self) -> Waiting {
        *self.counted()
    }

    fn counted(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing can be done with it: it was never made, or has been closed.
    pub fn is_closed(&self) -> bool {
        self.link
            .try_lock()
            .is_ok_and(|link| matches!(*link, Link::Closed))
    }

    /// The connection, for one operation. Unless that says that it went well ([`Lease::done`]), the connection is
    /// not used again: after a COMMIT that failed for want of space SQLite has rolled back by itself, and the
    /// driver no longer knows where it is.
    async fn lease(&self) -> Result<Lease<'_>, SpoolError> {
        let mut link = self.link.lock().await;
        match *link {
            Link::Open(_) => {}
            Link::Broken => {
                self.is_synced.store(false, Ordering::Relaxed);
                let mut connection = file::connect(&self.files.database, self.fsync).await?;
                // Another connection counts other people's changes from somewhere else.
                self.counted_at.store(-1, Ordering::Relaxed);
                self.look_for_doubted(&mut connection).await?;
                *link = Link::Open(connection);
            }
            Link::Closed => return Err(SpoolError::Closed),
        }
        Ok(Lease { link, is_done: false })
    }

    async fn disconnect(&self) {
        let mut link = self.link.lock().await;
        if let Link::Open(connection) = std::mem::replace(&mut *link, Link::Closed) {
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
enum Link {
    Open(SqliteConnection),
    /// To be made again.
    Broken,
    /// Never to be made again.
    Closed,
}

/// The connection, lent for one operation.
struct Lease<'a> {
    link: AsyncGuard<'a, Link>,
    is_done: bool,
}

impl Lease<'_> {
    /// The operation went well.
    fn done(mut self) {
        self.is_done = true;
    }

    fn connection(&mut self) -> &mut SqliteConnection {
        match &mut *self.link {
            Link::Open(connection) => connection,
            // `Spool::lease` lends no other.
            Link::Broken | Link::Closed => unreachable!("a lease has a connection"),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            *self.link = Link::Broken;
        }
    }
}

#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
mod tests;
