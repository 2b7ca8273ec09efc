//! The statements on a spool's rows.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, FromRow, Sqlite, SqliteConnection, Transaction};

use super::encode::{Body, Stored, checksum};
use super::tokens::{Place, Tokens};
use super::{Buried, Row, Spool, SpoolError, Waiting, file};
use crate::writer::batch::{BatchKey, RecordedView, WriterId};

/// `batch.state`.
pub(super) const READY: i64 = 0;
const UNRESOLVED: i64 = 1;
const DAMAGED: i64 = 2;

/// Free pages, of 4 KiB, that are worth giving back.
const WORTH_SHRINKING: i64 = 1_024;

/// Rows whose sizes are looked at when a batch is put together.
const LOOK_AHEAD: i64 = 5_000;

/// A row with its bytes.
#[derive(FromRow)]
struct StoredRow {
    place: i64,
    writer_id: String,
    batch_seq: i64,
    state: i64,
    views: i64,
    checksum: i64,
    body: Vec<u8>,
}

impl StoredRow {
    fn key(&self) -> Option<BatchKey> {
        Some(BatchKey {
            writer: WriterId::parse(&self.writer_id)?,
            seq: self.batch_seq,
        })
    }
}

impl Spool {
    /// Puts bodies behind everything that waits, each as a row of its own with a new key, in one commit.
    pub async fn append(&self, bodies: &[Body]) -> Result<(), SpoolError> {
        let mut connection = self.connection().await?;
        let mut transaction = begin(&mut connection).await?;
        let mut change = Change::default();
        for body in bodies {
            let tokens = body.tokens();
            let places = if tokens.is_empty() {
                Vec::new()
            } else {
                // On disk before the row that refers to them.
                self.tokens.lock().await.append(&tokens).await?
            };
            change.add(self.insert(&mut transaction, body, &places).await?);
        }
        transaction.commit().await?;
        self.note(&mut connection, change).await
    }

    /// Inserts one row. Its number is its place, so that it is never used again, not even after everything
    /// was deleted.
    async fn insert(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        body: &Body,
        places: &[Place],
    ) -> Result<Change, sqlx::Error> {
        let bytes = body.encode(places);
        let size = number(bytes.len());
        sqlx::query(
            "INSERT INTO batch (place, writer_id, batch_seq, state, views, bytes, checksum, oldest_at, body)
             SELECT n, ?1, n, ?2, ?3, ?4, ?5, ?6, ?7
             FROM (SELECT 1 + coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batch'), 0) AS n)",
        )
        .bind(self.id.to_string())
        .bind(state(body))
        .bind(number(body.len()))
        .bind(size)
        .bind(checksum(&bytes))
        .bind(body.oldest())
        .bind(bytes)
        .execute(&mut **transaction)
        .await?;
        Ok(Change::of(number(body.len()), size, state(body)))
    }

    /// The next rows in their order, none of them removed yet: until they have that many views or bytes, and
    /// at most that many rows; at least one where there is one.
    pub async fn next(
        &self,
        max_rows: usize,
        max_views: u64,
        max_bytes: u64,
    ) -> Result<Vec<Row>, SpoolError> {
        let mut connection = self.connection().await?;
        let limit = number(max_rows).clamp(1, LOOK_AHEAD);
        let sizes: Vec<(i64, i64, i64)> = sqlx::query_as(
            "SELECT place, views, bytes FROM batch WHERE state <> ?1 AND place > ?3 ORDER BY place LIMIT ?2",
        )
        .bind(DAMAGED)
        .bind(limit)
        .bind(self.done_to())
        .fetch_all(&mut *connection)
        .await?;
        let (mut views, mut bytes, mut last) = (0, 0, None);
        for (place, its_views, its_bytes) in sizes {
            last = Some(place);
            views += its_views.unsigned_abs();
            bytes += its_bytes.unsigned_abs();
            if views >= max_views || bytes >= max_bytes {
                break;
            }
        }
        let Some(last) = last else {
            return Ok(Vec::new());
        };
        let stored: Vec<StoredRow> = sqlx::query_as(
            "SELECT place, writer_id, batch_seq, state, views, checksum, body
             FROM batch WHERE state <> ?1 AND place <= ?2 AND place > ?3 ORDER BY place",
        )
        .bind(DAMAGED)
        .bind(last)
        .bind(self.done_to())
        .fetch_all(&mut *connection)
        .await?;
        let tokens = self.tokens.lock().await;
        let mut rows = Vec::with_capacity(stored.len());
        for row in stored {
            if let Some(key) = row.key() {
                rows.push(Row {
                    place: row.place,
                    key,
                    views: row.views.unsigned_abs(),
                    body: body(&row, &tokens).await,
                });
            }
        }
        Ok(rows)
    }

    /// The first part that this spool still holds of those that it numbered itself, or the next that it will
    /// hold. All before it are gone for good.
    pub async fn first_unsettled(&self) -> Result<BatchKey, SpoolError> {
        let mut connection = self.connection().await?;
        let seq = sqlx::query_scalar(
            "SELECT coalesce(
                 (SELECT min(batch_seq) FROM (
                      SELECT min(batch_seq) AS batch_seq FROM batch WHERE writer_id = ?1
                      UNION ALL SELECT min(batch_seq) FROM dead_letter WHERE writer_id = ?1)),
                 (SELECT 1 + seq FROM sqlite_sequence WHERE name = 'batch'),
                 1)",
        )
        .bind(self.id.to_string())
        .fetch_one(&mut *connection)
        .await?;
        Ok(BatchKey { writer: self.id, seq })
    }

