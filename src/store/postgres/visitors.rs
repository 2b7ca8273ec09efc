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
use crate::store::schema::AppSchema;

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
        let (profile, session) = (&app.profile, &app.session);
        let users: Vec<&str> = operation.keys(profile).collect();
        let sql = format!(
            "SELECT p.{id}::text AS user_id, p.{username}::text AS username,
                    nullif(p.{avatar}::text, '') AS avatar,
                    {read_started_at} AS started_at, s.pages_visited::bigint AS pages_visited
             FROM {profiles} AS p
             LEFT JOIN LATERAL (
                 SELECT {started_at} AS started_at, {pages_visited} AS pages_visited
                 FROM {sessions}
                 WHERE {user_id} = p.{id} AND {is_active} AND NOT {is_ended} AND {expires_at} > {now}
                 ORDER BY {started_at} DESC
                 LIMIT 1
             ) AS s ON true
             WHERE p.{id} = ANY ($1::text[]::{key}[])",
            id = profile.id,
            username = profile.username,
            avatar = profile.avatar,
            read_started_at = read_moment(&session.started_at, "s.started_at"),
            profiles = profile.table,
            started_at = session.started_at,
            pages_visited = session.pages_visited,
            sessions = session.table,
            user_id = session.user_id,
            is_active = session.is_active,
            is_ended = session.is_ended,
            expires_at = session.expires_at,
            now = moment(&session.expires_at, "$2::timestamptz"),
            key = profile.id.type_name,
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
