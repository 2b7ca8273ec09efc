//! The spool: page views on disk, until the app's database has them.
//!
//! A spool is one SQLite file with one writer, locked for as long as its process lives. The appender puts the
//! views of a few milliseconds into it as one row, in one synced commit; the applier takes rows in their
//! order, and deletes them once the database has committed. A folder holds the spools of one machine's
//! sidecars; a process adopts those whose owner is gone (see [`directory`]), so that crashes, upgrades and
//! hand-overs need no case of their own.
//!
//! `file` makes and opens such a file, `rows` has the statements, `encode` the form of what is in a row,
//! `letters` the rows that the database refused.

pub mod directory;
pub mod encode;
mod file;
pub mod letters;
mod rows;
mod tokens;

use std::fs::File;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{MappedMutexGuard, Mutex as AsyncMutex, MutexGuard as AsyncGuard};

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
    /// Another process made something else of the file.
    #[error("the spool has been closed")]
    Closed,
}

/// An open spool. Every operation is one transaction: after a failure, or when its future is dropped, all or
/// nothing of it is there.
///
/// Concurrency: one connection, for one operation at a time. Appending waits for at most the statement that
/// the applier is at.
pub struct Spool {
    id: WriterId,
    files: Files,
    connection: AsyncMutex<Option<SqliteConnection>>,
    waiting: Mutex<Waiting>,
    /// Rows up to this place are done with: those that are still there could not be deleted, because the disk
    /// took nothing. After a crash they are applied again, and the ledger knows them.
    done_to: AtomicI64,
    /// As configured, for another connection.
    fsync: bool,
    /// Locked after `connection`.
    tokens: AsyncMutex<Tokens>,
    /// Held as long as this lives.
    _lock: File,
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

    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, SpoolError> {
        let mut guard = self.connection.lock().await;
        self.usable(&mut guard).await?;
        AsyncGuard::try_map(guard, Option::as_mut).map_err(|_| SpoolError::Closed)
    }

    /// The connection, or another in its place. SQLite rolls a transaction back by itself where the disk is
    /// full; the driver's own rollback then finds nothing to roll back, and the driver believes in an open
    /// transaction for ever (W12).
    async fn usable<'a>(
        &self,
        held: &'a mut Option<SqliteConnection>,
    ) -> Result<&'a mut SqliteConnection, SpoolError> {
        let connection = held.as_mut().ok_or(SpoolError::Closed)?;
        // Behind any rollback that is still on its way.
        connection.ping().await?;
        if connection.is_in_transaction() {
            *connection = file::connect(&self.files.database, self.fsync).await?;
        }
        Ok(connection)
    }

    /// Ends the connection, and removes the file if nothing is left in it.
    pub async fn close(&self) {
        let empty = self.is_empty().await.unwrap_or(false);
        if empty && self.remove().await.is_ok() {
            return;
        }
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = sqlx::Connection::close(connection).await;
        }
    }
}

#[cfg(test)]
mod tests;
