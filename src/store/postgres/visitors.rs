//! The visitor list's query on Postgres: names and pictures, and each user's latest valid session.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statement::query_as;
use super::{moment, read_moment};
use crate::from_row::from_row;
use crate::ids::UserId;
use crate::store::VisitorRow;
use crate::store::operations::{Runs, Visitors};
use crate::store::schema::{AppSchema, ProfileValue};

struct Row {
    user_id: String,
    username: Option<String>,
    avatar: Option<String>,
    started_at: Option<DateTime<Utc>>,
    pages_visited: Option<i64>,
}

from_row!(PgRow => Row { user_id, username, avatar, started_at, pages_visited });

impl Runs<Visitors<'_>> for Postgres {
    async fn run(
        operation: &Visitors<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<VisitorRow>, sqlx::Error> {
        let session = &app.session;
        let key = app.user_key();
        let users: Vec<&str> = operation.keys(key).collect();
        let text = |value: &Option<ProfileValue>| match value {
            Some(value) => value.text("headcount_profile", |column| format!("{column}::text")),
            None => "NULL::text".to_owned(),
        };
        let (source, username, avatar, shown) = match &app.profile {
            Some(profile) => (
                profile.table.to_string(),
                text(&profile.username),
                text(&profile.avatar),
                profile.without_hidden("headcount_profile"),
            ),
            // Whoever is asked for exists.
            None => (
                format!("(SELECT unnest($1::text[]::{}[]) AS {key})", key.type_name),
                text(&None),
                text(&None),
                String::new(),
            ),
        };
        let sql = format!(
            "SELECT headcount_profile.{key}::text AS user_id, {username} AS username,
                    nullif({avatar}, '') AS avatar,
                    {read_started_at} AS started_at, s.pages_visited::bigint AS pages_visited
             FROM {source} AS headcount_profile
             LEFT JOIN LATERAL (
                 SELECT {started_at} AS started_at, {pages_visited} AS pages_visited
                 FROM {sessions}
                 WHERE {user_id} = headcount_profile.{key} AND {is_active} AND NOT {is_ended} AND {expires_at} > {now}
                 ORDER BY {started_at} DESC
                 LIMIT 1
             ) AS s ON true
             WHERE headcount_profile.{key} = ANY ($1::text[]::{key_type}[]) {shown}",
            key_type = key.type_name,
            read_started_at = read_moment(&session.started_at, "s.started_at"),
            started_at = session.started_at,
            pages_visited = session.pages_visited,
            sessions = session.table,
            user_id = session.user_id,
            is_active = session.is_active,
            is_ended = session.is_ended,
            expires_at = session.expires_at,
            now = moment(&session.expires_at, "$2::timestamptz"),
        );
        let rows: Vec<Row> = query_as(AssertSqlSafe(sql))
            .bind(users)
            .bind(operation.now)
            .fetch_all(connection)
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| VisitorRow {
                user_id: UserId::new(row.user_id),
                username: row.username.unwrap_or_default(),
                avatar: row.avatar,
                started_at: row.started_at,
                pages_visited: row.pages_visited,
            })
            .collect())
    }
}
