//! Writes the app's columns.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::store::counter_sql::{holds, overwritten_sql};
use crate::store::counters::Published;
use crate::store::operations::{Backend as _, Publish, Runs, greatest, no_columns};
use crate::store::postgres::moment;
use crate::store::postgres::statement::{query, query_scalar};
use crate::store::schema::{AppSchema, Column, CommunityTable, CounterColumns};

impl Runs<Publish<'_>> for Postgres {
    async fn run(
        operation: &Publish<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<Published>, sqlx::Error> {
        let (Some(table), Some(columns)) = (&app.community, &app.counters) else {
            return Err(no_columns());
        };
        let id = &table.id;
        let wanted = operation.communities.iter();
        let wanted: Vec<_> = wanted.filter(|(key, _)| id.is_key(key.as_str())).collect();
        let keys: Vec<&str> = wanted.iter().map(|(key, _)| key.as_str()).collect();
        let mut transaction = Postgres::begin(connection, operation.context.database).await?;
        if !holds::<Postgres>(&mut transaction, operation.holder).await? {
            return Ok(None);
        }
        let of_keys = keys_sql(table);
        let there: Vec<String> = query_scalar(AssertSqlSafe(of_keys.as_str()))
            .bind(&keys)
            .fetch_all(&mut *transaction)
            .await?;
        make_counters(&mut transaction, operation, &there).await?;
        let locked = lock(&mut transaction, &there, &of_keys, id).await?;
        let (keys, present): (Vec<&str>, Vec<Option<i64>>) = wanted
            .iter()
            .filter(|(key, _)| locked.contains(key.as_str()))
            .map(|(key, present)| (key.as_str(), *present))
            .unzip();
        let written = query(AssertSqlSafe(update_sql(app, columns)))
            .bind(&keys)
            .bind(&present)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        let unknown = note_written(
            &mut transaction,
            &note_sql(operation, table, columns),
            &keys,
            &present,
        )
        .await?;
        // Last: renewals wait from here on.
        query("UPDATE headcount.counter_lease SET round_at = clock_timestamp()")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Some(Published {
            written,
            left: (there.len() - keys.len()) as u64,
            unknown,
        }))
    }
}

/// Reads which of the communities `$1` the app has.
fn keys_sql(table: &CommunityTable) -> String {
    let CommunityTable { table, id, .. } = table;
    let key = &id.type_name;
    format!("SELECT {id}::text FROM {table} WHERE {id} = ANY ($1::text[]::{key}[])")
}

/// Makes the counters of the communities that are `there`. Of those that the app has deleted nothing is to be written again.
async fn make_counters(
    connection: &mut PgConnection,
    operation: &Publish<'_>,
    there: &[String],
) -> Result<(), sqlx::Error> {
    let all: Vec<&str> = operation
        .communities
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    query(
        "UPDATE headcount.counter SET pending = FALSE, current_visitors = 0
         WHERE (pending OR current_visitors <> 0) AND community = ANY ($1) AND community <> ALL ($2)",
    )
    .bind(all)
    .bind(there)
    .execute(&mut *connection)
    .await?;
    query("INSERT INTO headcount.counter (community) SELECT * FROM UNNEST($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING")
        .bind(there)
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks the counters of the communities that are `there`, then the app's rows of these, as far as nobody else has locked them;
/// those of which both are locked.
async fn lock(
    connection: &mut PgConnection,
    there: &[String],
    of_keys: &str,
    id: &Column,
) -> Result<HashSet<String>, sqlx::Error> {
    let counters: Vec<String> = query_scalar(
        "SELECT community FROM headcount.counter WHERE community = ANY ($1) ORDER BY community
         FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind(there)
    .fetch_all(&mut *connection)
    .await?;
    let lock = format!("{of_keys} ORDER BY {id} FOR NO KEY UPDATE SKIP LOCKED");
    let locked: Vec<String> = query_scalar(AssertSqlSafe(lock))
        .bind(counters)
        .fetch_all(connection)
        .await?;
    Ok(locked.into_iter().collect())
}

/// Notes in the counters what the app's columns show now; of how many it is not known what `current_visitors` should show.
async fn note_written(
    connection: &mut PgConnection,
    sql: &str,
    keys: &[&str],
    present: &[Option<i64>],
) -> Result<u64, sqlx::Error> {
    let pending: Vec<bool> = query_scalar(AssertSqlSafe(sql))
        .bind(keys)
        .bind(present)
        .fetch_all(connection)
        .await?;
    let written = pending.into_iter().filter(|is_pending| !is_pending).count();
    Ok((keys.len() - written) as u64)
}

/// Notes that the columns of the communities `$1` are written, with `$2` present, and reads of each whether it is still to be
/// written. Counters that were to be written and still are are neither changed nor returned.
fn note_sql(operation: &Publish<'_>, table: &CommunityTable, columns: &CounterColumns) -> String {
    let id = &table.id;
    format!(
        "UPDATE headcount.counter AS k
         SET pending = v.present IS NULL AND {overwritten},
             current_visitors = coalesce(v.present, k.current_visitors)
         FROM UNNEST($1::text[], $2::bigint[]) AS v(community, present)
         JOIN {table} AS c ON c.{id} = v.community::{key}
         WHERE k.community = v.community AND NOT (k.pending AND v.present IS NULL AND {overwritten})
         RETURNING k.pending",
        overwritten = overwritten_sql::<Postgres>(&operation.context, columns),
        table = table.table,
        key = id.type_name
    )
}

/// Writes the app's columns from the counters, of the communities `$1` with `$2` present, where they differ.
fn update_sql(app: &AppSchema, columns: &CounterColumns) -> String {
    let Some(table) = &app.community else {
        return String::new();
    };
    let id = &table.id;
    let values = [
        (&columns.page_views, "k.page_views", "k.counted"),
        (&columns.total_visitors, "k.total_visitors", "k.counted"),
        (&columns.current_visitors, "v.present", "v.present IS NOT NULL"),
    ];
    let values = values.into_iter().filter_map(|(column, value, is_known)| {
        let column = column.as_ref()?;
        let value = format!("least({value}, {})::{}", greatest(column), column.type_name);
        Some((column, value, is_known))
    });
    let (mut sets, mut differs) = (Vec::new(), Vec::new());
    for (column, value, is_known) in values {
        sets.push(format!(
            "{column} = CASE WHEN {is_known} THEN {value} ELSE c.{column} END"
        ));
        differs.push(format!("({is_known} AND c.{column} IS DISTINCT FROM {value})"));
    }
    if let Some(column) = &columns.updated_at {
        sets.push(format!("{column} = {}", moment(column, "now()")));
    }
    format!(
        "UPDATE {table} AS c SET {sets}
         FROM UNNEST($1::text[], $2::bigint[]) AS v(community, present)
         JOIN headcount.counter AS k ON k.community = v.community
         WHERE c.{id} = v.community::{key} AND ({differs})",
        table = table.table,
        sets = sets.join(", "),
        key = id.type_name,
        differs = differs.join(" OR ")
    )
}
