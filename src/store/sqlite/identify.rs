//! Lookups on SQLite for step 3 (identify): sessions by token, a community by slug or id.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::values::{key, read_key, read_moment};
use crate::browser_session::{BrowserSession, Visibility};
use crate::from_row::from_row;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::store::operations::{FindCommunity, FindSessions, Runs};
use crate::store::schema::{AppSchema, SessionTable};

struct SessionRow {
    place: i64,
    id: String,
    user_id: Option<String>,
    expires_at: Option<String>,
    is_active: bool,
    is_ended: bool,
    ended_at: Option<String>,
}

from_row!(SqliteRow => SessionRow { place, id, user_id, expires_at, is_active, is_ended, ended_at });

impl Runs<FindSessions<'_>> for Sqlite {
    async fn run(
        operation: &FindSessions<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(usize, Result<BrowserSession, sqlx::Error>)>, sqlx::Error> {
        let session = &app.session;
        // A null flag counts as the value that makes the session invalid.
        let sql = format!(
            "SELECT headcount_place AS place, CAST({id} AS TEXT) AS id, CAST({user_id} AS TEXT) AS user_id,
                    CAST({expires_at} AS TEXT) AS expires_at,
                    coalesce({is_active}, 0) AS is_active, coalesce({is_ended}, 1) AS is_ended,
                    CAST({ended_at} AS TEXT) AS ended_at
             FROM (SELECT key AS headcount_place, value AS headcount_token FROM json_each(?1)) AS asked
             JOIN {table} ON {session_id} = headcount_token",
            id = session.id,
            user_id = session.user_id,
            expires_at = session.expires_at,
            is_active = session.is_active,
            is_ended = session.is_ended,
            ended_at = session.ended_at,
            table = session.table,
            session_id = session.session_id,
        );
        let rows: Vec<SessionRow> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(sqlx::types::Json(operation.texts()))
            .fetch_all(connection)
            .await?;
        let read = |row: SessionRow| {
            let place = usize::try_from(row.place).ok()?;
            row.session(session).transpose().map(|session| (place, session))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

impl SessionRow {
    /// A session without a user or without an expiry is invalid.
    fn session(self, names: &SessionTable) -> Result<Option<BrowserSession>, sqlx::Error> {
        let (Some(user_id), Some(expires_at)) = (self.user_id, self.expires_at) else {
            return Ok(None);
        };
        Ok(Some(BrowserSession {
            id: BrowserSessionId::new(read_key(self.id, &names.id)?),
            user_id: UserId::new(read_key(user_id, &names.user_id)?),
            expires_at: read_moment(&expires_at, &names.expires_at)?,
            is_active: self.is_active,
            is_ended: self.is_ended,
            // Text that is no moment says no more than null: ended at an unknown time.
            ended_at: self
                .ended_at
                .and_then(|text| read_moment(&text, &names.ended_at).ok()),
            visibility: Visibility::Shown,
        }))
    }
}

impl Runs<FindCommunity<'_>> for Sqlite {
    async fn run(
        operation: &FindCommunity<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<CommunityId>, sqlx::Error> {
        let Some(community) = &app.community else {
            return Ok(operation.without_table());
        };
        let Some((column, value)) = operation.criterion(community) else {
            return Ok(None);
        };
        let value = match operation {
            FindCommunity::BySlug(_) => value.to_owned(),
            FindCommunity::ByKey(_) => key(value, column)?,
        };
        let sql = format!(
            "SELECT CAST({id} AS TEXT) FROM {table} WHERE {column} = ?1 LIMIT 1",
            id = community.id,
            table = community.table,
        );
        let id: Option<String> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(value)
            .fetch_optional(connection)
            .await?;
        id.map(|id| Ok(CommunityId::new(read_key(id, &community.id)?)))
            .transpose()
    }
}
