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

struct RawVisitor {
    user_id: String,
    username: Option<String>,
    avatar: Option<String>,
    started_at: Option<String>,
    pages_visited: Option<i64>,
}

from_row!(SqliteRow => RawVisitor { user_id, username, avatar, started_at, pages_visited });

impl Runs<Visitors<'_>> for Sqlite {
    async fn run(
        operation: &Visitors<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<VisitorRow>, sqlx::Error> {
        let user_key = app.user_key();
        let users = operation
            .keys(user_key)
            .map(|user| key(user, user_key))
            .collect::<Result<Vec<_>, _>>()?;
        let users = serde_json::to_string(&users).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let text = |value: &Option<ProfileValue>| match value {
            Some(value) => value.text("p", |column| column),
            None => "NULL".to_owned(),
        };
        let (source, username, avatar, shown) = match &app.profile {
            Some(profile) => (
                profile.table.to_string(),
                text(&profile.username),
                text(&profile.avatar),
                profile.only_shown("p"),
            ),
            // Whoever is asked for exists.
            None => (
                format!("(SELECT value AS {user_key} FROM json_each(?1))"),
                text(&None),
                text(&None),
                String::new(),
            ),
        };
        let (join, started_at, pages_visited) = latest_session(operation, app);
        let sql = format!(
            "SELECT CAST(p.{user_key} AS TEXT) AS user_id, {username} AS username,
                    nullif({avatar}, '') AS avatar,
                    {started_at} AS started_at, {pages_visited} AS pages_visited
             FROM {source} AS p{join}
             WHERE p.{user_key} IN (SELECT value FROM json_each(?1)) AND ?2 IS NOT NULL{shown}"
        );
        let rows: Vec<RawVisitor> = sqlx::query_as(AssertSqlSafe(sql))
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
                        .zip(app.session.started_at.as_ref())
                        .map(|(text, column)| read_moment(&text, column))
                        .transpose()?,
                    pages_visited: row.pages_visited,
                })
            })
            .collect()
    }
}

/// SQL of each user's latest valid session, where the app's sessions can be joined and put in order: the join, and its
/// values.
fn latest_session(operation: &Visitors<'_>, app: &AppSchema) -> (String, String, String) {
    let session = &app.session;
    let Some(latest) = session.latest(app.referred()) else {
        return (String::new(), "NULL".into(), "NULL".into());
    };
    let (from, to) = lately(operation.now);
    let at = |column: &Column| micros(&format!("latest.{column}"), column.zone, from, to);
    let join = format!(
        "
             LEFT JOIN {sessions} AS s ON s.{key} = (
                 SELECT latest.{key}
                 FROM {sessions} AS latest
                 WHERE latest.{user} = p.{referred} AND {valid}
                 ORDER BY {order} DESC
                 LIMIT 1
             )",
        sessions = session.table,
        key = session.key(),
        user = latest.user,
        referred = latest.profile,
        valid = session.valid("latest", |column| format!("{} > ?2", at(column))),
        order = at(latest.order),
    );
    let value = |column: &Option<Column>| column.as_ref().map(|column| format!("s.{column}"));
    let started_at = value(&session.started_at).map(|column| format!("CAST({column} AS TEXT)"));
    let or_null = |sql: Option<String>| sql.unwrap_or_else(|| "NULL".into());
    (join, or_null(started_at), or_null(value(&session.pages_visited)))
}
