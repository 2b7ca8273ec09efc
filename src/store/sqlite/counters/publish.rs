//! Writes the app's columns.

use chrono::Utc;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use crate::store::counter_sql::{holds, overwritten_sql};
use crate::store::counters::Published;
use crate::store::operations::CounterSql as _;
use crate::store::operations::{Backend as _, Publish, Runs, greatest, no_columns};
use crate::store::schema::{AppSchema, CommunityTable, CounterColumns};
use crate::store::sqlite::values::moment;

impl Runs<Publish<'_>> for Sqlite {
    async fn run(
        operation: &Publish<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Published>, sqlx::Error> {
        let (Some(table), Some(columns)) = (&app.community, &app.counters) else {
            return Err(no_columns());
        };
        let mut transaction = Sqlite::begin(connection, operation.context.database).await?;
        if !holds::<Sqlite>(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        sqlx::query("UPDATE headcount_counter_lease SET round_at = ?1")
            .bind(Utc::now().timestamp_micros())
            .execute(&mut *transaction)
            .await?;
        let update = update_sql(app, columns);
        let make = insert_sql(app);
        let note = note_sql(operation, table, columns);
        let mut published = Published::default();
        for (community, present) in operation.communities {
            let key = Sqlite::stored(community, &table.id)?;
            if let Some(key) = &key {
                sqlx::query(AssertSqlSafe(make.as_str()))
                    .bind(community.as_str())
                    .bind(key)
                    .execute(&mut *transaction)
                    .await?;
                let mut query = sqlx::query(AssertSqlSafe(update.as_str()))
                    .bind(community.as_str())
                    .bind(key)
                    .bind(present);
                if let Some(column) = &columns.updated_at {
                    query = query.bind(moment(Utc::now(), column));
                }
                published.written += query.execute(&mut *transaction).await?.rows_affected();
            }
            let is_pending: Option<bool> = sqlx::query_scalar(AssertSqlSafe(note.as_str()))
                .bind(community.as_str())
                .bind(present)
                .bind(key)
                .fetch_optional(&mut *transaction)
                .await?;
            published.unknown += u64::from(is_pending == Some(true));
        }
        transaction.commit().await?;
        Ok(Some(published))
    }
}

/// Makes the counter of the community `?1`, `?2` there, where the app has it.
fn insert_sql(app: &AppSchema) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    format!(
        "INSERT INTO headcount_counter (community) SELECT ?1 FROM {table} WHERE {id} = ?2
         ON CONFLICT DO NOTHING",
        table = table.table,
        id = table.id
    )
}

/// Notes that the columns of the community `?1`, `?3` there, are written, with `?2` present, and reads whether it is still to be
/// written; nothing is of one that the app has deleted.
fn note_sql(operation: &Publish<'_>, table: &CommunityTable, columns: &CounterColumns) -> String {
    format!(
        "UPDATE headcount_counter AS k
         SET pending = ?2 IS NULL AND EXISTS (SELECT 1 FROM {table} AS c WHERE c.{id} = ?3 AND {overwritten}),
             current_visitors = CASE WHEN EXISTS (SELECT 1 FROM {table} WHERE {id} = ?3)
                                     THEN coalesce(?2, current_visitors) ELSE 0 END
         WHERE community = ?1
         RETURNING pending",
        overwritten = overwritten_sql::<Sqlite>(&operation.context, columns),
        table = table.table,
        id = table.id
    )
}

/// Writes the app's columns of the community `?1`, `?2` there, with `?3` present, where they differ; `?4` is now.
fn update_sql(app: &AppSchema, columns: &CounterColumns) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    let values = [
        (&columns.page_views, "k.page_views", "k.counted"),
        (&columns.total_visitors, "k.total_visitors", "k.counted"),
        (&columns.current_visitors, "?3", "?3 IS NOT NULL"),
    ];
    let (mut sets, mut differs) = (Vec::new(), Vec::new());
    for (column, value, is_known) in values {
        let Some(column) = column else { continue };
        let value = format!("min({value}, {})", greatest(column));
        sets.push(format!(
            "{column} = CASE WHEN {is_known} THEN {value} ELSE {table}.{column} END",
            table = table.table
        ));
        differs.push(format!(
            "({is_known} AND {table}.{column} IS NOT {value})",
            table = table.table
        ));
    }
    if let Some(column) = &columns.updated_at {
        sets.push(format!("{column} = ?4"));
    }
    format!(
        "UPDATE {table} SET {sets}
         FROM (SELECT coalesce(max(counted), 0) AS counted, max(page_views) AS page_views,
                      max(total_visitors) AS total_visitors
               FROM headcount_counter WHERE community = ?1) AS k
         WHERE {table}.{id} = ?2 AND ({differs})",
        table = table.table,
        id = table.id,
        sets = sets.join(", "),
        differs = differs.join(" OR ")
    )
}
