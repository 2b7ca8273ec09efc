//! The lease's row, but for taking it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::statement::alone;
use crate::store::operations::{
    Backend, CounterSql, IsLeaseHeld, LastPass, NotePass, ReleaseLease, Runs, Value, definition,
};
use crate::store::schema::AppSchema;

/// Whether the holder still has the lease. Until the transaction ends nobody can take it.
pub(in crate::store) async fn holds<B: CounterSql>(
    connection: &mut B::Connection,
    holder: Uuid,
) -> Result<bool, sqlx::Error> {
    let sql = format!(
        "SELECT CAST(1 AS bigint) FROM {}_lease WHERE holder = $1 AND expires_at > {}{}",
        B::COUNTER,
        B::now(),
        B::KEY_SHARE
    );
    let held: Vec<(i64,)> = B::fetch(connection, sql, vec![Value::Id(holder)]).await?;
    Ok(!held.is_empty())
}

impl<B: Backend> Runs<IsLeaseHeld> for B {
    async fn run(
        _: &IsLeaseHeld,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<bool, sqlx::Error> {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {}_lease WHERE expires_at > {})",
            B::COUNTER,
            B::now()
        );
        let held: Vec<(bool,)> = B::fetch(connection, sql, Vec::new()).await?;
        Ok(held.contains(&(true,)))
    }
}

impl<B: Backend> Runs<ReleaseLease> for B {
    async fn run(
        ReleaseLease(holder): &ReleaseLease,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "UPDATE {}_lease SET expires_at = NULL WHERE holder = $1",
            B::COUNTER
        );
        alone::<B>(connection, sql, vec![Value::Id(*holder)]).await?;
        Ok(())
    }
}

impl<B: Backend> Runs<LastPass<'_>> for B {
    async fn run(
        LastPass(context): &LastPass<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
        let lease = format!("{}_lease", B::COUNTER);
        let mut transaction = B::begin(connection, context.database).await?;
        let sql = format!(
            "UPDATE {lease} SET passed_at = NULL, definition = $1 WHERE definition IS DISTINCT FROM $1"
        );
        B::execute(
            &mut transaction,
            sql,
            vec![Value::Text(Some(definition(context)))],
        )
        .await?;
        let sql = format!("SELECT {} FROM {lease}", B::micros("passed_at"));
        let passed: Vec<(Option<i64>,)> = B::fetch(&mut transaction, sql, Vec::new()).await?;
        transaction.commit().await?;
        let passed = passed.first().and_then(|(passed,)| *passed);
        Ok(passed.and_then(DateTime::from_timestamp_micros))
    }
}

impl<B: Backend> Runs<NotePass> for B {
    async fn run(_: &NotePass, _: &AppSchema, connection: &mut B::Connection) -> Result<(), sqlx::Error> {
        let sql = format!("UPDATE {}_lease SET passed_at = {}", B::COUNTER, B::now());
        alone::<B>(connection, sql, Vec::new()).await?;
        Ok(())
    }
}
