//! Reads rows of a spool, and the parts that its other statements share.

use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use super::counts::Change;
use super::encode::{DAMAGED, Stored, StoredViews, UNRESOLVED};
use super::tokens::Tokens;
use super::{Row, Spool, SpoolError};
use crate::batch::{BatchKey, WriterId};
use crate::from_row::from_row;

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
    /// The next rows in order, without passed-over and finished ones: until they have that many views or bytes,
    /// and at most that many rows; at least one where there is one.
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
        .bind(self.passed_over.places())
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

    /// The rows at these places, in order, without finished ones.
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
        {
            let fault = self.faults.lock().expect("no test panics with it").pop_front();
            if let Some(fault) = fault.flatten() {
                return fault.commit(transaction).await;
            }
        }
        transaction.commit().await
    }
}

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}

/// The views of a row; `None` if its bytes are damaged, or the tokens that they refer to.
async fn body(row: &StoredRow, tokens: &Tokens) -> Result<Option<StoredViews>, SpoolError> {
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
