//! Compares a community's `current_visitors` with what was written to it last, and has it written again.

use super::statement::alone;
use crate::store::counters::PresentComparison;
use crate::store::operations::{
    Backend, ComparePresent, Context, CounterSql, NotePending, Runs, Value, greatest, no_columns,
};
use crate::store::schema::{AppSchema, CounterColumns};

/// SQL: whether the app's row `c` shows another `current_visitors` than was written last, by its counter `k`, as
/// [`PresentComparison::is_overwritten`]. False where who is there is not written.
pub(in crate::store) fn overwritten_sql<B: CounterSql>(
    context: &Context<'_>,
    columns: &CounterColumns,
) -> String {
    match &columns.current_visitors {
        Some(column) if context.writes_presence => format!(
            "CAST(coalesce(c.{column}, 0) AS bigint) <> {least}(k.current_visitors, {most})",
            least = B::LEAST,
            most = greatest(column)
        ),
        _ => "FALSE".to_owned(),
    }
}

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

impl<B: Backend> Runs<NotePending<'_>> for B {
    async fn run(
        NotePending(community): &NotePending<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<bool, sqlx::Error> {
        let sql = format!(
            "INSERT INTO {} AS k (community, pending) VALUES ($1, TRUE)
             ON CONFLICT (community) DO UPDATE SET pending = TRUE WHERE NOT k.pending",
            B::COUNTER
        );
        let arguments = vec![Value::Text(Some(community.as_str().to_owned()))];
        Ok(alone::<B>(connection, sql, arguments).await? > 0)
    }
}
