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
use crate::store::schema::{AppSchema, Column, ProfileValue};

struct RawVisitor {
    user_id: String,
    username: Option<String>,
    avatar: Option<String>,
    started_at: Option<DateTime<Utc>>,
    pages_visited: Option<i64>,
}

from_row!(PgRow => RawVisitor { user_id, username, avatar, started_at, pages_visited });

impl Runs<Visitors<'_>> for Postgres {
    async fn run(
        operation: &Visitors<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<VisitorRow>, sqlx::Error> {
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
                profile.only_shown("headcount_profile"),
            ),
            // Whoever is asked for exists.
            None => (
                format!("(SELECT unnest($1::text[]::{}[]) AS {key})", key.type_name),
                text(&None),
                text(&None),
                String::new(),
            ),
        };
        let (join, started_at, pages_visited) = latest_session(app);
        let sql = format!(
            "SELECT headcount_profile.{key}::text AS user_id, {username} AS username,
                    nullif({avatar}, '') AS avatar,
                    {started_at} AS started_at, {pages_visited} AS pages_visited
             FROM {source} AS headcount_profile{join}
             WHERE headcount_profile.{key} = ANY ($1::text[]::{key_type}[]) AND $2::timestamptz IS NOT NULL{shown}",
            key_type = key.type_name,
        );
        let rows: Vec<RawVisitor> = query_as(AssertSqlSafe(sql))
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
    let Some(latest) = session.latest(app.referred()) else {
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
