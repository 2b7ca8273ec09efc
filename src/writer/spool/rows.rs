//! The statements on a spool's rows.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use super::counts::Change;
use super::encode::{Body, Stored, checksum};
use super::tokens::Tokens;
use super::{Buried, Link, Row, Spool, SpoolError, file};
use crate::from_row::from_row;
use crate::writer::batch::{BatchKey, RecordedView, WriterId};

/// `batch.state`.
pub(super) const READY: i64 = 0;
pub(super) const UNRESOLVED: i64 = 1;
pub(super) const DAMAGED: i64 = 2;

/// A row with its bytes.
struct StoredRow {
    place: i64,
    writer_id: String,
    batch_seq: i64,
    state: i64,
    views: i64,
    checksum: i64,
    body: Vec<u8>,
}

from_row!(SqliteRow => StoredRow { place, writer_id, batch_seq, state, views, checksum, body });

impl Spool {
    /// The next rows in their order, without those that are passed over, none of them removed yet: until they have that many views or bytes, and
    /// at most that many rows; at least one where there is one.
    pub async fn next(
        &self,
        max_rows: usize,
        max_views: u64,
        max_bytes: u64,
    ) -> Result<Vec<Row>, SpoolError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let sizes: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT place, views, bytes FROM batch
             WHERE state <> ?1 AND place > ?3 AND place NOT IN (SELECT value FROM json_each(?4))
             ORDER BY place LIMIT ?2",
        )
        .bind(DAMAGED)
        .bind(number(max_rows.max(1)))
        .bind(self.done_to())
        .bind(self.apart.places())
        .fetch_all(&mut *connection)
        .await?;
        lease.done();
        let (mut views, mut bytes, mut places) = (0, 0, Vec::new());
        for (place, its_views, its_bytes) in sizes {
            places.push(place);
            views += its_views.unsigned_abs();
            bytes += its_bytes.unsigned_abs();
            if views >= max_views || bytes >= max_bytes {
                break;
            }
        }
        self.rows_at(&places).await
    }

    /// The rows at these places, in their order, none of them removed yet.
    pub(super) async fn rows_at(&self, places: &[i64]) -> Result<Vec<Row>, SpoolError> {
        let mut lease = self.lease().await?;
        let stored: Vec<StoredRow> = sqlx::query_as(
            "SELECT place, writer_id, batch_seq, state, views, checksum, body
             FROM batch WHERE state <> ?1 AND place IN (SELECT value FROM json_each(?2)) ORDER BY place",
        )
        .bind(DAMAGED)
        .bind(json(places))
        .fetch_all(lease.connection())
        .await?;
        let tokens = self.tokens.lock().await;
        let mut rows = Vec::with_capacity(stored.len());
        for row in stored {
            let writer = WriterId::parse(&row.writer_id);
            let body = match writer {
                Some(_) => body(&row, &tokens).await?,
                None => None,
            };
            rows.push(Row {
                place: row.place,
                key: BatchKey {
                    writer: writer.unwrap_or(self.id),
                    seq: row.batch_seq,
                },
                views: row.views.unsigned_abs(),
                body,
            });
        }
        lease.done();
        Ok(rows)
    }

    /// The first part that this spool still holds of those that it numbered itself, or the next that it will
    /// hold. All before it are gone for good, or were refused, which the ledger knows nothing of.
    pub async fn first_unsettled(&self) -> Result<BatchKey, SpoolError> {
        let mut lease = self.lease().await?;
        let seq = sqlx::query_scalar(
            "SELECT coalesce(
                 (SELECT min(batch_seq) FROM batch WHERE writer_id = ?1 AND state <> ?2),
                 (SELECT 1 + seq FROM sqlite_sequence WHERE name = 'batch'),
                 1)",
        )
        .bind(self.id.to_string())
        .bind(DAMAGED)
        .fetch_one(lease.connection())
        .await?;
        lease.done();
        Ok(BatchKey { writer: self.id, seq })
    }

    /// Deletes rows that are done with: the database has them, or they are nobody's. They are the first of those
    /// that [`Spool::next`] answered, without a gap. On a disk that takes nothing they are passed over from now on
    /// instead, and deleted later (W12).
    pub async fn remove_rows(&self, places: &[i64]) -> Result<(), SpoolError> {
        match self.delete_rows(places).await {
            Err(error) if error.takes_nothing() => {
                let last = places.iter().copied().max().unwrap_or_default();
                if self.has_a_gap(places, last).await? {
                    // Rows before it wait for their turn: these stay until those are done. The ledger knows them.
                    return Err(error);
                }
                self.apart.forget_all(places);
                self.done_to.fetch_max(last, Ordering::Relaxed);
                self.count_all().await.map(drop)
            }
            outcome => outcome,
        }
    }

    /// Whether a row below `last` is neither done, nor passed over, nor among `places`.
    async fn has_a_gap(&self, places: &[i64], last: i64) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let gap = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE state <> ?1 AND place > ?2 AND place < ?3
                            AND place NOT IN (SELECT value FROM json_each(?4))
                            AND place NOT IN (SELECT value FROM json_each(?5)))",
        )
        .bind(DAMAGED)
        .bind(self.done_to())
        .bind(last)
        .bind(self.apart.places())
        .bind(json(places))
        .fetch_one(lease.connection())
        .await?;
        lease.done();
        Ok(gap)
    }

    /// Up to which place all rows are done with, though some may still be in the file.
    pub(super) fn done_to(&self) -> i64 {
        self.done_to.load(Ordering::Relaxed)
    }

    /// Deletes what could not be deleted before. Where the disk still takes nothing, and nothing else is in
    /// the file, the file goes, which takes no room but makes some: answers true then, and the spool is
    /// closed.
    pub async fn make_room(&self) -> Result<bool, SpoolError> {
        let done_to = self.done_to();
        if done_to == 0 {
            return Ok(false);
        }
        match self.delete_done(done_to).await {
            Ok(()) => {
                self.done_to.store(0, Ordering::Relaxed);
                self.clear_tokens().await?;
                return Ok(false);
            }
            Err(error) if error.takes_nothing() => {}
            Err(error) => return Err(error),
        }
        let mut lease = self.lease().await?;
        let is_needed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE place > ?1 OR state = ?2
                                                   OR place IN (SELECT value FROM json_each(?3)))
                    OR EXISTS (SELECT 1 FROM dead_letter)",
        )
        .bind(done_to)
        .bind(DAMAGED)
        .bind(self.apart.places())
        .fetch_one(lease.connection())
        .await?;
        if is_needed {
            lease.done();
            return Ok(false);
        }
        self.files.remove()?;
        if let Link::Open(connection) = std::mem::replace(&mut *lease.link, Link::Closed) {
            let _ = connection.close().await;
        }
        lease.done();
        // Closing may have written the log once more.
        self.files.remove()?;
        Ok(true)
    }

    /// Deletes all rows up to a place, but for damaged ones.
    async fn delete_done(&self, done_to: i64) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        sqlx::query(
            "DELETE FROM batch
             WHERE place <= ?1 AND state <> ?2 AND place NOT IN (SELECT value FROM json_each(?3))",
        )
        .bind(done_to)
        .bind(DAMAGED)
        .bind(self.apart.places())
        .execute(lease.connection())
        .await?;
        lease.done();
        Ok(())
    }

    async fn delete_rows(&self, places: &[i64]) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        let mut change = Change::default();
        for place in places {
            change.add(delete(&mut transaction, *place).await?);
        }
        self.commit(transaction).await?;
        self.apart.forget_all(places);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Replaces an unresolved row by what was found out; the row goes if nobody's views are left. The tokens
    /// are gone from the disk then.
    pub async fn resolve_row(&self, place: i64, views: Vec<RecordedView>) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let former: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM batch WHERE place = ?1")
            .bind(place)
            .fetch_optional(&mut *connection)
            .await?;
        let change = match self.replace(connection, place, views).await {
            Ok(change) => change,
            // It stays unresolved in the file. Whatever becomes of it: the ledger knows its key.
            Err(error) if file::takes_nothing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.note(connection, change).await;
        let mut tokens = self.tokens.lock().await;
        if self.waiting().unresolved_bytes == 0 {
            tokens.clear().await?;
        } else if let Some(former) = former
            && let Some(former) = Stored::decode(&former, true, checksum(&former))
        {
            tokens.erase(&former.places()).await?;
        }
        lease.done();
        Ok(())
    }

    /// Erases tokens that no row refers to any more: those of a row that was never committed, or was
    /// replaced just before a crash, or when the disk failed.
    pub async fn clear_tokens(&self) -> Result<(), SpoolError> {
        let lease = self.lease().await?;
        if self.waiting().unresolved_bytes == 0 {
            self.tokens.lock().await.clear().await?;
        }
        lease.done();
        Ok(())
    }

    /// Makes two rows of one that was refused, each with a new key, behind everything that waits. The
    /// refusal says that nothing of the former row is in the database.
    pub async fn split_row(&self, place: i64, views: &[RecordedView]) -> Result<(), SpoolError> {
        let (earlier, later) = views.split_at(views.len() / 2);
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        let mut change = delete(&mut transaction, place).await?;
        for half in [earlier, later] {
            let body = Body::Recorded(half.to_vec());
            change.add(self.insert(&mut transaction, &body, &[], None).await?.1);
        }
        self.commit(transaction).await?;
        self.apart.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Makes a dead letter of a row, unless dead letters take `max_bytes` already. It gets a key of a writer of its own:
    /// parts of this spool around it will be settled, and it may be tried again long after.
    pub async fn bury_row(
        &self,
        place: i64,
        reason: &str,
        now: DateTime<Utc>,
        max_bytes: u64,
    ) -> Result<Buried, SpoolError> {
        let room = self.waiting().dead_bytes < max_bytes;
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        let mut change = Change::default();
        if room {
            let buried: Option<i64> = sqlx::query_scalar(
                "INSERT OR IGNORE INTO dead_letter
                     (writer_id, batch_seq, reason, refused_at, bytes, checksum, oldest_at, body)
                 SELECT CASE WHEN writer_id = ?4 THEN ?5 ELSE writer_id END, batch_seq, ?2, ?3,
                        bytes, checksum, oldest_at, body
                 FROM batch WHERE place = ?1 RETURNING bytes",
            )
            .bind(place)
            .bind(reason)
            .bind(now.timestamp_millis())
            .bind(self.id.to_string())
            .bind(WriterId::random().to_string())
            .fetch_optional(&mut *transaction)
            .await?;
            change.add(Change::of_letter(buried));
        }
        change.add(delete(&mut transaction, place).await?);
        self.commit(transaction).await?;
        self.apart.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(if room { Buried::Kept } else { Buried::NoRoom })
    }

    /// Marks a row whose bytes are damaged: it is kept for a person to look at, and passed over.
    pub async fn mark_damaged(&self, place: i64) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let marked: Option<(i64, i64, i64)> = sqlx::query_as(
            "UPDATE batch SET state = ?2 WHERE place = ?1 AND state <> ?2 RETURNING -views, -bytes, state",
        )
        .bind(place)
        .bind(DAMAGED)
        .fetch_optional(lease.connection())
        .await?;
        let change = marked.map_or_else(Change::default, |(views, bytes, state)| {
            Change::of(views, bytes, state)
        });
        self.apart.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Whether rows are left whose bytes are damaged.
    pub(super) async fn has_damage(&self) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let damaged = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM batch WHERE state = ?1)")
            .bind(DAMAGED)
            .fetch_one(lease.connection())
            .await?;
        lease.done();
        Ok(damaged)
    }

    /// Removes the file, if nothing is in it; says whether it did. Nobody can put anything into it meanwhile:
    /// whoever waits for the file's lock finds it gone.
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
        if let Link::Open(connection) = std::mem::replace(&mut *lease.link, Link::Closed) {
            let _ = connection.close().await;
        }
        lease.done();
        // Closing may have written the log once more.
        self.files.remove()?;
        Ok(true)
    }

    /// Commits.
    pub(super) async fn commit(&self, transaction: Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
        #[cfg(test)]
        {
            let fault = self.faults.lock().expect("no test panics with it").pop_front();
            if let Some(fault) = fault.flatten() {
                return fault.commit(transaction).await;
            }
        }
        transaction.commit().await
    }

    /// Puts resolved views into the place of a row; without any, the row goes.
    async fn replace(
        &self,
        connection: &mut SqliteConnection,
        place: i64,
        views: Vec<RecordedView>,
    ) -> Result<Change, sqlx::Error> {
        let mut transaction = begin(connection).await?;
        let body = Body::Recorded(views);
        let bytes = body.encode(&[]);
        let key: Option<(String, i64)> =
            sqlx::query_as("SELECT writer_id, batch_seq FROM batch WHERE place = ?1")
                .bind(place)
                .fetch_optional(&mut *transaction)
                .await?;
        let mut change = delete(&mut transaction, place).await?;
        if let Some((writer_id, batch_seq)) = key
            && !body.is_empty()
        {
            let (views, size) = (number(body.len()), number(bytes.len()));
            sqlx::query(
                "INSERT INTO batch (place, writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .bind(place)
            .bind(writer_id)
            .bind(batch_seq)
            .bind(READY)
            .bind(views)
            .bind(size)
            .bind(checksum(&bytes))
            .bind(body.oldest())
            .bind(bytes)
            .execute(&mut *transaction)
            .await?;
            change.add(Change::of(views, size, READY));
        }
        self.commit(transaction).await?;
        Ok(change)
    }

    /// Gives pages of deleted rows back to the file system, some at a time, where they are the larger part of the
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

/// Free pages, of 4 KiB, that are worth giving back.
const WORTH_SHRINKING: i64 = 1_024;

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}

