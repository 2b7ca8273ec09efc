//! The one write: a batch of page views in one transaction.
//!
//! SQLite has one writer at a time. `BEGIN IMMEDIATE` takes that place at once and waits for it at most
//! `database.lock_timeout`; a transaction that began as a reader could not wait at all.

use sqlx::{AssertSqlSafe, Connection as _, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::values::{key, moment};
use crate::config::{CommunityIdAs, Config};
use crate::store::connections::Operation;
use crate::store::rows::{PAGE_VIEW, event_rows};
use crate::store::schema::{AppSchema, Column, Kind};
use crate::writer::batch::Batch;

/// What is written, by configuration.
pub(super) struct Rules {
    pub events: bool,
    pub pages_visited: bool,
    pub community_id_as: CommunityIdAs,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            events: config.record.events,
            pages_visited: config.record.pages_visited,
            community_id_as: config.record.community_id_as,
        }
    }
}

/// Writes a batch.
pub(super) struct Apply<'a> {
    pub batch: &'a Batch,
    pub rules: &'a Rules,
}

impl Operation<Sqlite> for Apply<'_> {
    type Output = ();
    const WRITES: bool = true;

    async fn run(&self, app: &AppSchema, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        self.insert_events(app, &mut transaction).await?;
        if self.rules.pages_visited {
            self.add_pages(app, &mut transaction).await?;
        }
        if let Some(last_active) = &app.profile.last_active {
            self.raise_last_active(app, last_active, &mut transaction).await?;
        }
        transaction.commit().await
    }
}

impl Apply<'_> {
    async fn insert_events(
        &self,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let event = &app.event;
        let Some(insert) = &event.insert else {
            return Ok(());
        };

        // Our columns, and further ones: the key where we make it, and constants.
        let constant_columns = insert.constants.iter().map(|(column, _)| column);
        let (names, values): (String, String) = insert
            .id
            .iter()
            .chain(constant_columns)
            .map(|column| (format!(", {column}"), ", ?"))
            .unzip();
        let sql = format!(
            "INSERT INTO {table} ({user_id}, {event_type}, {description}, {metadata}, {ip_address},
                                  {user_agent}, {device_info}, {location_data}, {timestamp}{names})
             VALUES (?, '{PAGE_VIEW}', ?, ?, ?, ?, ?, ?, ?{values})",
            table = event.table,
            user_id = event.user_id,
            event_type = event.event_type,
            description = insert.description,
            metadata = event.metadata,
            ip_address = insert.ip_address,
            user_agent = insert.user_agent,
            device_info = insert.device_info,
            location_data = insert.location_data,
            timestamp = event.timestamp,
        );
        let constants = insert
            .constants
            .iter()
            .map(|(column, value)| constant(value, column))
            .collect::<Result<Vec<_>, _>>()?;
        for row in event_rows(self.batch, insert, self.rules.community_id_as)? {
            let mut query = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(&row.user_id, &event.user_id)?)
                .bind(row.description)
                .bind(row.metadata)
                .bind(row.ip_address)
                .bind(row.user_agent)
                .bind(row.device_info)
                .bind(row.location_data)
                .bind(moment(row.at));
            if insert.id.is_some() {
                query = query.bind(Uuid::new_v4().simple().to_string());
            }
            for value in &constants {
                query = query.bind(value);
            }
            query.execute(&mut *connection).await?;
        }
        Ok(())
    }

    async fn add_pages(&self, app: &AppSchema, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let session = &app.session;
        let sql = format!(
            "UPDATE {table} SET {pages_visited} = {pages_visited} + ?2 WHERE {id} = ?1",
            table = session.table,
            pages_visited = session.pages_visited,
            id = session.id,
        );
        for (id, pages) in self.batch.pages_by_session() {
            sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(id.as_str(), &session.id)?)
                .bind(pages)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// S7: never back in time. The moments compare as text, being written alike.
    async fn raise_last_active(
        &self,
        app: &AppSchema,
        last_active: &Column,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let profile = &app.profile;
        let sql = format!(
            "UPDATE {table} SET {last_active} = max(coalesce({last_active}, ?2), ?2) WHERE {id} = ?1",
            table = profile.table,
            id = profile.id,
        );
        for (id, at) in self.batch.last_active_by_user() {
            sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(key(id.as_str(), &profile.id)?)
                .bind(moment(at))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

/// A configured constant as the column holds it.
fn constant(value: &str, column: &Column) -> Result<String, sqlx::Error> {
    match column.kind {
        Kind::Uuid => key(value, column),
        Kind::Timestamp | Kind::TimestampTz => Ok(moment(super::values::read_moment(value, column)?)),
        _ => Ok(value.to_owned()),
    }
}
