//! Changes a row that cannot be written as it is: splits it, makes it a dead letter, or marks it as damaged.

use chrono::{DateTime, Utc};

use super::counts::Change;
use super::encode::DAMAGED;
use super::encode::StoredViews;
use super::rows::{begin, delete};
use super::{DeadLetterOutcome, Spool, SpoolError};
use crate::batch::{RecordedView, WriterId};

impl Spool {
    /// Replaces a refused row by two, each with a new key, after all rows. The refusal says that nothing of the
    /// former row is in the database.
    pub async fn split_row(&self, place: i64, views: &[RecordedView]) -> Result<(), SpoolError> {
        let (earlier, later) = views.split_at(views.len() / 2);
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        let mut change = delete(&mut transaction, place).await?;
        for half in [earlier, later] {
            let body = StoredViews::Recorded(half.to_vec());
            change.add(self.insert(&mut transaction, &body, &[], None).await?.change);
        }
        self.commit(transaction).await?;
        self.passed_over.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Makes a row a dead letter, unless dead letters take `max_bytes` already. Its key gets a writer of its own:
    /// parts of this spool around it will be settled, and it may be tried again long after.
    pub async fn make_dead_letter(
        &self,
        place: i64,
        reason: &str,
        now: DateTime<Utc>,
        max_bytes: u64,
    ) -> Result<DeadLetterOutcome, SpoolError> {
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
        self.passed_over.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(if room {
            DeadLetterOutcome::Kept
        } else {
            DeadLetterOutcome::NoRoom
        })
    }

    /// Marks a row whose bytes are damaged: it is kept for inspection and no longer applied.
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
        self.passed_over.forget(place);
        self.note(lease.connection(), change).await;
        lease.done();
        Ok(())
    }

    /// Gives a row a key with a writer of its own, so that the parts behind it can be settled however long it
    /// waits. Nothing of it may be in the database under the former key.
    pub async fn renumber(&self, place: i64) -> Result<(), SpoolError> {
        let mut lease = self.lease().await?;
        let mut transaction = begin(lease.connection()).await?;
        sqlx::query("UPDATE batch SET writer_id = ?2 WHERE place = ?1 AND writer_id = ?3")
            .bind(place)
            .bind(WriterId::random().to_string())
            .bind(self.id.to_string())
            .execute(&mut *transaction)
            .await?;
        self.commit(transaction).await?;
        lease.done();
        Ok(())
    }
}
