//! Replaces a row after a late lookup, and erases the tokens that it referred to.

use std::sync::atomic::Ordering;

use sqlx::SqliteConnection;

use super::counts::Change;
use super::encode::READY;
use super::encode::{Stored, StoredViews, checksum};
use super::rows::{begin, delete, number};
use super::{Spool, SpoolError, file};
use crate::batch::RecordedView;

impl Spool {
    /// Replaces an unresolved row by the resolved views; the row is removed if no view is left. The tokens are
    /// then gone from the disk. Returns whether the disk took the writes.
    pub async fn resolve_row(&self, place: i64, views: Vec<RecordedView>) -> Result<bool, SpoolError> {
        let mut lease = self.lease().await?;
        let connection = lease.connection();
        let former: Option<Vec<u8>> = sqlx::query_scalar("SELECT body FROM batch WHERE place = ?1")
            .bind(place)
            .fetch_optional(&mut *connection)
            .await?;
        let change = match self.replace(connection, place, views).await {
            Ok(change) => change,
            // The row stays unresolved in the file. The ledger knows its key, so it is not written twice.
            Err(error) if file::is_unwritable(&error) => {
                self.give_up_kept();
                self.offers_unresolved.store(true, Ordering::Relaxed);
                return Ok(false);
            }
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
        Ok(true)
    }

    /// Whether rows of the file that are unresolved may have been offered to the database.
    pub fn has_offered_unresolved(&self) -> bool {
        self.offers_unresolved.load(Ordering::Relaxed)
    }

    /// Erases tokens that no row refers to any more: those of a row that was never committed, or was replaced just
    /// before a crash, or when the disk failed.
    pub async fn clear_tokens(&self) -> Result<(), SpoolError> {
        let lease = self.lease().await?;
        if self.waiting().unresolved_bytes == 0 {
            self.tokens.lock().await.clear().await?;
        }
        lease.done();
        Ok(())
    }

    /// Puts resolved views in the place of a row; without any, removes the row.
    async fn replace(
        &self,
        connection: &mut SqliteConnection,
        place: i64,
        views: Vec<RecordedView>,
    ) -> Result<Change, sqlx::Error> {
        let mut transaction = begin(connection).await?;
        let body = StoredViews::Recorded(views);
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
            self.raise_version(&mut transaction).await?;
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
        if body.is_empty() {
            self.passed_over.forget(place);
        } else {
            self.passed_over.has_views(place, body.len() as u64);
        }
        Ok(change)
    }
}
