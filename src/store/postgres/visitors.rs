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
use crate::store::schema::{AppSchema, Column};

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
        let profile = &app.profile;
        let users: Vec<&str> = operation.keys(profile).collect();
        let (join, started_at, pages_visited) = latest_session(app);
        let sql = format!(
            "SELECT headcount_profile.{id}::text AS user_id, headcount_profile.{username}::text AS username,
                    nullif(headcount_profile.{avatar}::text, '') AS avatar,
                    {started_at} AS started_at, {pages_visited} AS pages_visited
             FROM {profiles} AS headcount_profile{join}
             WHERE headcount_profile.{id} = ANY ($1::text[]::{key}[]) AND $2::timestamptz IS NOT NULL",
            id = profile.id,
            username = profile.username,
            avatar = profile.avatar,
            profiles = profile.table,
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

/// SQL of each user's latest valid session, where the app's sessions can be joined and put in order: the join, and its
/// values.
fn latest_session(app: &AppSchema) -> (String, String, String) {
    let session = &app.session;
    let nothing = || (String::new(), "NULL::timestamptz".into(), "NULL::bigint".into());
    let Some(latest) = session.latest(&app.profile) else {
        return nothing();
    };
    let is_ahead = |column: &Column| {
        let now = moment(column, "$2::timestamptz");
        format!("headcount_session.{column} > {now}")
    };
    let value = |column: &Option<Column>, name: &str| match column {
        Some(column) => format!("headcount_session.{column} AS {name}"),
        None => format!("NULL AS {name}"),
    };
    let join = format!(
        "
             LEFT JOIN LATERAL (
                 SELECT {started_at}, {pages_visited}
                 FROM {sessions} AS headcount_session
                 WHERE headcount_session.{user} = headcount_profile.{referred} AND {valid}
                 ORDER BY headcount_session.{order} DESC
                 LIMIT 1
             ) AS s ON true",
        started_at = value(&session.started_at, "started_at"),
        pages_visited = value(&session.pages_visited, "pages_visited"),
        sessions = session.table,
        user = latest.user,
        referred = latest.profile,
        valid = session.valid("headcount_session", is_ahead),
        order = latest.order,
    );
    let started_at = session.started_at.as_ref();
    let started_at = started_at.map(|column| read_moment(column, "s.started_at"));
    let (_, no_start, _) = nothing();
    (
        join,
        started_at.unwrap_or(no_start),
        "s.pages_visited::bigint".into(),
    )
}
