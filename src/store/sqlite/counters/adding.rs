//! What batches add: noted with the batch, added up by the holder of the lease.

use sqlx::{Sqlite, SqliteConnection};

use crate::store::counter_sql::holds;
use crate::store::counters::Folded;
use crate::store::operations::{AddDeltas, Backend as _, FOLD_ROWS, Fold, Runs, deltas};
use crate::store::schema::AppSchema;
use crate::store::sqlite::values::key;

impl Runs<AddDeltas<'_>> for Sqlite {
    async fn run(
        operation: &AddDeltas<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        for ((community, user), delta) in deltas(operation.batch, operation.types) {
            // As in the event table.
            let user = match &app.event {
                Some(event) => key(user.as_str(), &event.user_id)?,
                None => user.as_str().to_owned(),
            };
            sqlx::query(
                "INSERT INTO headcount_counter_delta (community, user_id, views, first_view)
                 VALUES (?1, ?2, ?3, ?4)",
            )
            .bind(community.as_str())
            .bind(user)
            .bind(delta.views)
            .bind(delta.first.map(|first| first.timestamp_micros()))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}

impl Runs<Fold<'_>> for Sqlite {
    async fn run(
        operation: &Fold<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Folded>, sqlx::Error> {
        let context = &operation.context;
        let is_held = holds::<Sqlite>(&mut *connection, operation.holder).await?;
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM headcount_counter_delta)")
            .fetch_one(&mut *connection)
            .await?;
        if !is_held || !any {
            return Ok(is_held.then(Folded::default));
        }
        let mut transaction = Sqlite::begin(connection, context.database).await?;
        if !holds::<Sqlite>(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        let rows: Vec<(i64, String, String, i64, Option<i64>)> = sqlx::query_as(
            "SELECT d.id, d.community, d.user_id, d.views, d.first_view FROM headcount_counter_delta AS d
             JOIN headcount_counter AS k ON k.community = d.community
             WHERE k.counted ORDER BY d.id LIMIT ?1",
        )
        .bind(FOLD_ROWS)
        .fetch_all(&mut *transaction)
        .await?;
        for (id, community, user, views, first) in &rows {
            let visitors = sqlx::query(
                "INSERT OR IGNORE INTO headcount_counter_visitor (community, user_id) VALUES (?1, ?2)",
            )
            .bind(community)
            .bind(user)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            // The app's own views count until the sidecar's first: that may have moved.
            sqlx::query(
                "UPDATE headcount_counter
                 SET page_views = page_views + ?2, total_visitors = total_visitors + ?3, pending = 1,
                     counted = counted AND NOT (?5 AND ?4 IS NOT NULL AND (first_view IS NULL OR ?4 < first_view))
                 WHERE community = ?1",
            )
            .bind(community)
            .bind(views)
            .bind(i64::try_from(visitors).unwrap_or_default())
            .bind(first)
            .bind(context.until_ours)
            .execute(&mut *transaction)
            .await?;
            sqlx::query("DELETE FROM headcount_counter_delta WHERE id = ?1")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(Some(Folded {
            rows: rows.len() as u64,
        }))
    }
}
