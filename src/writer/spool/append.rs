//! Appends to a spool: exactly once, however often it is tried.
//!
//! A COMMIT whose sync failed returns an error, and the next connection may find it in the log all the same. So
//! each try notes its keys first, and after a failed one the next connection looks for them before anything else
//! is done to the file: what is there is not appended again, even if it has been applied and deleted since.

use sqlx::SqliteConnection;

use super::counts::Change;
use super::encode::StoredViews;
use super::{Spool, SpoolError};
use crate::batch::BatchKey;

/// Bodies to append, over all tries: each becomes a row of its own, all in one commit.
pub struct Append {
    pub(super) bodies: Vec<StoredViews>,
    /// The keys under which an earlier try may have left them; empty until a try has reached its COMMIT.
    pub(super) keys: Vec<BatchKey>,
}

impl Append {
    /// Bodies that were not tried yet.
    pub fn new(bodies: Vec<StoredViews>) -> Self {
        let keys = Vec::new();
        Self { bodies, keys }
    }
}

/// A COMMIT that was begun and whose outcome is unknown.
#[derive(Debug)]
pub(super) struct UncertainCommit {
    pub(super) keys: Vec<BatchKey>,
    /// Of the first row: another process may have put one of its own in its place.
    pub(super) checksum: i64,
    pub(super) change: Change,
    /// Where the next token goes if the COMMIT did not arrive.
    pub(super) tokens_end: u64,
    /// Known once a new connection has looked.
    pub(super) is_there: Option<bool>,
}

impl Spool {
    /// Appends bodies after all rows, each under a new key, and keeps them in memory until they are read (`fresh`).
    /// After a failure the same `append` is to be tried again, on this spool or on the one that replaces it; the rows are
    /// then there once.
    ///
    /// # Errors
    /// The rows may be there or not; the next try finds out.
    pub async fn append(&self, append: &mut Append) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        self.sync_all(lease.connection()).await?;
        // If another append was in doubt, its caller has given up.
        let doubt = self.doubt().take();
        let is_there = doubt.is_some_and(|doubt| doubt.keys == append.keys && doubt.is_there == Some(true));
        if is_there {
            lease.done();
            return Ok(());
        }
        if append.keys.first().is_some_and(|key| key.writer == self.id) {
            // Looked for, and not there.
            append.keys.clear();
        }
        let mut tokens = self.tokens.lock().await;
        let end = tokens.end();
        match self.insert_all(lease.connection(), append, &mut tokens).await {
            Ok((places, change)) => {
                // Committed: whatever fails from here on, it must not be appended again.
                *self.doubt() = None;
                let oldest = append.bodies.first().map(StoredViews::oldest);
                self.hand_over(places, std::mem::take(&mut append.bodies));
                self.note_appended(lease.connection(), change, oldest).await;
                lease.done();
                Ok(())
            }
            Err(error) => {
                if self.doubt().is_none() {
                    // No row refers to these tokens: the next ones overwrite them.
                    tokens.rewind(end);
                }
                Err(error)
            }
        }
    }

    /// Whether an earlier try of `append` is in this spool, or was: it may have been applied since, or split.
    ///
    /// # Errors
    /// The file cannot be read: nothing in it will be applied from here.
    pub async fn has_taken(&self, append: &Append) -> Result<bool, SpoolError> {
        let lease = self.lease().await?;
        let doubt = self.doubt();
        let doubt = doubt.as_ref().filter(|doubt| doubt.keys == append.keys);
        let is_there = doubt.is_some_and(|doubt| doubt.is_there == Some(true));
        lease.done();
        Ok(is_there)
    }

    /// Keeps what can be applied as it is, by the places of its rows.
    pub(super) fn hand_over(&self, rows: Vec<i64>, bodies: Vec<StoredViews>) {
        for (place, body) in rows.into_iter().zip(bodies) {
            if let StoredViews::Recorded(views) = body {
                self.fresh.put(place, views);
            }
        }
    }

    /// Finds out, over a new connection, whether the last append is there. Nothing else has been done to the file
    /// since.
    pub(super) async fn look_for_doubted(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        let (key, checksum, change, tokens_end) = match &*self.doubt() {
            Some(UncertainCommit {
                keys,
                checksum,
                change,
                tokens_end,
                is_there: None,
            }) => match keys.first() {
                Some(key) => (*key, *checksum, *change, *tokens_end),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let is_there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE writer_id = ?1 AND batch_seq = ?2 AND checksum = ?3)",
        )
        .bind(key.writer.to_string())
        .bind(key.seq)
        .bind(checksum)
        .fetch_one(&mut *connection)
        .await?;
        if !is_there {
            // No row refers to its tokens: the next ones overwrite them.
            self.tokens.lock().await.rewind(tokens_end);
        }
        if let Some(doubt) = &mut *self.doubt() {
            doubt.is_there = Some(is_there);
        }
        if is_there {
            self.note(connection, change).await;
        }
        Ok(())
    }

    /// Writes to disk, once more, what it may have lost when an operation failed: later entries of the log would
    /// be readable only behind that. A second sync does not write pages again whose sync failed, so a checkpoint
    /// copies them.
    async fn sync_all(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        use std::sync::atomic::Ordering;

        if !self.fsync || self.is_synced.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(connection)
            .await?;
        if busy != 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::ResourceBusy).into());
        }
        self.is_synced.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn doubt(&self) -> std::sync::MutexGuard<'_, Option<UncertainCommit>> {
        self.in_doubt
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
