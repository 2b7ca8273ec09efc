//! Takes the lease.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::store::counters::Lease;
use crate::store::operations::{Backend as _, NoColumns, Runs, TakeLease};
use crate::store::postgres::statement::query_scalar;
use crate::store::schema::AppSchema;

impl Runs<TakeLease<'_>> for Postgres {
    /// A renewal goes on while the holder's own transaction has locked the row's key only ([`holds`](crate::store::counter_sql::holds)), which it does not
    /// change; it waits while such a transaction ends with a change of the row. Taking it from another does neither: it is
    /// not taken then.
    async fn run(
        operation: &TakeLease<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Result<Option<Lease>, NoColumns>, sqlx::Error> {
        const SET: &str = "SET holder = $1, expires_at = clock_timestamp() + make_interval(secs => $2)";
        const SINCE: &str = "extract(epoch FROM clock_timestamp() - l.round_at)::float8";
        if app.counters.is_none() {
            return Ok(Err(NoColumns));
        }
        let mut transaction = Postgres::begin(connection, operation.context.database).await?;
        let renew = format!(
            "UPDATE headcount.counter_lease AS l {SET}
             WHERE l.holder = $1 AND l.expires_at > clock_timestamp() RETURNING {SINCE}"
        );
        let take = format!(
            "WITH free AS (SELECT name FROM headcount.counter_lease
                           WHERE expires_at IS NULL OR expires_at <= clock_timestamp()
                           FOR UPDATE SKIP LOCKED)
             UPDATE headcount.counter_lease AS l {SET} FROM free WHERE l.name = free.name RETURNING {SINCE}"
        );
        let mut taken: Option<Option<f64>> = None;
        for sql in [renew, take] {
            taken = query_scalar(AssertSqlSafe(sql))
                .bind(operation.holder)
                .bind(operation.ttl.as_secs_f64())
                .fetch_optional(&mut *transaction)
                .await?;
            if taken.is_some() {
                break;
            }
        }
        transaction.commit().await?;
        Ok(Ok(taken.map(|since| Lease {
            since_round: since.map(|since| Duration::try_from_secs_f64(since).unwrap_or_default()),
        })))
    }
}
