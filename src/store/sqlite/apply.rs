//! Statements of the batch write on SQLite: one for each row.

use chrono::Utc;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::moments::{lately, micros};
use super::values::{key, moment, read_moment};
use crate::store::operations::{AddPages, InsertEvents, MakePartitions, RaiseLastActive, Runs};
use crate::store::rows::{insert_into, new_key};
use crate::store::schema::{AppSchema, Column, Kind};

impl Runs<InsertEvents<'_>> for Sqlite {
    async fn run(
        operation: &InsertEvents<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let InsertEvents {
            event,
            columns: insert,
            rows,
        } = operation;

        let optional = insert.optional().into_iter().flatten().count();
        let more = optional + insert.constants.len() + usize::from(insert.id.is_some());
        let sql = format!(
            "{insert_into} VALUES (?, ?, ?, ?{more})",
            insert_into = insert_into(event, insert),
            more = ", ?".repeat(more),
        );
        let constants = insert
            .constants
            .iter()
            .map(|(column, value)| constant(value, column))
            .collect::<Result<Vec<_>, _>>()?;
        for row in rows.iter() {
            let row = row?;
            let mut query = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(row.user_id, &event.user_id)?)
                .bind(row.event_type)
                .bind(&*row.metadata)
                .bind(moment(row.at, &event.timestamp));
            for (column, value) in insert.optional().into_iter().zip(row.optional()) {
                if column.is_some() {
                    query = query.bind(value);
                }
            }
            if insert.id.is_some() {
                query = query.bind(new_key().simple().to_string());
            }
            for value in &constants {
                query = query.bind(value);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }
}

impl Runs<AddPages<'_>> for Sqlite {
    async fn run(
        operation: &AddPages<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let (table, counter) = (&app.session.table, &operation.counter);
        let sql = format!(
            "UPDATE {table} SET {pages_visited} = {pages_visited} + ?2 WHERE {id} = ?1",
            pages_visited = counter.pages_visited,
            id = counter.id,
        );
        for (id, pages) in &operation.pages {
            sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(id.as_str(), counter.id)?)
                .bind(pages)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

impl Runs<RaiseLastActive<'_>> for Sqlite {
    /// The app's own value stays where it is not earlier by the interval, in the form in which the app wrote it.
    async fn run(
        operation: &RaiseLastActive<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let (profile, last_active) = (operation.profile, operation.column);
        let (from, to) = lately(Utc::now());
        let interval = i64::try_from(operation.interval.as_micros()).unwrap_or(i64::MAX);
        let sql = format!(
            "UPDATE {table} SET {last_active} = ?2 WHERE {id} = ?1 AND coalesce({there} < ?3, TRUE)",
            table = profile.table,
            there = micros(&last_active.to_string(), last_active.zone, from, to),
            id = profile.id,
        );
        for (id, at) in &operation.moments {
            sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(id.as_str(), &profile.id)?)
                .bind(moment(*at, last_active))
                .bind(at.timestamp_micros().saturating_sub(interval))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

impl Runs<MakePartitions<'_>> for Sqlite {
    /// Tables have no partitions.
    async fn run(
        _: &MakePartitions<'_>,
        _: &AppSchema,
        _: &mut SqliteConnection,
    ) -> Result<usize, sqlx::Error> {
        Ok(0)
    }
}

/// A configured constant as the column holds it.
fn constant(value: &str, column: &Column) -> Result<String, sqlx::Error> {
    match column.kind {
        Kind::Uuid => key(value, column),
        Kind::Timestamp | Kind::TimestampTz => Ok(moment(read_moment(value, column)?, column)),
        _ => Ok(value.to_owned()),
    }
}
