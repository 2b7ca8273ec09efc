//! The sessions of JWTs: by their primary key, and only where they are of the user that the JWT names too; or the user
//! alone, where it names no session. For both databases alike.

use std::collections::HashMap;

use sqlx::Database;

use super::SessionFound;
use super::operations::{Backend, FindProfiles, FindUsers, ReadSessions, Runs, SessionKey, StoreOperation};
use super::schema::AppSchema;
use super::session_rows::Candidates;
use crate::browser_session::{BrowserSession, Unusable};
use crate::ids::{AccountId, Claims, SessionToken, UserId};

/// The sessions of JWTs, valid or not. Tokens of cookies have none.
pub(super) struct FindJwtSessions<'a> {
    pub tokens: &'a [&'a SessionToken],
}

impl StoreOperation for FindJwtSessions<'_> {
    /// Each with its token's index among those asked for.
    type Output = Vec<(usize, Result<SessionFound, sqlx::Error>)>;
    const WHAT: &'static str = "a lookup of sessions";
}

impl<B: Backend> Runs<FindJwtSessions<'_>> for B {
    async fn run(
        operation: &FindJwtSessions<'_>,
        app: &AppSchema,
        connection: &mut <B as Database>::Connection,
    ) -> Result<Vec<(usize, Result<SessionFound, sqlx::Error>)>, sqlx::Error> {
        let tokens = operation.tokens;
        let users = users(tokens, app);
        let accounts: Vec<AccountId> = users.values().cloned().collect();
        let found = match app.jwt_accounts() {
            Some((profile, account)) if !accounts.is_empty() => {
                let find = FindProfiles {
                    profile,
                    account,
                    accounts: accounts.iter().map(AccountId::as_str).collect(),
                };
                B::run(&find, app, connection).await?
            }
            _ => B::run(&FindUsers { accounts: &accounts }, app, connection).await?,
        };
        let user = |place: usize| found.get(users.get(&place)?);

        let mut sessions = Vec::new();
        for (place, claims) in claims(tokens).filter(|(_, claims)| claims.session.is_none()) {
            let session = user(place).map(|user| BrowserSession::of_jwt(claims, user.clone()));
            sessions.push((place, Ok(session.ok_or(Unusable::NoProfile))));
        }
        let wanted = Candidates::of_keys(keys(tokens, app));
        if wanted.texts().is_empty() {
            return Ok(sessions);
        }
        let read = ReadSessions {
            wanted: &wanted,
            by: SessionKey::Id,
        };
        for (place, row) in B::run(&read, app, connection).await? {
            let session = row.session(tokens[place], &app.session, &HashMap::new());
            // Of another user: no more than a session that is not there.
            if session
                .as_ref()
                .is_ok_and(|found| is_of_another(found, user(place)))
            {
                continue;
            }
            sessions.push((place, session));
        }
        Ok(sessions)
    }
}

fn is_of_another(found: &SessionFound, user: Option<&UserId>) -> bool {
    found.as_ref().is_ok_and(|session| Some(&session.user_id) != user)
}

fn claims<'t>(tokens: &'t [&SessionToken]) -> impl Iterator<Item = (usize, &'t Claims)> {
    tokens
        .iter()
        .enumerate()
        .filter_map(|(place, token)| Some((place, token.claims()?)))
}

/// The accounts that the JWTs name, in canonical form. What is no key of the column's type names nobody.
fn users(tokens: &[&SessionToken], app: &AppSchema) -> HashMap<usize, AccountId> {
    let named = app
        .jwt_accounts()
        .map_or_else(|| app.referred(), |(_, account)| account);
    let key_type = named.key_type();
    claims(tokens)
        .filter_map(|(place, claims)| {
            Some((
                place,
                AccountId::from(&*key_type.canonical(claims.account.as_str())?),
            ))
        })
        .collect()
}

/// The same of their sessions.
fn keys(tokens: &[&SessionToken], app: &AppSchema) -> Vec<(String, usize)> {
    let Some(id) = &app.session.id else {
        return Vec::new();
    };
    claims(tokens)
        .filter_map(|(place, claims)| {
            let key = id.key_type().canonical(claims.session.as_ref()?.as_str())?;
            Some((key.into_owned(), place))
        })
        .collect()
}
