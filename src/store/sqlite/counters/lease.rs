//! Takes the lease.

use std::time::Duration;

use chrono::Utc;
use sqlx::{Sqlite, SqliteConnection};

use crate::store::counters::Lease;
use crate::store::operations::{Backend as _, NoColumns, Runs, TakeLease};
use crate::store::schema::AppSchema;

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

impl Runs<TakeLease<'_>> for Sqlite {
    async fn run(
        operation: &TakeLease<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Result<Option<Lease>, NoColumns>, sqlx::Error> {
        if app.counters.is_none() {
            return Ok(Err(NoColumns));
        }
        let now = Utc::now().timestamp_micros();
        let mut transaction = Sqlite::begin(connection, operation.context.database).await?;
        let round: Option<Option<i64>> = sqlx::query_scalar(
            "UPDATE headcount_counter_lease SET holder = ?1, expires_at = ?2
             WHERE holder = ?1 OR expires_at IS NULL OR expires_at <= ?3 RETURNING round_at",
        )
        .bind(operation.holder.to_string())
        .bind(now.saturating_add(micros_of(operation.ttl)))
        .bind(now)
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Ok(round.map(|round| Lease {
            since_round: round.map(|at| Duration::from_micros(u64::try_from(now - at).unwrap_or_default())),
        })))
    }
}
