//! Lookups on SQLite for step 3 (identify): sessions by token, profiles of accounts, a community by slug or id.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};

use super::moments::{lately, micros};
use super::values::{key, read_key, read_moment};
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
    expires_at: Option<String>,
    is_active: bool,
    is_ended: bool,
    has_end: bool,
    ended_at: Option<String>,
}

from_row!(SqliteRow => IdentifiedRow { place, id, stored, user_text, no_user, expires_at, is_active, is_ended, has_end, ended_at });

impl Runs<ReadSessions<'_>> for Sqlite {
    async fn run(
        operation: &ReadSessions<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<(usize, SessionRow)>, sqlx::Error> {
        let texts = operation
            .wanted
            .texts()
            .into_iter()
            .map(|text| match operation.by {
                SessionKey::Token => Ok(text.to_owned()),
                SessionKey::Id => key(text, operation.by.column(&app.session)),
            });
        let texts = texts.collect::<Result<Vec<String>, sqlx::Error>>()?;
        let rows: Vec<IdentifiedRow> =
            sqlx::query_as(AssertSqlSafe(sessions_sql(app, operation.by, Utc::now())))
                .bind(sqlx::types::Json(texts))
                .fetch_all(connection)
                .await?;
        let read = |row: IdentifiedRow| (row.place, row.read(app));
        Ok(operation.wanted.by_token(rows.into_iter().map(read)))
    }
}

/// A null flag counts as the value that makes the session invalid.
fn sessions_sql(app: &AppSchema, by: SessionKey, now: DateTime<Utc>) -> String {
    let session = &app.session;
    let text = |column: &Column| format!("CAST(s.{column} AS TEXT)");
    let or_null = |sql: Option<String>| sql.unwrap_or_else(|| "NULL".to_owned());
    let user = session.user.column();
    let user_text = user_text(app);
    let flag = |column: &Option<Column>, null: u8, without: u8| match column {
        Some(column) => format!("coalesce(s.{column}, {null})"),
        None => without.to_string(),
    };
    let has_end = session.ended_at.as_ref();
    let has_end = has_end.map(|column| format!("s.{column} IS NOT NULL"));
    let stored = session.id.is_none().then(|| text(&session.session_id));
    format!(
        "SELECT headcount_place AS place, {id} AS id, {stored} AS stored, {user_text} AS user_text,
                s.{user} IS NULL AS no_user, {expires_at} AS expires_at,
                {is_active} AS is_active, {is_ended} AS is_ended,
                {has_end} AS has_end, {ended_at} AS ended_at
         FROM (SELECT key AS headcount_place, value AS headcount_token FROM json_each(?1)) AS asked
         JOIN {table} AS s ON s.{key} = headcount_token {order}",
        id = or_null(session.id.as_ref().map(text)),
        stored = or_null(stored),
        expires_at = or_null(session.expires_at.as_ref().map(text)),
        is_active = flag(&session.is_active, 0, 1),
        is_ended = flag(&session.is_ended, 1, 0),
        has_end = has_end.unwrap_or_else(|| "0".into()),
        ended_at = or_null(session.ended_at.as_ref().map(text)),
        table = session.table,
        key = by.column(session),
        order = session.order("s", |column| {
            let (from, to) = lately(now);
            let at = micros(&format!("s.{column}"), column.zone, from, to);
            format!("{at} > {}", now.timestamp_micros())
        }),
    )
}

impl IdentifiedRow {
    fn read(self, app: &AppSchema) -> SessionRow {
        let names = &app.session;
        let mut fault = None;
        let id = self.id.zip(names.id.as_ref());
        let id = id.and_then(|(id, column)| kept(read_key(id, column), &mut fault));
        // What a column holds is read as the key that it refers to.
        let user_text = match (&names.user, app.accounts()) {
            (SessionUser::Column(column), None) => {
                let text = self.user_text;
                text.and_then(|text| kept(read_key(text, column), &mut fault))
            }
            (SessionUser::Column(_), Some((profile, _))) => {
                let text = self.user_text;
                text.and_then(|text| kept(read_key(text, &profile.id), &mut fault))
            }
            (SessionUser::Encoded(_), _) => self.user_text,
        };
        let expires_at = self.expires_at.zip(names.expires_at.as_ref());
        let expires_at = expires_at.and_then(|(text, column)| kept(read_moment(&text, column), &mut fault));
        // Text that is no moment says no more than null: ended at an unknown time.
        let ended_at = self.ended_at.zip(names.ended_at.as_ref());
        let ended_at = ended_at.and_then(|(text, column)| read_moment(&text, column).ok());
        let user = match fault {
            // The fault is told, whoever the user is.
            Some(_) => RowUser::Profile(UserId::new("")),
            None => RowUser::new(user_text, self.no_user, names),
        };
        SessionRow {
            id,
            stored: self.stored,
            user,
            expires_at,
            is_active: self.is_active,
            is_ended: self.is_ended,
            has_end: self.has_end,
            ended_at,
            fault,
        }
    }
}

