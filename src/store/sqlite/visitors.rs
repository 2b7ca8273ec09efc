//! The visitor list's query on SQLite: names and pictures, and each user's latest valid session.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::moments::{lately, micros};
use super::values::{key, read_key, read_moment};
use crate::from_row::from_row;
use crate::ids::UserId;
use crate::store::VisitorRow;
use crate::store::operations::{Runs, Visitors};
use crate::store::schema::{AppSchema, Column, ProfileValue};

struct Row {
    user_id: String,
    username: Option<String>,
    avatar: Option<String>,
    started_at: Option<String>,
    pages_visited: Option<i64>,
}

from_row!(SqliteRow => Row { user_id, username, avatar, started_at, pages_visited });

impl Runs<Visitors<'_>> for Sqlite {
    async fn run(
        operation: &Visitors<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<VisitorRow>, sqlx::Error> {
        let session = &app.session;
        let user_key = app.user_key();
        let users = operation
            .keys(user_key)
            .map(|user| key(user, user_key))
            .collect::<Result<Vec<_>, _>>()?;
        let users = serde_json::to_string(&users).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let (from, to) = lately(operation.now);
        let at = |column: &Column| micros(&format!("latest.{column}"), column.zone, from, to);
        let text = |value: &Option<ProfileValue>| match value {
            Some(value) => value.text("p", |column| column),
            None => "NULL".to_owned(),
        };
        let (source, username, avatar, shown) = match &app.profile {
            Some(profile) => (
                profile.table.to_string(),
                text(&profile.username),
                text(&profile.avatar),
                profile.without_hidden("p"),
            ),
            // Whoever is asked for exists.
            None => (
                format!("(SELECT value AS {user_key} FROM json_each(?1))"),
                text(&None),
                text(&None),
                String::new(),
            ),
        };
        let sql = format!(
            "SELECT CAST(p.{id} AS TEXT) AS user_id, {username} AS username,
                    nullif({avatar}, '') AS avatar,
                    CAST(s.{started_at} AS TEXT) AS started_at, s.{pages_visited} AS pages_visited
             FROM {source} AS p
             LEFT JOIN {sessions} AS s ON s.{session_id} = (
                 SELECT latest.{session_id}
                 FROM {sessions} AS latest
                 WHERE latest.{user_id} = p.{id} AND latest.{is_active} AND NOT latest.{is_ended}
                   AND {expires} > ?2
                 ORDER BY {began} DESC
                 LIMIT 1
             )
             WHERE p.{id} IN (SELECT value FROM json_each(?1)) {shown}",
            id = user_key,
            sessions = session.table,
            session_id = session.id,
            user_id = session.user_id,
            started_at = session.started_at,
            pages_visited = session.pages_visited,
            is_active = session.is_active,
            is_ended = session.is_ended,
            expires = at(&session.expires_at),
            began = at(&session.started_at),
        );
        let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(users)
            .bind(operation.now.timestamp_micros())
            .fetch_all(connection)
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(VisitorRow {
                    user_id: UserId::new(read_key(row.user_id, user_key)?),
                    username: row.username.unwrap_or_default(),
                    avatar: row.avatar,
                    started_at: row
                        .started_at
                        .map(|text| read_moment(&text, &session.started_at))
                        .transpose()?,
                    pages_visited: row.pages_visited,
                })
            })
            .collect()
    }
}
