//! Statements of the ledger on SQLite.

use std::collections::HashSet;

use sqlx::{Sqlite, SqliteConnection};

use crate::batch::BatchKey;
use crate::store::ledger::{FIRST_NOTE, FORGET_ROWS, LAST_NOTE, RETENTION, problem_of};
use crate::store::operations::{ForgetOld, MissingParts, NoteParts, Runs};
use crate::store::schema::{AppSchema, OwnTables};

/// Whether the ledger's tables are there.
pub(super) async fn state(connection: &mut SqliteConnection) -> Result<OwnTables, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT count(*) = 2 FROM sqlite_master
         WHERE type = 'table' AND name IN ('headcount_applied_batch', 'headcount_format')",
    )
    .fetch_one(connection)
    .await?;
    Ok(if there {
        OwnTables::Usable
    } else {
        OwnTables::Missing
    })
}

/// The version of the ledger's tables.
pub(super) async fn version(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT version FROM headcount_format WHERE part = 'ledger'")
        .fetch_optional(connection)
        .await
}

impl Runs<NoteParts<'_>> for Sqlite {
    async fn run(
        operation: &NoteParts<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<HashSet<BatchKey>, sqlx::Error> {
        if let Some(problem) = problem_of(version(&mut *connection).await?) {
            return Err(sqlx::Error::Configuration(Box::new(problem)));
        }
        for settled in operation.batch.settled.iter().filter(|settled| settled.seq > 1) {
            sqlx::query(
                "DELETE FROM headcount_applied_batch
                 WHERE writer_id = ?1 AND batch_seq > -?2 AND batch_seq < ?2",
            )
            .bind(settled.writer.to_string())
            .bind(settled.seq)
            .execute(&mut *connection)
            .await?;
            sqlx::query(
                "INSERT OR IGNORE INTO headcount_applied_batch (writer_id, batch_seq) VALUES (?1, -?2)",
            )
            .bind(settled.writer.to_string())
            .bind(settled.seq)
            .execute(&mut *connection)
            .await?;
        }
        let mut noted = HashSet::new();
        for key in operation.batch.keys() {
            let inserted = sqlx::query(
                "INSERT OR IGNORE INTO headcount_applied_batch (writer_id, batch_seq)
                 SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM headcount_applied_batch
                                                 WHERE writer_id = ?1 AND batch_seq < -?2)",
            )
            .bind(key.writer.to_string())
            .bind(key.seq)
            .execute(&mut *connection)
            .await?;
            if inserted.rows_affected() > 0 {
                noted.insert(key);
            }
        }
        Ok(noted)
    }
}

impl Runs<MissingParts<'_>> for Sqlite {
    async fn run(
        operation: &MissingParts<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<HashSet<BatchKey>, sqlx::Error> {
        let mut missing = HashSet::new();
        for key in operation.parts {
            let is_known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM headcount_applied_batch
                                WHERE writer_id = ?1 AND (batch_seq = ?2 OR batch_seq < -?2))",
            )
            .bind(key.writer.to_string())
            .bind(key.seq)
            .fetch_one(&mut *connection)
            .await?;
            if !is_known {
                missing.insert(*key);
            }
        }
        Ok(missing)
    }
}

impl Runs<ForgetOld<'_>> for Sqlite {
    async fn run(
        operation: &ForgetOld<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<u64, sqlx::Error> {
        let forgotten = sqlx::query(
            "DELETE FROM headcount_applied_batch WHERE (writer_id, batch_seq) IN (
                 SELECT writer_id, batch_seq FROM headcount_applied_batch
                 WHERE applied_at < min(unixepoch(), ?3) - ?1
                   AND (writer_id NOT BETWEEN ?4 AND ?5
                        OR batch_seq > (SELECT min(batch_seq) FROM headcount_applied_batch
                                        WHERE writer_id BETWEEN ?4 AND ?5)) LIMIT ?2)",
        )
        .bind(i64::try_from(RETENTION.as_secs()).unwrap_or(i64::MAX))
        .bind(FORGET_ROWS)
        .bind(operation.now.timestamp())
        .bind(FIRST_NOTE.to_string())
        .bind(LAST_NOTE.to_string())
        .execute(connection)
        .await?;
        Ok(forgotten.rows_affected())
    }
}
