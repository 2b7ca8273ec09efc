//! Inserts rows: within a transaction or, as is usual, one row by a statement that is its own transaction.
//!
//! Each statement is a message to the thread of the connection, and its answer one to this thread: BEGIN, INSERT and COMMIT
//! wake both three times.

use std::sync::atomic::Ordering;

use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::append::{Append, UncertainCommit};
use super::counts::Change;
use super::encode::{READY, StoredViews, checksum};
use super::rows::{begin, number};
use super::tokens::{TokenRange, Tokens};
use super::{Spool, SpoolError, file};
use crate::batch::{BatchKey, WriterId};

/// A row that was inserted, and not yet committed.
pub(super) struct Inserted {
    place: i64,
    key: BatchKey,
    checksum: i64,
    pub(super) change: Change,
}

impl Spool {
    /// Inserts and commits; from the COMMIT on the outcome is in doubt.
    pub(super) async fn insert_all(
        &self,
        connection: &mut SqliteConnection,
        append: &mut Append,
        tokens: &mut Tokens,
    ) -> Result<(Vec<i64>, Change), SpoolError> {
        if let Some((place, change)) = self.insert_alone(connection, append, tokens).await? {
            return Ok((vec![place], change));
        }
        let tokens_end = tokens.end();
        let mut transaction = begin(connection).await?;
        let mut change = Change::default();
        let former = std::mem::take(&mut append.keys);
        let (mut keys, mut rows, mut first) = (Vec::new(), Vec::new(), None);
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
            first.get_or_insert(inserted.checksum);
            change.add(inserted.change);
        }
        #[cfg(test)]
        if self.hands_over_early.load(Ordering::Relaxed) {
            self.hand_over(rows.clone(), append.bodies.clone());
        }
        append.keys.clone_from(&keys);
        *self.doubt() = Some(UncertainCommit {
            keys,
            checksum: first.unwrap_or_default(),
            change,
            tokens_end,
            is_there: None,
        });
        self.commit(transaction).await?;
        self.next_place
            .store(rows.last().map_or(0, |last| last + 1), Ordering::Relaxed);
        Ok((rows, change))
    }

    /// Inserts and commits a row of recorded views, in one statement. Its place must be known before, since its key must
    /// be; where another process has put a row there, nothing is inserted. `None` then, and if there is more to insert.
    async fn insert_alone(
        &self,
        connection: &mut SqliteConnection,
        append: &mut Append,
        tokens: &Tokens,
    ) -> Result<Option<(i64, Change)>, SpoolError> {
        // Unknown again until it is known to be there.
        let place = self.next_place.swap(0, Ordering::Relaxed);
        let [body @ StoredViews::Recorded(_)] = &append.bodies[..] else {
            return Ok(None);
        };
        if place == 0 || !self.is_new || !append.keys.is_empty() {
            return Ok(None);
        }
        let bytes = body.encode(&[]);
        let (views, size, checksum) = (number(body.len()), number(bytes.len()), checksum(&bytes));
        let change = Change::of(views, size, READY);
        let key = BatchKey {
            writer: self.id,
            seq: place,
        };
        #[cfg(test)]
        if self.hands_over_early.load(Ordering::Relaxed) {
            self.hand_over(vec![place], append.bodies.clone());
        }
        let insert = sqlx::query(
            "INSERT INTO batch (place, writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
             SELECT ?1, ?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8
             WHERE ?1 = 1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batch'), 0)",
        )
        .bind(place)
        .bind(self.id.to_string())
        .bind(READY)
        .bind(views)
        .bind(size)
        .bind(checksum)
        .bind(body.oldest())
        .bind(bytes);
        append.keys = vec![key];
        *self.doubt() = Some(UncertainCommit {
            keys: append.keys.clone(),
            checksum,
            change,
            tokens_end: tokens.end(),
            is_there: None,
        });
        #[cfg(test)]
        if let Some(fault) = self.next_fault() {
            return Err(fault.statement(insert, connection).await.into());
        }
        if insert.execute(connection).await?.rows_affected() == 0 {
            *self.doubt() = None;
            append.keys.clear();
            return Ok(None);
        }
        self.next_place.store(place + 1, Ordering::Relaxed);
        Ok(Some((place, change)))
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
        let (size, checksum) = (number(bytes.len()), checksum(&bytes));
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
        .bind(checksum)
        .bind(body.oldest())
        .bind(bytes)
        .bind(key.map(|key| key.seq))
        .fetch_one(&mut **transaction)
        .await?;
        let writer = WriterId::parse(&writer).unwrap_or(self.id);
        Ok(Inserted {
            place,
            key: BatchKey { writer, seq },
            checksum,
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
}
