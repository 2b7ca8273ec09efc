//! Lookups on Postgres for step 3 (identify): sessions by token, profiles of accounts, a community by slug or id.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use super::statement::{query_as, query_scalar};
use super::{moment, read_moment};
use crate::from_row::from_row;
use crate::ids::{AccountId, CommunityId, UserId};
use crate::store::django::MAX_ENCODED;
use crate::store::operations::{
    AccountProfile, CommunityCriterion, FindCommunity, FindProfiles, FindSlug, ReadSessions, Runs,
    SampleSessions, SessionKey,
};
use crate::store::schema::{AppSchema, Column, SessionUser};
use crate::store::session_remarks::{SAMPLE, SampleRow};
use crate::store::session_rows::{RowUser, SessionRow};

#[expect(clippy::struct_excessive_bools, reason = "independent facts of a row")]
struct IdentifiedRow {
    place: i64,
    id: Option<String>,
    stored: Option<String>,
    user_text: Option<String>,
    no_user: bool,
    expires_at: Option<DateTime<Utc>>,
    is_active: bool,
    is_ended: bool,
    has_end: bool,
    ended_at: Option<DateTime<Utc>>,
}

from_row!(PgRow => IdentifiedRow { place, id, stored, user_text, no_user, expires_at, is_active, is_ended, has_end, ended_at });

impl Runs<ReadSessions<'_>> for Postgres {
    async fn run(
        operation: &ReadSessions<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<(usize, SessionRow)>, sqlx::Error> {
        let rows: Vec<IdentifiedRow> = query_as(AssertSqlSafe(sessions_sql(app, operation.by)))
            .bind(operation.wanted.texts())
            .fetch_all(connection)
            .await?;
        let read = |row: IdentifiedRow| {
            let place = row.place;
            let row = SessionRow {
                user: RowUser::new(row.user_text, row.no_user, &app.session),
                id: row.id,
                stored: row.stored,
                expires_at: row.expires_at,
                is_active: row.is_active,
                is_ended: row.is_ended,
                has_end: row.has_end,
                ended_at: row.ended_at,
                fault: None,
            };
            (place, row)
        };
        Ok(operation.wanted.by_token(rows.into_iter().map(read)))
    }
}

/// A null flag counts as the value that makes the session invalid. Each token is looked up by itself, by the index,
/// whatever the planner makes of the number of tokens.
fn sessions_sql(app: &AppSchema, by: SessionKey) -> String {
    let session = &app.session;
    let text = |column: &Column| format!("headcount_session.{column}::text");
    let at = |column: &Column| read_moment(column, &format!("headcount_session.{column}"));
    let or_null = |sql: Option<String>, of: &str| sql.unwrap_or_else(|| format!("NULL::{of}"));
    let user = session.user.column();
    let user_text = user_text(app);
    let flag = |column: &Option<Column>, null: bool, without: bool| match column {
        Some(column) => format!("coalesce(headcount_session.{column}, {null})"),
        None => without.to_string(),
    };
    let has_end = session.ended_at.as_ref();
    let has_end = has_end.map(|column| format!("headcount_session.{column} IS NOT NULL"));
    let stored = session.id.is_none().then(|| text(&session.session_id));
    format!(
        "SELECT headcount_asked.place - 1 AS place, headcount_found.*
         FROM unnest($1::text[]) WITH ORDINALITY AS headcount_asked (token, place)
         CROSS JOIN LATERAL (
             SELECT {id} AS id, {stored} AS stored, {user_text} AS user_text,
                    headcount_session.{user} IS NULL AS no_user, {expires_at} AS expires_at,
                    {is_active} AS is_active, {is_ended} AS is_ended,
                    {has_end} AS has_end, {ended_at} AS ended_at
             FROM {table} AS headcount_session
             WHERE headcount_session.{key} = headcount_asked.token{cast} {order} LIMIT 1
         ) AS headcount_found",
        id = or_null(session.id.as_ref().map(text), "text"),
        stored = or_null(stored, "text"),
        expires_at = or_null(session.expires_at.as_ref().map(at), "timestamptz"),
        is_active = flag(&session.is_active, false, true),
        is_ended = flag(&session.is_ended, true, false),
        has_end = has_end.unwrap_or_else(|| "false".into()),
        ended_at = or_null(session.ended_at.as_ref().map(at), "timestamptz"),
        table = session.table,
        key = by.column(session),
        order = session.order("headcount_session", |column| {
            format!("headcount_session.{column} > {}", moment(column, "now()"))
        }),
        cast = match by {
            SessionKey::Token => String::new(),
            SessionKey::Id => format!("::{}", by.column(session).type_name),
        },
    )
}