    /// Deletes rows that are done with: the database has them, or they are nobody's. They are all that
    /// [`Spool::next`] answered. On a disk that takes nothing they are passed over from now on instead, and
    /// deleted later (W12).
    pub async fn remove_rows(&self, places: &[i64]) -> Result<(), SpoolError> {
        let mut connection = self.connection().await?;
        match delete_all(&mut connection, places).await {
            Ok(change) => self.note(&mut connection, change).await,
            Err(error) if file::takes_nothing(&error) => {
                let last = places.iter().copied().max().unwrap_or_default();
                self.done_to.fetch_max(last, Ordering::Relaxed);
                self.recount(&mut connection).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Up to which place all rows are done with, though some may still be in the file.
    fn done_to(&self) -> i64 {
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
        let mut guard = self.connection.lock().await;
        let connection = self.usable(&mut guard).await?;
        match delete_done(connection, done_to).await {
            Ok(()) => {
                self.done_to.store(0, Ordering::Relaxed);
                if self.waiting().unresolved_bytes == 0 {
                    self.tokens.lock().await.clear().await?;
                }
                return Ok(false);
            }
            Err(error) if file::takes_nothing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let is_needed: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM batch WHERE place > ?1 OR state = ?2)
                    OR EXISTS (SELECT 1 FROM dead_letter)",
        )
        .bind(done_to)
        .bind(DAMAGED)
        .fetch_one(&mut *connection)
        .await?;
        if is_needed {
            return Ok(false);
        }
        self.files.remove()?;
        if let Some(connection) = guard.take() {
            let _ = connection.close().await;
        }
        // Closing may have written the log once more.
        self.files.remove()?;
        Ok(true)
    }

    /// Replaces an unresolved row by what was found out; the row goes if nobody's views are left. The tokens
    /// are gone from the disk then.
    pub async fn resolve_row(&self, place: i64, views: Vec<RecordedView>) -> Result<(), SpoolError> {
        let mut connection = self.connection().await?;
        let former: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM batch WHERE place = ?1")
            .bind(place)
            .fetch_optional(&mut *connection)
            .await?;
        let change = match replace(&mut connection, place, views).await {
            Ok(change) => change,
            // It stays unresolved in the file. Whatever becomes of it: the ledger knows its key.
            Err(error) if file::takes_nothing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.note(&mut connection, change).await?;
        let mut tokens = self.tokens.lock().await;
        // What could not be deleted still refers to its tokens.
        if self.waiting().unresolved_bytes == 0 && self.done_to() == 0 {
            tokens.clear().await?;
        } else if let Some(former) = former
            && let Some(former) = Stored::decode(&former, true, checksum(&former))
        {
            tokens.erase(&former.places()).await?;
        }
        Ok(())
    }

    /// Erases tokens that no row refers to any more: those of a row that was never committed, or was
    /// replaced just before a crash.
    pub(super) async fn clear_tokens(&self) -> Result<(), SpoolError> {
        let _connection = self.connection().await?;
        if self.waiting().unresolved_bytes == 0 {
            self.tokens.lock().await.clear().await?;
        }
        Ok(())
    }

    /// Makes two rows of one that was refused, each with a new key, behind everything that waits. The
    /// refusal says that nothing of the former row is in the database.
    pub async fn split_row(&self, place: i64, views: &[RecordedView]) -> Result<(), SpoolError> {
        let (earlier, later) = views.split_at(views.len() / 2);
        let mut connection = self.connection().await?;
        let mut transaction = begin(&mut connection).await?;
        let mut change = delete(&mut transaction, place).await?;
        for half in [earlier, later] {
            let body = Body::Recorded(half.to_vec());
            change.add(self.insert(&mut transaction, &body, &[]).await?);
        }
        transaction.commit().await?;
        self.note(&mut connection, change).await
    }

    /// Makes a dead letter of a row, unless dead letters take `max_bytes` already.
    pub async fn bury_row(
        &self,
        place: i64,
        reason: &str,
        now: DateTime<Utc>,
        max_bytes: u64,
    ) -> Result<Buried, SpoolError> {
        let room = self.waiting().dead_bytes < max_bytes;
        let mut connection = self.connection().await?;
        let mut transaction = begin(&mut connection).await?;
        if room {
            sqlx::query(
                "INSERT OR REPLACE INTO dead_letter
                     (writer_id, batch_seq, reason, refused_at, bytes, checksum, oldest_at, body)
                 SELECT writer_id, batch_seq, ?2, ?3, bytes, checksum, oldest_at, body
                 FROM batch WHERE place = ?1",
            )
            .bind(place)
            .bind(reason)
            .bind(now.timestamp_millis())
            .execute(&mut *transaction)
            .await?;
        }
        let change = delete(&mut transaction, place).await?;
        transaction.commit().await?;
        self.note(&mut connection, change).await?;
        self.count_letters(&mut connection).await?;
        Ok(if room { Buried::Kept } else { Buried::NoRoom })
    }

    /// Marks a row whose bytes are damaged: it is kept for a person to look at, and passed over.
    pub async fn mark_damaged(&self, place: i64) -> Result<(), SpoolError> {
        let mut connection = self.connection().await?;
        sqlx::query("UPDATE batch SET state = ?2 WHERE place = ?1")
            .bind(place)
            .bind(DAMAGED)
            .execute(&mut *connection)
            .await?;
        self.recount(&mut connection).await
    }

    /// Counts afresh, in time proportional to what waits: `headcount dead-letters` may have moved rows.
    pub async fn refresh(&self) -> Result<Waiting, SpoolError> {
        let mut connection = self.connection().await?;
        self.recount(&mut connection).await?;
        Ok(self.waiting())
    }

    /// Takes a change into the counts.
    async fn note(&self, connection: &mut SqliteConnection, change: Change) -> Result<(), SpoolError> {
        let oldest = oldest(connection, self.done_to()).await?;
        let mut waiting = self.counted();
        waiting.views = waiting.views.saturating_add_signed(change.views);
        waiting.bytes = waiting.bytes.saturating_add_signed(change.bytes);
        waiting.unresolved_bytes = waiting.unresolved_bytes.saturating_add_signed(change.unresolved);
        waiting.oldest = oldest;
        Ok(())
    }

    pub(super) async fn recount(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        let (views, bytes, unresolved): (i64, i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(views), 0), coalesce(sum(bytes), 0),
                    coalesce(sum(bytes) FILTER (WHERE state = ?2), 0)
             FROM batch WHERE state <> ?1 AND place > ?3",
        )
        .bind(DAMAGED)
        .bind(UNRESOLVED)
        .bind(self.done_to())
        .fetch_one(&mut *connection)
        .await?;
        *self.counted() = Waiting::default();
        let change = Change {
            views,
            bytes,
            unresolved,
        };
        self.note(connection, change).await?;
        self.count_letters(connection).await
    }

    async fn count_letters(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        let (letters, bytes): (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(sum(bytes), 0) FROM dead_letter")
                .fetch_one(connection)
                .await?;
        let mut waiting = self.counted();
        waiting.dead_letters = letters.unsigned_abs();
        waiting.dead_bytes = bytes.unsigned_abs();
        Ok(())
    }

    /// Whether nothing at all is in the file.
    pub(super) async fn is_empty(&self) -> Result<bool, SpoolError> {
        let mut connection = self.connection().await?;
        Ok(is_empty(&mut connection).await?)
    }

    /// Whether rows are left whose bytes are damaged.
    pub(super) async fn has_damage(&self) -> Result<bool, SpoolError> {
        let mut connection = self.connection().await?;
        let damaged = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM batch WHERE state = ?1)")
            .bind(DAMAGED)
            .fetch_one(&mut *connection)
            .await?;
        Ok(damaged)
    }

    /// Removes the file, if nothing is in it. Nobody can put anything into it meanwhile: whoever waits for
    /// the file's lock finds it gone.
    pub(super) async fn remove(&self) -> Result<(), SpoolError> {
        let mut guard = self.connection.lock().await;
        let connection = self.usable(&mut guard).await?;
        let mut transaction = begin(connection).await?;
        if !is_empty(&mut transaction).await? {
            return Ok(());
        }
        self.files.remove()?;
        transaction.rollback().await?;
        if let Some(connection) = guard.take() {
            let _ = connection.close().await;
        }
        // Closing may have written the log once more.
        self.files.remove()?;
        Ok(())
    }

    /// Gives pages of deleted rows back to the file system, and empties the log.
    pub async fn shrink(&self) -> Result<(), SpoolError> {
        let mut connection = self.connection().await?;
        let free: i64 = sqlx::query_scalar("PRAGMA freelist_count")
            .fetch_one(&mut *connection)
            .await?;
        if free < WORTH_SHRINKING {
            return Ok(());
        }
        sqlx::query("PRAGMA incremental_vacuum")
            .execute(&mut *connection)
            .await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    /// Whether the file is damaged beyond use, by an error that an operation gave.
    pub fn is_damage(error: &SpoolError) -> bool {
        matches!(error, SpoolError::File(error) if file::is_damage(error))
    }
}

pub(super) async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}

async fn is_empty(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM batch) AND NOT EXISTS (SELECT 1 FROM dead_letter)")
        .fetch_one(connection)
        .await
}

/// The views of a row; `None` if its bytes are damaged, or the tokens that they refer to.
async fn body(row: &StoredRow, tokens: &Tokens) -> Option<Body> {
    let stored = Stored::decode(&row.body, row.state == UNRESOLVED, row.checksum)?;
    let places = stored.places();
    let tokens = if places.is_empty() {
        Vec::new()
    } else {
        tokens.read(places).await.ok()?
    };
    stored.body(tokens)
}

fn state(body: &Body) -> i64 {
    match body {
        Body::Recorded(_) => READY,
        Body::Unresolved(_) => UNRESOLVED,
    }
}

/// What an operation changes in the counts.
#[derive(Clone, Copy, Default)]
struct Change {
    views: i64,
    bytes: i64,
    unresolved: i64,
}

impl Change {
    fn of(views: i64, bytes: i64, state: i64) -> Self {
        let unresolved = if state == UNRESOLVED { bytes } else { 0 };
        Self {
            views,
            bytes,
            unresolved,
        }
    }

