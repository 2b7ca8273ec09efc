//! Shrinks a spool's file, and removes it at the end.

use sqlx::{Connection as _, SqliteConnection};

use super::encode::DAMAGED;
use super::rows::begin;
use super::{BorrowedConnection, Spool, SpoolConnection, SpoolError};

/// Free pages, of 4 KiB, that are worth giving back.
const WORTH_SHRINKING: i64 = 1_024;

impl Spool {
    /// Whether damaged rows are left.
    pub(super) async fn has_damage(&self) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let damaged = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM batch WHERE state = ?1)")
            .bind(DAMAGED)
            .fetch_one(lease.connection())
            .await?;
        lease.done();
        Ok(damaged)
    }

    /// Removes the file if nothing is in it; returns whether it did. Nothing can be added meanwhile: a process
    /// that waits for the file's lock finds the file gone.
    pub(super) async fn remove(&self) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        if !is_empty(&mut transaction).await? {
            transaction.rollback().await?;
            lease.done();
            return Ok(false);
        }
        self.files.remove()?;
        transaction.rollback().await?;
        self.close_removed(lease).await?;
        Ok(true)
    }

    /// Closes the connection to a file that was removed.
    pub(super) async fn close_removed(&self, mut lease: BorrowedConnection<'_>) -> Result<(), SpoolError> {
        if let SpoolConnection::Open(connection) =
            std::mem::replace(&mut *lease.link, SpoolConnection::Closed)
        {
            let _ = connection.close().await;
        }
        lease.done();
        // Closing may have written the log once more.
        self.files.remove()?;
        Ok(())
    }

    /// Returns pages of deleted rows to the file system, some at a time, where they are the larger part of the
    /// file.
    pub async fn shrink(&self) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let free: i64 = sqlx::query_scalar("PRAGMA freelist_count")
            .fetch_one(&mut *connection)
            .await?;
        let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
            .fetch_one(&mut *connection)
            .await?;
        if free >= WORTH_SHRINKING && free * 2 > pages {
            sqlx::query("PRAGMA incremental_vacuum(4096)")
                .execute(&mut *connection)
                .await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(connection)
                .await?;
        }
        lease.done();
        Ok(())
    }
}

async fn is_empty(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM batch) AND NOT EXISTS (SELECT 1 FROM dead_letter)")
        .fetch_one(connection)
        .await
}
