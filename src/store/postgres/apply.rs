//! Statements of the batch write on Postgres: one for each table, whatever the number of rows. Rows are locked in
//! the order of their keys before they are updated.

use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::Utc;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::copy::{CHECK_NOW, copy};
use super::moment;
use super::statement::query;
use crate::store::StoreError;
use crate::store::error::{NO_PARTITION_THEN, lacks_partition};
use crate::store::operations::{AddPages, InsertEvents, RaiseLastActive, Runs};
use crate::store::rows::{EventRow, insert_into};
use crate::store::schema::AppSchema;

impl Runs<InsertEvents<'_>> for Postgres {
    async fn run(
        operation: &InsertEvents<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let outcome = if operation.event.takes_copy {
            copy(operation, operation.rows.iter(), connection).await
        } else {
            let rows = operation.rows.iter().collect::<Result<Vec<_>, _>>()?;
            insert(operation, &rows, connection).await
        };
        match outcome {
            Err(error) if lacks_partition(&error) => Err(with_partitions(error, operation, connection).await),
            outcome => outcome,
        }
    }
}

/// Classifies the error of rows that matched no partition. If a row of now would match none either, the table must
/// be mended, and everything waits. Otherwise these rows are outside its range for good: the error is then about
/// the rows.
async fn with_partitions(
    error: sqlx::Error,
    operation: &InsertEvents<'_>,
    connection: &mut PgConnection,
) -> sqlx::Error {
    let Some(Ok(row)) = operation.rows.iter().next() else {
        return error;
    };
    let now = EventRow {
        at: Utc::now(),
        ..row
    };
    // Replaces the transaction that has failed; this one is rolled back in the same way.
    if sqlx::raw_sql("ROLLBACK; BEGIN")
        .execute(&mut *connection)
        .await
        .is_err()
    {
        return error;
    }
    let fits = match insert(operation, &[now], connection).await {
        Ok(()) => true,
        // The partition is chosen before any other check of the row.
        Err(other) => !lacks_partition(&other) && matches!(StoreError::from(other), StoreError::Refused(_)),
    };
    if fits {
        sqlx::Error::InvalidArgument(NO_PARTITION_THEN.to_owned())
    } else {
        error
    }
}

/// Our names of the values of [`EventInsert::optional`](crate::store::schema::EventInsert::optional).
const OPTIONAL: [&str; 5] = [
    "description",
    "ip_address",
    "user_agent",
    "device_info",
    "location_data",
];

/// One statement for all rows, and the check of their constraints.
async fn insert(
    operation: &InsertEvents<'_>,
    rows: &[EventRow<'_>],
    connection: &mut PgConnection,
) -> Result<(), sqlx::Error> {
    let InsertEvents {
        event,
        columns: insert,
        ..
    } = operation;

    // The key where we make it, and constants as parameters $10, $11, …
    let id = insert.id.iter().map(|_| ", gen_random_uuid()".to_owned());
    let constants = insert.constants.iter().zip(10..);
    let constants = constants.map(|((column, _), place)| format!(", ${place}::text::{}", column.type_name));
    let optional = insert.optional().into_iter().zip(OPTIONAL);
    let optional = optional.filter_map(|(column, value)| {
        let column = column.as_ref()?;
        Some(format!(", v.{value}::{}", column.type_name))
    });
    let more: String = optional.chain(id).chain(constants).collect();
    let sql = format!(
        "{insert_into}
         SELECT v.user_id::{key}, v.event_type, v.metadata::{metadata_type}, {at}{more}
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                     $7::text[], $8::timestamptz[], $9::text[])
              AS v(user_id, description, metadata, ip_address, user_agent, device_info,
                   location_data, at, event_type)",
        insert_into = insert_into(event, insert),
        key = event.user_id.type_name,
        metadata_type = event.metadata.type_name,
        at = moment(&event.timestamp, "v.at"),
    );
    let texts = |of: for<'r> fn(&'r EventRow<'_>) -> &'r str| rows.iter().map(of).collect::<Vec<_>>();
    let mut query = query(AssertSqlSafe(sql))
        .bind(texts(|row| row.user_id))
        .bind(texts(|row| &row.description))
        .bind(texts(|row| &row.metadata))
        .bind(
            rows.iter()
                .map(|row| row.ip_address.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(texts(|row| &row.user_agent))
        .bind(texts(|row| &row.device_info))
        .bind(texts(|row| &row.location_data))
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(texts(|row| row.event_type));
    for (_, value) in &insert.constants {
        query = query.bind(value);
    }
    query.execute(&mut *connection).await?;
    sqlx::raw_sql(CHECK_NOW).execute(connection).await.map(drop)
}

impl Runs<AddPages<'_>> for Postgres {
    /// The rows are locked in the order of their keys before they are changed, as the app's own updates do: `NO KEY`, so
    /// that inserts which refer to the rows go on. A row that changed while its lock was waited for is changed as it is
    /// then.
    async fn run(
        operation: &AddPages<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let counter = &operation.counter;
        let (ids, pages) = columns(&operation.pages);
        let sql = format!(
            "WITH v AS MATERIALIZED (
                 SELECT * FROM UNNEST($1::text[]::{key}[], $2::bigint[]) AS v(id, pages)
             ), locked AS MATERIALIZED (
                 SELECT l.{id} FROM {table} AS l JOIN v ON l.{id} = v.id
                 ORDER BY l.{id} FOR NO KEY UPDATE OF l
             )
             UPDATE {table} AS s SET {pages_visited} = s.{pages_visited} + v.pages
             FROM locked JOIN v ON locked.{id} = v.id
             WHERE s.{id} = locked.{id}",
            table = app.session.table,
            pages_visited = counter.pages_visited,
            key = counter.id.type_name,
            id = counter.id,
        );
        query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(pages)
            .execute(connection)
            .await
            .map(drop)
    }
}

impl Runs<RaiseLastActive<'_>> for Postgres {
    /// Locked as [`AddPages`] does; a profile that need not be raised is neither locked nor written.
    async fn run(
        operation: &RaiseLastActive<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let (profile, last_active) = (operation.profile, operation.column);
        let (ids, moments) = columns(&operation.moments);
        let is_earlier = |alias: &str| {
            let at = moment(last_active, "v.at");
            let there = format!("{alias}.{last_active}");
            format!("coalesce({there} < {at} - make_interval(secs => $3), TRUE)")
        };
        let sql = format!(
            "WITH v AS MATERIALIZED (
                 SELECT * FROM UNNEST($1::text[]::{key}[], $2::timestamptz[]) AS v(id, at)
             ), locked AS MATERIALIZED (
                 SELECT l.{id} FROM {table} AS l JOIN v ON l.{id} = v.id
                 WHERE {to_lock} ORDER BY l.{id} FOR NO KEY UPDATE OF l
             )
             UPDATE {table} AS p SET {last_active} = {at}
             FROM locked JOIN v ON locked.{id} = v.id
             WHERE p.{id} = locked.{id} AND {to_raise}",
            table = profile.table,
            at = moment(last_active, "v.at"),
            key = profile.id.type_name,
            id = profile.id,
            to_lock = is_earlier("l"),
            to_raise = is_earlier("p"),
        );
        query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(moments)
            .bind(operation.interval.as_secs_f64())
            .execute(connection)
            .await
            .map(drop)
    }
}

/// Keys as text, and their values.
fn columns<K: Display, V: Copy>(map: &BTreeMap<K, V>) -> (Vec<String>, Vec<V>) {
    map.iter().map(|(key, value)| (key.to_string(), *value)).unzip()
}
