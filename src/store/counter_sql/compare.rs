//! Compares a community's counters with its events.

use super::statement::alone;
use crate::store::counters::{Comparison, ComparisonRow};
use crate::store::operations::{
    Backend, Compare, CounterSql, NoteChecked, Runs, Value, greatest_totals, no_columns,
};
use crate::store::schema::{AppSchema, Column, CounterColumns};

/// The statement of [`Compare`], with its arguments.
pub(in crate::store) fn compare_sql<B: CounterSql>(
    operation: &Compare<'_>,
    app: &AppSchema,
) -> Result<(String, Vec<Value>), sqlx::Error> {
    let (views, mut arguments) = B::views(&operation.context, operation.community, None, app)?;
    let first = arguments.len() + 1;
    let parameter = |number: usize| format!("${}", first + number);
    let table = app.community.as_ref();
    let key = table
        .map(|table| B::stored(operation.community, &table.id))
        .transpose()?;
    arguments.extend([
        Value::Text(Some(operation.community.as_str().to_owned())),
        Value::Flag(operation.context.until_ours),
        Value::Text(key.flatten()),
    ]);
    let counters = app.counters.as_ref().ok_or_else(no_columns)?;
    let column = |pick: fn(&CounterColumns) -> Option<&Column>| {
        let shown = pick(counters).zip(table).map(|(column, table)| {
            let (id, key) = (&table.id, B::as_key("one.id", &table.id));
            format!(
                "SELECT CAST({column} AS bigint) FROM {} WHERE {id} = {key}",
                table.table
            )
        });
        shown.map_or_else(|| "CAST(NULL AS bigint)".to_owned(), |sql| format!("({sql})"))
    };
    let sql = format!(
        "WITH {views}, headcount_added AS (
             SELECT user_id, views, first_view FROM {counter}_delta WHERE community = {community}
         )
         SELECT (SELECT count(*) FROM headcount_views) AS counted_views,
                (SELECT count(DISTINCT user_id) FROM headcount_views) AS counted_visitors,
                k.page_views + coalesce((SELECT CAST(sum(views) AS bigint) FROM headcount_added), 0) AS kept_views,
                k.total_visitors + (SELECT count(DISTINCT a.user_id) FROM headcount_added AS a
                                    WHERE NOT EXISTS (SELECT 1 FROM {counter}_visitor AS v
                                                      WHERE v.community = {community} AND v.user_id = a.user_id))
                    AS kept_visitors,
                coalesce(k.counted AND NOT ({until_ours} AND EXISTS (
                    SELECT 1 FROM headcount_added AS a
                    WHERE a.first_view < k.first_view OR (a.first_view IS NOT NULL AND k.first_view IS NULL))),
                    FALSE) AS is_settled,
                coalesce(k.counted AND NOT k.pending AND NOT EXISTS (SELECT 1 FROM headcount_added), FALSE)
                    AS is_written,
                {shown_views} AS shown_views, {shown_visitors} AS shown_visitors
         FROM (SELECT {key} AS id) AS one LEFT JOIN {counter} AS k ON k.community = {community}",
        counter = B::COUNTER,
        community = parameter(0),
        until_ours = parameter(1),
        key = parameter(2),
        shown_views = column(|counters| counters.page_views.as_ref()),
        shown_visitors = column(|counters| counters.total_visitors.as_ref()),
    );
    Ok((sql, arguments))
}

impl<B: Backend> Runs<Compare<'_>> for B {
    async fn run(
        operation: &Compare<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Comparison, sqlx::Error> {
        let (sql, arguments) = compare_sql::<B>(operation, app)?;
        let mut rows: Vec<ComparisonRow> = B::fetch(connection, sql, arguments).await?;
        let row = rows.pop().ok_or(sqlx::Error::RowNotFound)?;
        Ok(row.compared(greatest_totals(app)))
    }
}

impl<B: Backend> Runs<NoteChecked<'_>> for B {
    async fn run(
        NoteChecked(community): &NoteChecked<'_>,
        _: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<(), sqlx::Error> {
        let sql = format!(
            "UPDATE {} SET checked_at = {} WHERE community = $1",
            B::COUNTER,
            B::now()
        );
        let key = Value::Text(Some(community.as_str().to_owned()));
        alone::<B>(connection, sql, vec![key]).await?;
        Ok(())
    }
}
