//! Appends to a spool: exactly once, however often it is tried.
//!
//! A COMMIT whose sync failed returns an error, and the next connection may find it in the log all the same. So
//! each try notes its keys first, and after a failed one the next connection looks for them before anything else
//! is done to the file: what is there is not appended again, even if it has been applied and deleted since.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::counts::Change;
use super::encode::{StoredViews, checksum};
use super::rows::{begin, number};
use super::tokens::{TokenRange, Tokens};
use super::{Spool, SpoolError, file};
use crate::batch::{BatchKey, WriterId};

/// Bodies to append, over all tries: each becomes a row of its own, all in one commit.
pub struct Append {
    bodies: Vec<StoredViews>,
    /// The keys under which an earlier try may have left them; empty until a try has reached its COMMIT.
    keys: Vec<BatchKey>,
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
    keys: Vec<BatchKey>,
    change: Change,
    /// Where the next token goes if the COMMIT did not arrive.
    tokens_end: u64,
    /// Known once a new connection has looked.
    is_there: Option<bool>,
}

/// A row that was inserted, and not yet committed.
pub(super) struct Inserted {
    place: i64,
    key: BatchKey,
    pub(super) change: Change,
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
                self.hand_over(places, std::mem::take(&mut append.bodies));
                self.note(lease.connection(), change).await;
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

    /// Inserts and commits; from the COMMIT on the outcome is in doubt.
    async fn insert_all(
        &self,
        connection: &mut SqliteConnection,
        append: &mut Append,
        tokens: &mut Tokens,
    ) -> Result<(Vec<i64>, Change), SpoolError> {
        let tokens_end = tokens.end();
        let mut transaction = begin(connection).await?;
        let mut change = Change::default();
        let former = std::mem::take(&mut append.keys);
        let (mut keys, mut rows) = (Vec::new(), Vec::new());
        for (nth, body) in append.bodies.iter().enumerate() {
            let wanted = body.tokens();
            let places = if wanted.is_empty() {
                Vec::new()
            } else {
                // On disk before the row that refers to them.
                tokens.append(&wanted).await?
            };
            let former = former.get(nth).copied();
            let inserted = self.insert(&mut transaction, body, &places, former).await?;
            keys.push(inserted.key);
            rows.push(inserted.place);
            change.add(inserted.change);
        }
        #[cfg(test)]
        if self.hands_over_early.load(std::sync::atomic::Ordering::Relaxed) {
            self.hand_over(rows.clone(), append.bodies.clone());
        }
        append.keys.clone_from(&keys);
        *self.doubt() = Some(UncertainCommit {
            keys,
            change,
            tokens_end,
            is_there: None,
        });
        self.commit(transaction).await?;
        Ok((rows, change))
    }

    /// Keeps what can be applied as it is, by the places of its rows.
    fn hand_over(&self, rows: Vec<i64>, bodies: Vec<StoredViews>) {
        for (place, body) in rows.into_iter().zip(bodies) {
            if let StoredViews::Recorded(views) = body {
                self.fresh.put(place, views);
            }
        }
    }

    /// Inserts one row. Its sequence number is its place, which is never used again, not even after everything was
    /// deleted; a row that has a key from another spool keeps it.
    pub(super) async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        body: &StoredViews,
        places: &[TokenRange],
        key: Option<BatchKey>,
    ) -> Result<Inserted, sqlx::Error> {
        self.raise_version(transaction).await?;
        let bytes = body.encode(places);
        let size = number(bytes.len());
        let (place, writer, seq): (i64, String, i64) = sqlx::query_as(
            "INSERT INTO batch (place, writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
             SELECT n, ?1, coalesce(?8, n), ?2, ?3, ?4, ?5, ?6, ?7
             FROM (SELECT 1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batch'), 0) AS n)
             RETURNING place, writer_id, batch_seq",
        )
        .bind(key.map_or(self.id, |key| key.writer).to_string())
        .bind(body.state())
        .bind(number(body.len()))
        .bind(size)
        .bind(checksum(&bytes))
        .bind(body.oldest())
        .bind(bytes)
        .bind(key.map(|key| key.seq))
        .fetch_one(&mut **transaction)
        .await?;
        let writer = WriterId::parse(&writer).unwrap_or(self.id);
        Ok(Inserted {
            place,
            key: BatchKey { writer, seq },
            change: Change::of(number(body.len()), size, body.state()),
        })
    }

    /// Makes the file one of this version, before a row is put into it.
    pub(super) async fn raise_version(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
    ) -> Result<(), sqlx::Error> {
        if self.is_new {
            return Ok(());
        }
        file::raise_version(transaction).await
    }

    /// Finds out, over a new connection, whether the last append is there. Nothing else has been done to the file
    /// since.
    pub(super) async fn look_for_doubted(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        let (key, change, tokens_end) = match &*self.doubt() {
            Some(UncertainCommit {
                keys,
                change,
                tokens_end,
                is_there: None,
            }) => match keys.first() {
                Some(key) => (*key, *change, *tokens_end),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let is_there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM batch WHERE writer_id = ?1 AND batch_seq = ?2)")
                .bind(key.writer.to_string())
                .bind(key.seq)
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

    fn doubt(&self) -> std::sync::MutexGuard<'_, Option<UncertainCommit>> {
        self.in_doubt
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
