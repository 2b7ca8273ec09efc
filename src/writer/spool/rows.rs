//! Reads rows of a spool, and the parts that its other statements share.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use super::counts::Change;
use super::encode::{DAMAGED, READY, Stored, StoredViews, UNRESOLVED};
use super::{Row, Spool, SpoolError};
use crate::batch::{BatchKey, WriterId};
use crate::from_row::from_row;

/// A row without its bytes.
struct RowHead {
    place: i64,
    writer_id: String,
    batch_seq: i64,
    state: i64,
    views: i64,
    bytes: i64,
}

from_row!(SqliteRow => RowHead { place, writer_id, batch_seq, state, views, bytes });

/// A row's bytes.
struct StoredBody {
    place: i64,
    checksum: i64,
    body: Vec<u8>,
}

from_row!(SqliteRow => StoredBody { place, checksum, body });

/// Bytes of rows that are read from the file before they are decoded; few in tests, so that they are read in several parts.
const READ_AT_A_TIME: i64 = if cfg!(test) { 300 } else { 256 << 10 };

/// How much is read at a time: rows until they have that many views or bytes, and at most that many rows; at least one
/// where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Most {
    /// Rows.
    pub rows: usize,
    /// Their views.
    pub views: u64,
    /// Their bytes in the file.
    pub bytes: u64,
}

impl Spool {
    /// The next rows in order, without passed-over and finished ones, and without those up to the place `behind`.
    pub async fn next(&self, most: Most, behind: i64) -> Result<Vec<Row>, SpoolError> {
        let mut lease = self.lease().await?;
        let mut heads: Vec<RowHead> = sqlx::query_as(
            "SELECT place, writer_id, batch_seq, state, views, bytes FROM batch
             WHERE state <> ?1 AND place > ?3 AND place NOT IN (SELECT value FROM json_each(?4))
             ORDER BY place LIMIT ?2",
        )
        .bind(DAMAGED)
        .bind(number(most.rows.max(1)))
        .bind(self.done_to().max(behind))
        .bind(self.passed_over.places())
        .fetch_all(lease.connection())
        .await?;
        lease.done();
        let (mut views, mut bytes, mut rows) = (0, 0, 0);
        for head in &heads {
            rows += 1;
            views += head.views.unsigned_abs();
            bytes += head.bytes.unsigned_abs();
            if views >= most.views || bytes >= most.bytes {
                break;
            }
        }
        heads.truncate(rows);
        self.with_bodies(heads).await
    }

    /// The row at a place; `None` if it is finished.
    pub(super) async fn row_at(&self, place: i64) -> Result<Option<Row>, SpoolError> {
        let mut lease = self.lease().await?;
        let heads: Vec<RowHead> = sqlx::query_as(
            "SELECT place, writer_id, batch_seq, state, views, bytes FROM batch WHERE state <> ?1 AND place = ?2",
        )
        .bind(DAMAGED)
        .bind(place)
        .fetch_all(lease.connection())
        .await?;
        lease.done();
        Ok(self.with_bodies(heads).await?.pop())
    }

    /// Rows with their views: those that are in memory, and the others from the file. Their bytes are read some at a time:
    /// views take several times the memory of theirs, which is to be free before.
    async fn with_bodies(&self, heads: Vec<RowHead>) -> Result<Vec<Row>, SpoolError> {
        let mut rows = Vec::with_capacity(heads.len());
        let mut heads = heads.into_iter();
        while heads.len() > 0 {
            let (mut some, mut to_read, mut bytes) = (Vec::new(), Vec::new(), 0);
            while bytes < READ_AT_A_TIME
                && let Some(head) = heads.next()
            {
                let fresh = (head.state == READY)
                    .then(|| self.fresh.take(head.place))
                    .flatten();
                if fresh.is_none() {
                    to_read.push(head.place);
                    bytes += head.bytes;
                }
                some.push((head, fresh));
            }
            let mut stored = self.bodies_at(&to_read).await?;
            for (head, fresh) in some {
                let body = match fresh {
                    Some(views) => Some(StoredViews::Recorded(views)),
                    None => match stored.remove(&head.place) {
                        Some(stored) => self.body(&head, &stored).await?,
                        // Removed meanwhile.
                        None => continue,
                    },
                };
                rows.push(Row {
                    place: head.place,
                    key: BatchKey {
                        writer: WriterId::parse(&head.writer_id).unwrap_or(self.id),
                        seq: head.batch_seq,
                    },
                    views: head.views.unsigned_abs(),
                    body,
                });
            }
        }
        Ok(rows)
    }

    /// The views of a row; `None` if it is damaged.
    async fn body(&self, head: &RowHead, stored: &StoredBody) -> Result<Option<StoredViews>, SpoolError> {
        // Decoding takes a while: others of this thread go on.
        tokio::task::yield_now().await;
        match WriterId::parse(&head.writer_id) {
            Some(_) => self.decoded(head, stored).await,
            None => Ok(None),
        }
    }

    /// The bytes of rows, by their places.
    async fn bodies_at(&self, places: &[i64]) -> Result<HashMap<i64, StoredBody>, SpoolError> {
        if places.is_empty() {
            return Ok(HashMap::new());
        }
        let mut lease = self.lease().await?;
        let stored: Vec<StoredBody> = sqlx::query_as(
            "SELECT place, checksum, body FROM batch WHERE place IN (SELECT value FROM json_each(?1))",
        )
        .bind(json(places))
        .fetch_all(lease.connection())
        .await?;
        lease.done();
        Ok(stored.into_iter().map(|stored| (stored.place, stored)).collect())
    }

    /// The views of a row; `None` if its bytes are damaged, or the tokens that they refer to.
    async fn decoded(&self, head: &RowHead, row: &StoredBody) -> Result<Option<StoredViews>, SpoolError> {
        let Some(stored) = Stored::decode(&row.body, head.state == UNRESOLVED, row.checksum) else {
            return Ok(None);
        };
        let places = stored.places();
        let found = if places.is_empty() {
            Some(Vec::new())
        } else {
            self.tokens.lock().await.read(places).await?
        };
        Ok(found.and_then(|tokens| stored.body(tokens)))
    }

    /// The first part that this spool still holds of those that it numbered itself, or the next that it will hold.
    /// All before it are gone for good, or were refused, so the ledger has no entry for them.
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

    /// Commits.
    pub(super) async fn commit(&self, transaction: Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
        #[cfg(test)]
        if let Some(fault) = self.next_fault() {
            return fault.commit(transaction).await;
        }
        transaction.commit().await
    }
}

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}

/// Deletes one row, if it is there.
pub(super) async fn delete(
    transaction: &mut Transaction<'_, Sqlite>,
    place: i64,
) -> Result<Change, sqlx::Error> {
    let gone: Option<(i64, i64, i64)> =
        sqlx::query_as("DELETE FROM batch WHERE place = ?1 RETURNING -views, -bytes, state")
            .bind(place)
            .fetch_optional(&mut **transaction)
            .await?;
    Ok(gone.map_or_else(Change::default, |(views, bytes, state)| {
        Change::of(views, bytes, state)
    }))
}

/// A size as SQLite's integer.
pub(super) fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Places as a JSON list.
pub(super) fn json(places: &[i64]) -> String {
    serde_json::to_string(places).unwrap_or_else(|_| "[]".into())
}
