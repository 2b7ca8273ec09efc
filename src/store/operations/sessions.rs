//! The operations on sessions: lookups by token, the users of accounts, and a look at some live rows.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::{Backend, Runs, StoreOperation};
use crate::config;
use crate::from_row::from_row;
use crate::ids::{AccountId, SessionToken, UserId};
use crate::store::SessionFound;
use crate::store::schema::{AppSchema, Column, ProfileTable, SessionTable};
use crate::store::session_remarks::{self, SampleRow};
use crate::store::session_rows::{Candidates, SessionRow};

/// The sessions of tokens, valid or not.
pub(in crate::store) struct FindSessions<'a> {
    pub tokens: &'a [&'a SessionToken],
}

impl StoreOperation for FindSessions<'_> {
    /// Each with its token's index among those asked for.
    type Output = Vec<(usize, Result<SessionFound, sqlx::Error>)>;
    const WHAT: &'static str = "a lookup of sessions";
}

impl<B: Backend> Runs<FindSessions<'_>> for B {
    async fn run(
        operation: &FindSessions<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Vec<(usize, Result<SessionFound, sqlx::Error>)>, sqlx::Error> {
        let wanted = Candidates::new(operation.tokens, app.session.token_hash);
        let read = ReadSessions {
            wanted: &wanted,
            by: SessionKey::Token,
        };
        let rows = B::run(&read, app, connection).await?;
        let accounts: Vec<_> = rows
            .iter()
            .filter_map(|(_, row)| row.account())
            .cloned()
            .collect();
        let users = B::run(&FindUsers { accounts: &accounts }, app, connection).await?;
        Ok(rows
            .into_iter()
            .map(|(place, row)| (place, row.session(operation.tokens[place], &app.session, &users)))
            .collect())
    }
}

/// The rows of tokens; a step of [`FindSessions`] and [`FindJwtSessions`](crate::store::jwt_sessions::FindJwtSessions).
pub(in crate::store) struct ReadSessions<'a> {
    pub wanted: &'a Candidates,
    pub by: SessionKey,
}

/// What rows of the session table are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum SessionKey {
    /// The token, or its hash.
    Token,
    /// The primary key, in canonical form.
    Id,
}

impl SessionKey {
    /// Its column.
    pub(in crate::store) fn column(self, session: &SessionTable) -> &Column {
        match self {
            Self::Token => &session.session_id,
            Self::Id => session.key(),
        }
    }
}

impl StoreOperation for ReadSessions<'_> {
    /// Each with its token's index; of a token one row at most.
    type Output = Vec<(usize, SessionRow)>;
    const WHAT: &'static str = "a lookup of sessions";
}

/// What some live rows of the session table look like, a sentence each.
pub(in crate::store) struct LookAtSessions<'a> {
    pub session: &'a config::Session,
    pub now: DateTime<Utc>,
}

impl StoreOperation for LookAtSessions<'_> {
    type Output = Vec<String>;
}

impl<B: Backend> Runs<LookAtSessions<'_>> for B {
    async fn run(
        operation: &LookAtSessions<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<Vec<String>, sqlx::Error> {
        let now = operation.now;
        let rows = B::run(&SampleSessions { now }, app, connection).await?;
        let accounts: Vec<_> = rows.iter().filter_map(|row| row.account(&app.session)).collect();
        let users = B::run(&FindUsers { accounts: &accounts }, app, connection).await?;
        Ok(session_remarks::of_rows(&rows, &users, app, operation.session))
    }
}

/// Some live rows; a step of [`LookAtSessions`].
pub(in crate::store) struct SampleSessions {
    pub now: DateTime<Utc>,
}

impl StoreOperation for SampleSessions {
    type Output = Vec<SampleRow>;
}

/// The users of accounts.
pub(in crate::store) struct FindUsers<'a> {
    pub accounts: &'a [AccountId],
}

impl StoreOperation for FindUsers<'_> {
    type Output = HashMap<AccountId, UserId>;
}

impl<B: Backend> Runs<FindUsers<'_>> for B {
    async fn run(
        operation: &FindUsers<'_>,
        app: &AppSchema,
        connection: &mut B::Connection,
    ) -> Result<HashMap<AccountId, UserId>, sqlx::Error> {
        let keys = operation
            .accounts
            .iter()
            .filter(|account| app.referred().is_key(account.as_str()));
        let Some((profile, account)) = app.accounts() else {
            let own = |account: &AccountId| (account.clone(), UserId::new(account.as_str()));
            return Ok(keys.map(own).collect());
        };
        let accounts: Vec<&str> = keys.map(AccountId::as_str).collect();
        if accounts.is_empty() {
            return Ok(HashMap::new());
        }
        let find = FindProfiles {
            profile,
            account,
            accounts,
        };
        B::run(&find, app, connection).await
    }
}

/// An account, and the key of its profile, as text.
pub(in crate::store) struct AccountProfile {
    pub account: String,
    pub id: String,
}

from_row!(PgRow, SqliteRow => AccountProfile { account, id });

/// The profiles of accounts; a step of [`FindUsers`].
pub(in crate::store) struct FindProfiles<'a> {
    pub profile: &'a ProfileTable,
    pub account: &'a Column,
    /// Keys of that column.
    pub accounts: Vec<&'a str>,
}

impl StoreOperation for FindProfiles<'_> {
    /// Of several profiles of one account, the one with the least key.
    type Output = HashMap<AccountId, UserId>;
}
