//! Totals of a spool, updated along with each operation.
//! Counting the whole file takes as long as the file is large, and appending would wait for it.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::encode::{DAMAGED, UNRESOLVED};
use super::{Spool, SpoolError, SpoolTotals};

/// What an operation changes in the totals.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    views: i64,
    bytes: i64,
    unresolved: i64,
    letters: i64,
    letter_bytes: i64,
}

impl Change {
    /// Views in a row of this state; negative where the row was removed.
    pub(super) fn of(views: i64, bytes: i64, state: i64) -> Self {
        Self {
            views,
            bytes,
            unresolved: if state == UNRESOLVED { bytes } else { 0 },
            ..Self::default()
        }
    }

    /// A new dead letter of this size, if there is one.
    pub(super) fn of_letter(bytes: Option<i64>) -> Self {
        Self {
            letters: i64::from(bytes.is_some()),
            letter_bytes: bytes.unwrap_or(0),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.views += other.views;
        self.bytes += other.bytes;
        self.unresolved += other.unresolved;
        self.letters += other.letters;
        self.letter_bytes += other.letter_bytes;
    }
}

impl SpoolTotals {
    fn add(&mut self, change: Change) {
        self.views = self.views.saturating_add_signed(change.views);
        self.bytes = self.bytes.saturating_add_signed(change.bytes);
        self.unresolved_bytes = self.unresolved_bytes.saturating_add_signed(change.unresolved);
        self.dead_letters = self.dead_letters.saturating_add_signed(change.letters);
        self.dead_bytes = self.dead_bytes.saturating_add_signed(change.letter_bytes);
    }
}

impl Spool {
    /// Adds a change to the totals. It has been committed, so nothing here may fail; at worst the age of the
    /// oldest stays as it was.
    pub(super) async fn note(&self, connection: &mut SqliteConnection, change: Change) {
        let oldest = oldest(connection, self.done_to(), &self.passed_over.places()).await;
        let mut waiting = self.counted();
        waiting.add(change);
        if let Ok(oldest) = oldest {
            waiting.oldest = oldest;
        }
    }

    /// The same after rows were appended, the first of which was made at `oldest`: they are behind all that waited, so the
    /// file need not be asked.
    pub(super) async fn note_appended(
        &self,
        connection: &mut SqliteConnection,
        change: Change,
        oldest: Option<i64>,
    ) {
        let before = self.waiting();
        if before.views > 0 && before.oldest.is_none() {
            return self.note(connection, change).await;
        }
        let mut waiting = self.counted();
        waiting.add(change);
        if before.views == 0 {
            waiting.oldest = oldest.and_then(DateTime::from_timestamp_millis);
        }
    }

    /// Counts afresh if another process has changed the file: `headcount dead-letters` may have moved rows.
    pub async fn refresh(&self) -> Result<SpoolTotals, SpoolError> {
        let mut lease = self.lease().await?;
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(lease.connection())
            .await?;
        if self.counted_at.load(Ordering::Relaxed) != version {
            self.recount(lease.connection()).await?;
            self.counted_at.store(version, Ordering::Relaxed);
        }
        lease.done();
        Ok(self.waiting())
    }

    /// Counts everything.
    pub async fn count_all(&self) -> Result<SpoolTotals, SpoolError> {
        let mut lease = self.lease().await?;
        self.recount(lease.connection()).await?;
        lease.done();
        Ok(self.waiting())
    }

    pub(super) async fn recount(&self, connection: &mut SqliteConnection) -> Result<(), SpoolError> {
        let (views, bytes, unresolved): (i64, i64, i64) = sqlx::query_as(
            "SELECT coalesce(sum(views), 0), coalesce(sum(bytes), 0),
                    coalesce(sum(bytes) FILTER (WHERE state = ?2), 0)
             FROM batch
             WHERE state <> ?1 AND (place > ?3 OR place IN (SELECT value FROM json_each(?4)))",
        )
        .bind(DAMAGED)
        .bind(UNRESOLVED)
        .bind(self.done_to())
        .bind(self.passed_over.places())
        .fetch_one(&mut *connection)
        .await?;
        let (letters, letter_bytes): (i64, i64) =
            sqlx::query_as("SELECT count(*), coalesce(sum(bytes), 0) FROM dead_letter")
                .fetch_one(&mut *connection)
                .await?;
        *self.counted() = SpoolTotals::default();
        let all = Change {
            views,
            bytes,
            unresolved,
            letters,
            letter_bytes,
        };
        self.note(connection, all).await;
        Ok(())
    }
}

/// When the first row in line was made. Rows are in the order of time, near enough.
async fn oldest(
    connection: &mut SqliteConnection,
    done_to: i64,
    passed_over: &str,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let oldest: Option<i64> = sqlx::query_scalar(
        "SELECT min(oldest_at) FROM (
             SELECT * FROM (SELECT oldest_at FROM batch WHERE state <> ?1 AND place > ?2 ORDER BY place LIMIT 1)
             UNION ALL
             SELECT oldest_at FROM batch WHERE state <> ?1 AND place IN (SELECT value FROM json_each(?3)))",
    )
    .bind(DAMAGED)
    .bind(done_to)
    .bind(passed_over)
    .fetch_one(connection)
    .await?;
    Ok(oldest.and_then(DateTime::from_timestamp_millis))
}