/// A value that could be read; otherwise its error is left in `fault`.
fn kept<T>(read: Result<T, sqlx::Error>, fault: &mut Option<sqlx::Error>) -> Option<T> {
    read.map_err(|error| *fault = Some(error)).ok()
}

/// SQL for the user of a row: see [`RowUser::new`].
fn user_text(app: &AppSchema) -> String {
    let session = &app.session;
    let user = session.user.column();
    match (&session.user, app.accounts()) {
        (SessionUser::Column(_), None) => format!("CAST(s.{user} AS TEXT)"),
        (SessionUser::Column(_), Some((profile, account))) => format!(
            "(SELECT CAST(p.{id} AS TEXT) FROM {profiles} AS p WHERE p.{account} = s.{user} ORDER BY p.{id} LIMIT 1)",
            id = profile.id,
            profiles = profile.table,
        ),
        (SessionUser::Encoded(_), _) => format!(
            "CASE WHEN length(CAST(s.{user} AS BLOB)) <= {MAX_ENCODED} THEN CAST(s.{user} AS TEXT) END"
        ),
    }
}

impl Runs<SampleSessions> for Sqlite {
    async fn run(
        operation: &SampleSessions,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Vec<SampleRow>, sqlx::Error> {
        let session = &app.session;
        let (from, to) = lately(operation.now);
        let is_ahead = |column: &Column| {
            let at = micros(&format!("s.{column}"), column.zone, from, to);
            format!("{at} > ?1")
        };
        let sql = format!(
            "SELECT CAST(s.{session_id} AS TEXT) AS stored, {user_text} AS user_text, s.{user} IS NULL AS no_user
             FROM {table} AS s WHERE ?1 IS NOT NULL AND {valid} LIMIT {SAMPLE}",
            session_id = session.session_id,
            user_text = user_text(app),
            user = session.user.column(),
            table = session.table,
            valid = session.valid("s", is_ahead),
        );
        sqlx::query_as(AssertSqlSafe(sql))
            .bind(operation.now.timestamp_micros())
            .fetch_all(connection)
            .await
    }
}

impl Runs<FindProfiles<'_>> for Sqlite {
    async fn run(
        operation: &FindProfiles<'_>,
        _: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<HashMap<AccountId, UserId>, sqlx::Error> {
        let (profile, account) = (operation.profile, operation.account);
        let accounts = operation.accounts.iter().map(|text| key(text, account));
        let accounts = accounts.collect::<Result<Vec<_>, _>>()?;
        let sql = format!(
            "SELECT CAST({account} AS TEXT) AS account, CAST(min({id}) AS TEXT) AS id FROM {profiles}
             WHERE {account} IN (SELECT value FROM json_each(?1)) GROUP BY {account}",
            id = profile.id,
            profiles = profile.table,
        );
        let rows: Vec<AccountProfile> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(sqlx::types::Json(accounts))
            .fetch_all(connection)
            .await?;
        let read = |row: AccountProfile| {
            Ok((
                AccountId::new(read_key(row.account, account)?),
                UserId::new(read_key(row.id, &profile.id)?),
            ))
        };
        rows.into_iter().map(read).collect()
    }
}

impl Runs<FindCommunity<'_>> for Sqlite {
    async fn run(
        operation: &FindCommunity<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
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
        let value = match operation {
            FindCommunity::BySlug(_) => value.into_owned(),
            FindCommunity::ByKey(_) | FindCommunity::Through(..) => key(&value, column)?,
        };
        let sql = format!("SELECT CAST({id} AS TEXT) FROM {table} WHERE {column} = ?1 LIMIT 1");
        // A row may belong to no community.
        let found: Option<Option<String>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(value)
            .fetch_optional(connection)
            .await?;
        found
            .flatten()
            .map(|found| Ok(CommunityId::new(read_key(found, id)?)))
            .transpose()
    }
}

impl Runs<FindSlug<'_>> for Sqlite {
    async fn run(
        operation: &FindSlug<'_>,
        app: &AppSchema,
        connection: &mut SqliteConnection,
    ) -> Result<Option<String>, sqlx::Error> {
        let Some((community, slug)) = operation.columns(app) else {
            return Ok(None);
        };
        let sql = format!(
            "SELECT CAST({slug} AS TEXT) FROM {table} WHERE {id} = ?1 LIMIT 1",
            table = community.table,
            id = community.id,
        );
        let slug: Option<Option<String>> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(key(operation.0.as_str(), &community.id)?)
            .fetch_optional(connection)
            .await?;
        Ok(slug.flatten())
    }
}
