//! Compares a community's `current_visitors` with what was written to it last.

use super::statement::alone;
use crate::store::counters::PresentComparison;
use crate::store::operations::{Backend, ComparePresent, NoteShown, Runs, Value, greatest, no_columns};
use crate::store::schema::AppSchema;

impl<B: Backend> Runs<ComparePresent<'_>> for B {
    /// One statement, so that what a round writes meanwhile is in both or in none.
    async fn run(
        ComparePresent(community): &ComparePresent<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Option<PresentComparison>, sqlx::Error> {
        let columns = app.counters.as_ref().ok_or_else(no_columns)?;
        let (Some(column), Some(table)) = (&columns.current_visitors, &app.community) else {
            return Ok(None);
        };
        let Some(key) = B::stored(community, &table.id)? else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT CAST(c.{column} AS bigint),
                    coalesce((SELECT k.current_visitors FROM {counter} AS k WHERE k.community = $1), 0)
             FROM {table} AS c WHERE c.{id} = {key}",
            counter = B::COUNTER,
            table = table.table,
            id = table.id,
            key = B::as_key("$2", &table.id)
        );
        let arguments = vec![
            Value::Text(Some(community.as_str().to_owned())),
            Value::Text(Some(key)),
        ];
        let rows: Vec<(Option<i64>, i64)> = B::fetch(connection, sql, arguments).await?;
        Ok(rows.first().map(|(shown, noted)| PresentComparison {
            shown: *shown,
            noted: *noted,
            greatest: greatest(column),
        }))
    }
}

impl<B: Backend> Runs<NoteShown<'_>> for B {
    async fn run(
        operation: &NoteShown<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), sqlx::Error> {
        let NoteShown { community, found } = operation;
        let sql = format!(
            "INSERT INTO {} AS k (community, current_visitors) VALUES ($1, $2)
             ON CONFLICT (community) DO UPDATE SET current_visitors = $2 WHERE k.current_visitors = $3",
            B::COUNTER
        );
        let arguments = vec![
            Value::Text(Some(community.as_str().to_owned())),
            Value::Integer(found.shown.unwrap_or_default()),
            Value::Integer(found.noted),
        ];
        alone::<B>(connection, sql, arguments).await
    }
}
