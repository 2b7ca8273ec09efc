//! Lookups on Postgres for step 3 (identify): sessions by token, a community by slug or id.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::read_moment;
use super::statement::{query_as, query_scalar};
use crate::browser_session::{BrowserSession, Visibility};
use crate::from_row::from_row;
use crate::ids::{BrowserSessionId, CommunityId, UserId};
use crate::store::operations::{FindCommunity, FindSessions, Runs};
use crate::store::schema::AppSchema;

struct SessionRow {
    place: i64,
    id: String,
    user_id: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    is_active: bool,
    is_ended: bool,
    ended_at: Option<DateTime<Utc>>,
}

from_row!(PgRow => SessionRow { place, id, user_id, expires_at, is_active, is_ended, ended_at });

impl Runs<FindSessions<'_>> for Postgres {
    async fn run(
        operation: &FindSessions<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<(usize, Result<BrowserSession, sqlx::Error>)>, sqlx::Error> {
        let session = &app.session;
        // A null flag counts as the value that makes the session invalid. Each token is looked up by itself, by
        // the index, whatever the planner makes of the number of tokens.
        let sql = format!(
            "SELECT headcount_asked.place - 1 AS place, headcount_found.*
             FROM unnest($1::text[]) WITH ORDINALITY AS headcount_asked (token, place)
             CROSS JOIN LATERAL (
                 SELECT {id}::text AS id, {user_id}::text AS user_id, {expires_at} AS expires_at,
                        coalesce({is_active}, false) AS is_active, coalesce({is_ended}, true) AS is_ended,
                        {ended_at} AS ended_at
                 FROM {table} WHERE {session_id} = headcount_asked.token LIMIT 1
             ) AS headcount_found",
            id = session.id,
            user_id = session.user_id,
            expires_at = read_moment(&session.expires_at, &session.expires_at.to_string()),
            is_active = session.is_active,
            is_ended = session.is_ended,
            ended_at = read_moment(&session.ended_at, &session.ended_at.to_string()),
            table = session.table,
            session_id = session.session_id,
        );
        let rows: Vec<SessionRow> = query_as(AssertSqlSafe(sql))
            .bind(operation.texts())
            .fetch_all(connection)
            .await?;
        // A session without a user, or whose end cannot be compared, is invalid.
        let read = |row: SessionRow| {
            let session = BrowserSession {
                id: BrowserSessionId::new(row.id),
                user_id: UserId::new(row.user_id?),
                expires_at: row.expires_at?,
                is_active: row.is_active,
                is_ended: row.is_ended,
                ended_at: row.ended_at,
                visibility: Visibility::Shown,
            };
            Some((usize::try_from(row.place).ok()?, Ok(session)))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

impl Runs<FindCommunity<'_>> for Postgres {
    async fn run(
        operation: &FindCommunity<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<CommunityId>, sqlx::Error> {
        let Some(community) = &app.community else {
            return Ok(operation.without_table());
        };
        let Some((column, value)) = operation.criterion(community) else {
            return Ok(None);
        };
        let parameter = match operation {
            FindCommunity::BySlug(_) => "$1".to_owned(),
            FindCommunity::ByKey(_) => format!("$1::text::{}", column.type_name),
        };
        let sql = format!(
            "SELECT {id}::text FROM {table} WHERE {column} = {parameter} LIMIT 1",
            id = community.id,
            table = community.table,
        );
        let id: Option<String> = query_scalar(AssertSqlSafe(sql))
            .bind(value)
            .fetch_optional(connection)
            .await?;
        Ok(id.map(CommunityId::new))
    }
}
