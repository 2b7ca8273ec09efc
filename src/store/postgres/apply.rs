//! The one write: a batch of page views in one transaction.
//!
//! Two sidecars, and a sidecar and the app, must never deadlock (W7): tables in fixed order (events,
//! sessions, profiles), rows locked in the order of their keys before they are updated, and no wait for a
//! lock longer than `database.lock_timeout`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres};

use super::moment;
use crate::config::{CommunityIdAs, Config};
use crate::store::connections::Operation;
use crate::store::rows::{EventRow, PAGE_VIEW, event_rows};
use crate::store::schema::{AppSchema, Column, TableName};
use crate::writer::batch::Batch;

/// What is written, by configuration.
pub(super) struct Rules {
    pub events: bool,
    pub pages_visited: bool,
    pub community_id_as: CommunityIdAs,
    pub lock_timeout: Duration,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            events: config.record.events,
            pages_visited: config.record.pages_visited,
            community_id_as: config.record.community_id_as,
            lock_timeout: config.database.lock_timeout,
        }
    }
}

/// Writes a batch.
pub(super) struct Apply<'a> {
    pub batch: &'a Batch,
    pub rules: &'a Rules,
}

impl Operation<Postgres> for Apply<'_> {
    type Output = ();
    const WRITES: bool = true;

    async fn run(&self, app: &AppSchema, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin().await?;
        sqlx::query("SELECT set_config('lock_timeout', $1, true)")
            .bind(format!("{}ms", self.rules.lock_timeout.as_millis()))
            .execute(&mut *transaction)
            .await?;
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
    async fn insert_events(&self, app: &AppSchema, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let event = &app.event;
        let Some(insert) = &event.insert else {
            return Ok(());
        };
        let rows = event_rows(self.batch, insert, self.rules.community_id_as)?;

        // Our columns, and further ones: the key where we make it, and constants as parameters $9, $10, …
        let id = insert.id.iter().map(|id| (id, "gen_random_uuid()".to_owned()));
        let constants = insert
            .constants
            .iter()
            .zip(9..)
            .map(|((column, _), place)| (column, format!("${place}::text::{}", column.type_name)));
        let (names, values): (String, String) = id
            .chain(constants)
            .map(|(column, value)| (format!(", {column}"), format!(", {value}")))
            .unzip();
        let sql = format!(
            "INSERT INTO {table} ({user_id}, {event_type}, {description}, {metadata}, {ip_address},
                                  {user_agent}, {device_info}, {location_data}, {timestamp}{names})
             SELECT v.user_id::{key}, '{PAGE_VIEW}', v.description, v.metadata::{metadata_type},
                    v.ip_address::{ip_type}, v.user_agent, v.device_info::{device_type},
                    v.location_data::{location_type}, {at}{values}
             FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::timestamptz[])
                  AS v(user_id, description, metadata, ip_address, user_agent, device_info,
                       location_data, at)",
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
            key = event.user_id.type_name,
            metadata_type = event.metadata.type_name,
            ip_type = insert.ip_address.type_name,
            device_type = insert.device_info.type_name,
            location_type = insert.location_data.type_name,
            at = moment(&event.timestamp, "v.at"),
        );
        let texts = |of: fn(&EventRow) -> &str| rows.iter().map(of).collect::<Vec<_>>();
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(texts(|row| &row.user_id))
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
            .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>());
        for (_, value) in &insert.constants {
            query = query.bind(value);
        }
        query.execute(connection).await.map(drop)
    }

    async fn add_pages(&self, app: &AppSchema, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let session = &app.session;
        let (ids, pages): (Vec<String>, Vec<i64>) = self
            .batch
            .pages_by_session()
            .into_iter()
            .map(|(id, pages)| (id.to_string(), pages))
            .unzip();
        lock(connection, &session.table, &session.id, &ids).await?;
        let sql = format!(
            "UPDATE {table} AS s SET {pages_visited} = s.{pages_visited} + v.pages
             FROM UNNEST($1::text[]::{key}[], $2::bigint[]) AS v(id, pages)
             WHERE s.{id} = v.id",
            table = session.table,
            pages_visited = session.pages_visited,
            key = session.id.type_name,
            id = session.id,
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(pages)
            .execute(connection)
            .await
            .map(drop)
    }

    /// S7: never back in time; the rows are locked, so what is compared is what is there.
    async fn raise_last_active(
        &self,
        app: &AppSchema,
        last_active: &Column,
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let profile = &app.profile;
        let (ids, moments): (Vec<String>, Vec<DateTime<Utc>>) = self
            .batch
            .last_active_by_user()
            .into_iter()
            .map(|(id, at)| (id.to_string(), at))
            .unzip();
        lock(connection, &profile.table, &profile.id, &ids).await?;
        let sql = format!(
            "UPDATE {table} AS p SET {last_active} = GREATEST(p.{last_active}, {at})
             FROM UNNEST($1::text[]::{key}[], $2::timestamptz[]) AS v(id, at)
             WHERE p.{id} = v.id",
            table = profile.table,
            at = moment(last_active, "v.at"),
            key = profile.id.type_name,
            id = profile.id,
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(moments)
            .execute(connection)
            .await
            .map(drop)
    }
}

/// Locks rows in the order of their keys, as the app's own updates do: `NO KEY`, so that inserts which refer
/// to the rows go on.
async fn lock(
    connection: &mut PgConnection,
    table: &TableName,
    id: &Column,
    ids: &[String],
) -> Result<(), sqlx::Error> {
    let key = &id.type_name;
    let sql = format!(
        "SELECT 1 FROM {table} WHERE {id} = ANY ($1::text[]::{key}[]) ORDER BY {id} FOR NO KEY UPDATE"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(ids)
        .execute(connection)
        .await
        .map(drop)
}
