//! Page views that the counters lack: noted in the ledger with their batch, whatever rights the role has on the tables of
//! counters, until somebody has compared the counters of their communities with the events.
//!
//! Such a note is a row of the ledger whose writer is an id of a kind that no writer has ([`FIRST_NOTE`] to [`LAST_NOTE`]), and whose
//! number is the moment of the oldest view, in microseconds since 1970. Of notes as old as what the ledger forgets
//! (`ForgetOld`), the one with the oldest view stays: it has all communities compared that have had views since.

use chrono::DateTime;
use sqlx::Connection as _;
use uuid::Uuid;

use super::statement::alone;
use crate::store::counters::Omission;
use crate::store::ledger::{FIRST_NOTE, LAST_NOTE};
use crate::store::operations::{
    Backend, FORGET_ROWS, ForgetOmission, HasViews, NoteOmission, Runs, TakeOmissions, TakenOmissions, Value,
    oldest,
};
use crate::store::schema::AppSchema;

/// An id of such a note, which no other has.
fn new_id() -> Uuid {
    let random = Uuid::new_v4().as_u128() & (LAST_NOTE.as_u128() ^ FIRST_NOTE.as_u128());
    Uuid::from_u128(FIRST_NOTE.as_u128() | random)
}

async fn note<B: Backend>(connection: &mut B::Connection, id: Uuid, since: i64) -> Result<(), sqlx::Error> {
    let sql = format!("INSERT INTO {} (writer_id, batch_seq) VALUES ($1, $2)", B::LEDGER);
    let arguments = vec![Value::Id(id), Value::Integer(since)];
    B::execute(connection, sql, arguments).await.map(drop)
}

impl<B: Backend> Runs<NoteOmission<'_>> for B {
    async fn run(
        operation: &NoteOmission<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), sqlx::Error> {
        match oldest(operation.batch, operation.types) {
            Some(oldest) => note::<B>(connection, new_id(), oldest.timestamp_micros()).await,
            None => Ok(()),
        }
    }
}

impl<B: Backend> Runs<TakeOmissions<'_>> for B {
    /// Notes that are not committed yet stay: what they tell of may not be among the events that are compared next.
    async fn run(
        TakeOmissions(context): &TakeOmissions<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Option<TakenOmissions>, sqlx::Error> {
        let ledger = B::LEDGER;
        let sql = format!(
            "SELECT CAST(writer_id AS text), batch_seq FROM {ledger} WHERE writer_id >= $1 AND writer_id <= $2 LIMIT 2"
        );
        let ids = vec![Value::Id(FIRST_NOTE), Value::Id(LAST_NOTE)];
        // A transaction of its own, as poolers need it; one that writes would lock all of an SQLite file.
        let mut reading = connection.begin().await?;
        let found: Vec<(String, i64)> = B::fetch(&mut reading, sql, ids).await?;
        reading.commit().await?;
        if found.is_empty() {
            return Ok(None);
        }
        // What was put together before, and nothing since.
        if let [(id, since)] = &*found
            && let Ok(id) = id.parse()
        {
            return Ok(Some(taken(id, *since, false)));
        }
        let mut transaction = B::begin(connection, context.database).await?;
        let sql = format!(
            "DELETE FROM {ledger} WHERE (writer_id, batch_seq) IN
                 (SELECT writer_id, batch_seq FROM {ledger} WHERE writer_id >= $1 AND writer_id <= $2 LIMIT $3)
             RETURNING batch_seq"
        );
        let ids = vec![
            Value::Id(FIRST_NOTE),
            Value::Id(LAST_NOTE),
            Value::Integer(FORGET_ROWS),
        ];
        let rows: Vec<(i64,)> = B::fetch(&mut transaction, sql, ids).await?;
        // Another has them meanwhile, and puts them together.
        let Some(oldest) = rows.iter().map(|(since,)| *since).min() else {
            return Ok(None);
        };
        let id = new_id();
        note::<B>(&mut transaction, id, oldest).await?;
        transaction.commit().await?;
        let is_part = i64::try_from(rows.len()).is_ok_and(|rows| rows == FORGET_ROWS);
        Ok(Some(taken(id, oldest, is_part)))
    }
}

fn taken(id: Uuid, since: i64, is_part: bool) -> TakenOmissions {
    let since = DateTime::from_timestamp_micros(since).unwrap_or_default();
    let omission = Omission { id, since };
    TakenOmissions { omission, is_part }
}

impl<B: Backend> Runs<ForgetOmission> for B {
    async fn run(
        ForgetOmission(omission): &ForgetOmission,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), sqlx::Error> {
        let sql = format!("DELETE FROM {} WHERE writer_id = $1", B::LEDGER);
        alone::<B>(connection, sql, vec![Value::Id(omission.id)]).await?;
        Ok(())
    }
}

impl<B: Backend> Runs<HasViews<'_>> for B {
    async fn run(
        operation: &HasViews<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<bool, sqlx::Error> {
        let HasViews {
            context,
            community,
            since,
        } = operation;
        let (views, arguments) = B::views(context, community, Some(*since), app)?;
        let sql = format!("WITH {views} SELECT EXISTS (SELECT 1 FROM headcount_views)");
        let found: Vec<(bool,)> = B::fetch(connection, sql, arguments).await?;
        Ok(found.contains(&(true,)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_a_note_is_no_writers() {
        let ids = [new_id(), new_id()];
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            assert!((FIRST_NOTE..=LAST_NOTE).contains(&id), "{id}");
            assert_eq!(id.get_version_num(), 8, "writers have 7");
        }
    }
}