    fn add(&mut self, other: Self) {
        self.views += other.views;
        self.bytes += other.bytes;
        self.unresolved += other.unresolved;
    }
}

/// Deletes rows in one commit.
async fn delete_all(connection: &mut SqliteConnection, places: &[i64]) -> Result<Change, sqlx::Error> {
    let mut transaction = begin(connection).await?;
    let mut change = Change::default();
    for place in places {
        change.add(delete(&mut transaction, *place).await?);
    }
    transaction.commit().await?;
    Ok(change)
}

/// Deletes all rows up to a place, but for damaged ones.
async fn delete_done(connection: &mut SqliteConnection, done_to: i64) -> Result<(), sqlx::Error> {
    let mut transaction = begin(connection).await?;
    sqlx::query("DELETE FROM batch WHERE place <= ?1 AND state <> ?2")
        .bind(done_to)
        .bind(DAMAGED)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
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

/// Puts resolved views into the place of a row; without any, the row goes.
async fn replace(
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
    transaction.commit().await?;
    Ok(change)
}

/// When the first in line was made. Rows are in the order of time, near enough.
async fn oldest(
    connection: &mut SqliteConnection,
    done_to: i64,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let oldest: Option<i64> = sqlx::query_scalar(
        "SELECT oldest_at FROM batch WHERE state <> ?1 AND place > ?2 ORDER BY place LIMIT 1",
    )
    .bind(DAMAGED)
    .bind(done_to)
    .fetch_optional(connection)
    .await?;
    Ok(oldest.and_then(DateTime::from_timestamp_millis))
}

/// A size as SQLite's integer.
fn number(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