async fn is_empty(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM batch) AND NOT EXISTS (SELECT 1 FROM dead_letter)")
        .fetch_one(connection)
        .await
}

/// The views of a row; `None` if its bytes are damaged, or the tokens that they refer to.
async fn body(row: &StoredRow, tokens: &Tokens) -> Result<Option<Body>, SpoolError> {
    let Some(stored) = Stored::decode(&row.body, row.state == UNRESOLVED, row.checksum) else {
        return Ok(None);
    };
    let places = stored.places();
    let found = if places.is_empty() {
        Some(Vec::new())
    } else {
        tokens.read(places).await?
    };
    Ok(found.and_then(|tokens| stored.body(tokens)))
}

/// Deletes one row, if it is there.
async fn delete(transaction: &mut Transaction<'_, Sqlite>, place: i64) -> Result<Change, sqlx::Error> {
    let gone: Option<(i64, i64, i64)> =
        sqlx::query_as("DELETE FROM batch WHERE place = ?1 RETURNING -views, -bytes, state")
            .bind(place)
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(gone.map_or_else(Change::default, |(views, bytes, state)| {
        Change::of(views, bytes, state)
    }))
}

pub(super) fn state(body: &Body) -> i64 {
    match body {
        Body::Recorded(_) => READY,
        Body::Unresolved(_) => UNRESOLVED,
    }
}

/// A size as SQLite's integer.
pub(super) fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Places as a JSON list.
pub(super) fn json(places: &[i64]) -> String {
    serde_json::to_string(places).unwrap_or_else(|_| "[]".into())
}