/// SQL for the user of a row: see [`RowUser::new`].
fn user_text(app: &AppSchema) -> String {
    let session = &app.session;
    let user = session.user.column();
    match (&session.user, app.accounts()) {
        (SessionUser::Column(_), None) => format!("headcount_session.{user}::text"),
        (SessionUser::Column(_), Some((profile, account))) => format!(
            "(SELECT headcount_profile.{id}::text FROM {profiles} AS headcount_profile
              WHERE headcount_profile.{account} = headcount_session.{user} ORDER BY headcount_profile.{id} LIMIT 1)",
            id = profile.id,
            profiles = profile.table,
        ),
        (SessionUser::Encoded(_), _) => format!(
            "CASE WHEN octet_length(headcount_session.{user}) <= {MAX_ENCODED} THEN headcount_session.{user}::text END"
        ),
    }
}

impl Runs<SampleSessions> for Postgres {
    async fn run(
        operation: &SampleSessions,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Vec<SampleRow>, sqlx::Error> {
        let session = &app.session;
        let is_ahead = |column: &Column| {
            let now = moment(column, "$1::timestamptz");
            format!("headcount_session.{column} > {now}")
        };
        let sql = format!(
            "SELECT headcount_session.{session_id}::text AS stored, {user_text} AS user_text,
                    headcount_session.{user} IS NULL AS no_user
             FROM {table} AS headcount_session WHERE $1::timestamptz IS NOT NULL AND {valid} LIMIT {SAMPLE}",
            session_id = session.session_id,
            user_text = user_text(app),
            user = session.user.column(),
            table = session.table,
            valid = session.valid("headcount_session", is_ahead),
        );
        query_as(AssertSqlSafe(sql))
            .bind(operation.now)
            .fetch_all(connection)
            .await
    }
}

impl Runs<FindProfiles<'_>> for Postgres {
    async fn run(
        operation: &FindProfiles<'_>,
        _: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<HashMap<AccountId, UserId>, sqlx::Error> {
        let (profile, account) = (operation.profile, operation.account);
        let sql = format!(
            "SELECT DISTINCT ON ({account}) {account}::text AS account, {id}::text AS id FROM {profiles} AS profile
             WHERE {account} = ANY ($1::text[]::{key}[]) ORDER BY {account}, profile.{id}",
            id = profile.id,
            profiles = profile.table,
            key = account.type_name,
        );
        let rows: Vec<AccountProfile> = query_as(AssertSqlSafe(sql))
            .bind(&operation.accounts)
            .fetch_all(connection)
            .await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|row| (AccountId::new(row.account), UserId::new(row.id)))
            .collect())
    }
}

impl Runs<FindCommunity<'_>> for Postgres {
    async fn run(
        operation: &FindCommunity<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<CommunityId>, sqlx::Error> {
        let CommunityCriterion {
            table,
            id,
            column,
            value,
        } = match operation.criterion(app) {
            Ok(criterion) => criterion,
            Err(known) => return Ok(known),
        };
        let parameter = match operation {
            FindCommunity::BySlug(_) => "$1".to_owned(),
            FindCommunity::ByKey(_) | FindCommunity::Through(..) => {
                format!("$1::text::{}", column.type_name)
            }
        };
        let sql = format!("SELECT {id}::text FROM {table} WHERE {column} = {parameter} LIMIT 1");
        // A row may belong to no community.
        let id: Option<Option<String>> = query_scalar(AssertSqlSafe(sql))
            .bind(&*value)
            .fetch_optional(connection)
            .await?;
        Ok(id.flatten().map(CommunityId::new))
    }
}

impl Runs<FindSlug<'_>> for Postgres {
    async fn run(
        operation: &FindSlug<'_>,
        app: &AppSchema,
        connection: &mut PgConnection,
    ) -> Result<Option<String>, sqlx::Error> {
        let Some((community, slug)) = operation.columns(app) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT {slug}::text FROM {table} WHERE {id} = $1::text::{id_type} LIMIT 1",
            table = community.table,
            id = community.id,
            id_type = community.id.type_name,
        );
        let slug: Option<Option<String>> = query_scalar(AssertSqlSafe(sql))
            .bind(operation.0.as_str())
            .fetch_optional(connection)
            .await?;
        Ok(slug.flatten())
    }
}
