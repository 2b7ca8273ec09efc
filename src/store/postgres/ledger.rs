//! Statements of the ledger on Postgres.

use std::collections::HashSet;

use sqlx::{PgConnection, Postgres};
use uuid::Uuid;

use super::copy::end_abandoned;
use super::statement::{query, query_as, query_scalar};
use crate::batch::BatchKey;
use crate::store::error::standby;
use crate::store::ledger::{FIRST_NOTE, FORGET_ROWS, LAST_NOTE, RETENTION, problem_of};
use crate::store::operations::{Backend as _, ForgetOld, MissingParts, NoteParts, Runs};
use crate::store::schema::AppSchema;

/// The version of the ledger's tables.
pub(super) async fn version(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    query_scalar("SELECT version FROM headcount.format WHERE part = 'ledger'")
        .fetch_optional(connection)
        .await
}

impl Runs<NoteParts<'_>> for Postgres {
    async fn run(
        operation: &NoteParts<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<HashSet<BatchKey>, sqlx::Error> {
        let batch = operation.batch;
        if let Some(problem) = problem_of(version(&mut *connection).await?) {
            return Err(sqlx::Error::Configuration(Box::new(problem)));
        }
        let (writers, numbers) = columns(&batch.settled);
        query(
            "WITH settled AS (SELECT * FROM UNNEST($1::uuid[], $2::bigint[]) AS s(writer_id, seq) WHERE seq > 1),
                  forgotten AS (
                      DELETE FROM headcount.applied_batch AS a USING settled AS s
                      WHERE a.writer_id = s.writer_id AND a.batch_seq > -s.seq AND a.batch_seq < s.seq)
             INSERT INTO headcount.applied_batch (writer_id, batch_seq)
             SELECT writer_id, -seq FROM settled ON CONFLICT DO NOTHING",
        )
        .bind(writers)
        .bind(numbers)
        .execute(&mut *connection)
        .await?;

        let mut keys: Vec<BatchKey> = batch.keys().collect();
        // Two writers that hold the same parts, a spool and its copy, then wait for each other in one direction
        // (W7).
        keys.sort_unstable();
        let (writers, numbers) = columns(&keys);
        let noted: Vec<(Uuid, i64)> = query_as(
            "INSERT INTO headcount.applied_batch (writer_id, batch_seq)
             SELECT * FROM UNNEST($1::uuid[], $2::bigint[]) AS k(writer_id, seq)
             WHERE NOT EXISTS (SELECT 1 FROM headcount.applied_batch AS m
                               WHERE m.writer_id = k.writer_id AND m.batch_seq < -k.seq)
             ON CONFLICT DO NOTHING RETURNING writer_id, batch_seq",
        )
        .bind(writers)
        .bind(numbers)
        .fetch_all(connection)
        .await?;
        let noted: HashSet<(Uuid, i64)> = noted.into_iter().collect();
        keys.retain(|key| noted.contains(&(key.writer.uuid(), key.seq)));
        Ok(keys.into_iter().collect())
    }
}

impl Runs<MissingParts<'_>> for Postgres {
    /// Asks only a server that takes writes: a former primary, or a replica that is ahead of the new one, may have
    /// rows that are lost.
    async fn run(
        operation: &MissingParts<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<HashSet<BatchKey>, sqlx::Error> {
        let is_standby: bool = query_scalar("SELECT pg_catalog.pg_is_in_recovery()")
            .fetch_one(&mut *connection)
            .await?;
        if is_standby {
            return Err(standby());
        }
        let (writers, numbers) = columns(operation.parts);
        let missing: Vec<(Uuid, i64)> = query_as(
            "SELECT k.writer_id, k.seq FROM UNNEST($1::uuid[], $2::bigint[]) AS k(writer_id, seq)
             WHERE NOT EXISTS (SELECT 1 FROM headcount.applied_batch AS a
                               WHERE a.writer_id = k.writer_id AND a.batch_seq = k.seq)
               AND NOT EXISTS (SELECT 1 FROM headcount.applied_batch AS m
                               WHERE m.writer_id = k.writer_id AND m.batch_seq < -k.seq)",
        )
        .bind(writers)
        .bind(numbers)
        .fetch_all(connection)
        .await?;
        let missing: HashSet<(Uuid, i64)> = missing.into_iter().collect();
        let is_missing = |key: &&BatchKey| missing.contains(&(key.writer.uuid(), key.seq));
        Ok(operation.parts.iter().filter(is_missing).copied().collect())
    }
}

impl Runs<ForgetOld<'_>> for Postgres {
    /// In the order of their keys, in case two sidecars delete at once. Abandoned writes end on this occasion.
    async fn run(
        operation: &ForgetOld<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<u64, sqlx::Error> {
        let mut transaction = Postgres::begin(connection, operation.database).await?;
        let abandoned = end_abandoned(&mut transaction, operation.database.statement_timeout).await?;
        if abandoned > 0 {
            tracing::warn!(
                connections = abandoned,
                "ended connections of sidecars that were stopped while they wrote; their page views wait in their spools"
            );
        }
        let forgotten = query(
            "DELETE FROM headcount.applied_batch WHERE (writer_id, batch_seq) IN (
                 SELECT writer_id, batch_seq FROM headcount.applied_batch
                 WHERE applied_at < least(now(), $3) - make_interval(secs => $1)
                   AND (writer_id NOT BETWEEN $4 AND $5
                        OR batch_seq > (SELECT min(batch_seq) FROM headcount.applied_batch
                                        WHERE writer_id BETWEEN $4 AND $5))
                 ORDER BY writer_id, batch_seq LIMIT $2)",
        )
        .bind(RETENTION.as_secs_f64())
        .bind(FORGET_ROWS)
        .bind(operation.now)
        .bind(FIRST_NOTE)
        .bind(LAST_NOTE)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(forgotten.rows_affected())
    }
}

fn columns(keys: &[BatchKey]) -> (Vec<Uuid>, Vec<i64>) {
    keys.iter().map(|key| (key.writer.uuid(), key.seq)).unzip()
}
