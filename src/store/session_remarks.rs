//! What `headcount check` says of sessions: what is not known for want of a column, and what some live rows look like that
//! nobody would be recognised by. Pure. No sentence contains a value of a row.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::django;
use super::schema::{AppSchema, SessionTable, SessionUser};
use super::session_rows::RowUser;
use crate::browser_session::Unusable;
use crate::config::{self, Config, SessionKind, TokenHash};
use crate::from_row::from_row;
use crate::ids::{AccountId, UserId};

/// Most live rows that are looked at.
pub(super) const SAMPLE: usize = 20;

/// A live row.
pub(super) struct SampleRow {
    /// The token's column.
    pub stored: Option<String>,
    /// As for [`RowUser::new`].
    pub user_text: Option<String>,
    pub no_user: bool,
}

from_row!(PgRow, SqliteRow => SampleRow { stored, user_text, no_user });

impl SampleRow {
    /// The account whose user must be looked up.
    pub(super) fn account(&self, table: &SessionTable) -> Option<AccountId> {
        match RowUser::new(self.user_text.clone(), self.no_user, table) {
            RowUser::Account(account) => Some(account),
            _ => None,
        }
    }
}

/// What is left out for want of a column.
pub(super) fn without_columns(config: &Config) -> Vec<String> {
    let facts = config.schema.session_facts(config.session.kind);
    let columns = config.schema.with_sessions(config.session.kind).session.columns;
    let place = match config.session.kind {
        SessionKind::Table => "without a column for them in [schema.session.columns]",
        SessionKind::Django => "Django's sessions do not have them",
    };
    let mut notes = Vec::new();
    let mut left_out = Vec::new();
    if !facts.started_at {
        left_out.push("started_at");
    }
    if !facts.pages_visited {
        left_out.push("pages_visited");
    }
    if !left_out.is_empty() {
        notes.push(format!(
            "{} left out of the visitor list: {place}",
            enumerated(&left_out)
        ));
    }
    if !facts.durations {
        notes.push(format!(
            "the statistics have no lengths of sessions, because started_at and ended_at are needed for them: {place}"
        ));
    }
    if config.record.pages_visited && (columns.pages_visited.is_empty() || columns.id.is_empty()) {
        let why = match (config.session.kind, columns.pages_visited.is_empty()) {
            (SessionKind::Django, _) => "Django's sessions have no such counter",
            (_, true) => "schema.session.columns.pages_visited is \"\"",
            (_, false) => "a row is found by its key, and schema.session.columns.id is \"\"",
        };
        notes.push(format!(
            "record.pages_visited has no effect: {why}; page views are not added to a session"
        ));
    }
    if config.session.kind == SessionKind::Table && columns.expires_at.is_empty() {
        notes.push(
            "no session expires, as far as Headcount knows: schema.session.columns.expires_at is \"\""
                .to_owned(),
        );
    }
    notes
}

fn enumerated(names: &[&str]) -> String {
    match names {
        [only] => format!("{only} is"),
        names => format!("{} are", names.join(" and ")),
    }
}

/// What live rows look like. `users`: of those accounts that have one.
pub(super) fn of_rows(
    rows: &[SampleRow],
    users: &HashMap<AccountId, UserId>,
    app: &AppSchema,
    session: &config::Session,
) -> Vec<String> {
    let table = &app.session;
    if rows.is_empty() {
        // A table of the app's own may well be empty; Django's is, where sessions are kept elsewhere.
        return match session.kind {
            SessionKind::Table => Vec::new(),
            SessionKind::Django => vec![no_django_rows(table)],
        };
    }
    let mut notes = Vec::new();
    notes.extend(of_tokens(rows, table, session));
    notes.extend(of_users(rows, users, app));
    notes
}

fn no_django_rows(table: &SessionTable) -> String {
    format!(
        "table {} has no live session: nobody has been there lately, or Django keeps sessions elsewhere; those of the \
         SESSION_ENGINE backends cache, file and signed_cookies cannot be read, set it to \
         \"django.contrib.sessions.backends.cached_db\" or \"…db\"",
        table.table
    )
}

/// Whether the values of the token's column have the form that is looked up.
fn of_tokens(rows: &[SampleRow], table: &SessionTable, session: &config::Session) -> Option<String> {
    let values: Vec<&str> = rows.iter().filter_map(|row| row.stored.as_deref()).collect();
    let of = |is: fn(&str) -> bool| values.iter().filter(|value| is(value)).count();
    let (all, column) = (
        values.len(),
        format!("column {} of table {}", table.session_id, table.table),
    );
    let cure = "set session.token_hash to what the column holds of the cookie's value: \"none\" (the value itself), \
                \"sha256\" (hexadecimal digits) or \"sha256-base64\"";
    match session.token_hash {
        TokenHash::None => {
            let is_looked_up = |value: &&&str| {
                (session.token_min_length..=session.token_max_length).contains(&value.chars().count())
            };
            let fitting = values.iter().filter(is_looked_up).count();
            if fitting == 0 && all > 0 {
                return Some(format!(
                    "none of {all} values in {column} is from session.token_min_length ({}) to session.token_max_length ({}) \
                     characters long, so that no cookie's value is looked up: change these, or the column",
                    session.token_min_length, session.token_max_length
                ));
            }
            let hashes = of(is_sha256);
            (hashes == all && all > 0).then(|| {
                format!(
                    "all of {all} values in {column} have the form of a SHA-256: if the cookie's value is another, set \
                     session.token_hash = \"sha256\""
                )
            })
        }
        TokenHash::Sha256 => {
            let others = all - of(is_sha256);
            (others > 0).then(|| {
                format!("{others} of {all} values in {column} are no SHA-256 in hexadecimal digits: {cure}")
            })
        }
        TokenHash::Sha256Base64 => {
            let others = all - of(is_sha256_base64);
            (others > 0)
                .then(|| format!("{others} of {all} values in {column} are no SHA-256 in base64: {cure}"))
        }
    }
}

fn is_sha256(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_sha256_base64(value: &str) -> bool {
    let value = value.strip_suffix('=').unwrap_or(value);
    value.len() == 43
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte))
}

/// Whether users are found.
fn of_users(rows: &[SampleRow], users: &HashMap<AccountId, UserId>, app: &AppSchema) -> Vec<String> {
    let table = &app.session;
    let (name, column) = (&table.table, table.user.column());
    let (mut unreadable, mut reason) = (0, None);
    let (mut signed_in, mut without_profile, mut of_other_type) = (0, 0, 0);
    for row in rows {
        match RowUser::new(row.user_text.clone(), row.no_user, table) {
            // A row does not tell whether its account is disabled.
            RowUser::Nobody(Unusable::Anonymous | Unusable::Disabled) => {}
            RowUser::Nobody(Unusable::NoProfile) => {
                signed_in += 1;
                without_profile += 1;
            }
            RowUser::Nobody(Unusable::Unreadable) => {
                unreadable += 1;
                let data = row.user_text.as_deref();
                let found = data.map_or(Some(django::Undecodable::TooLong), |data| {
                    django::account(data).err()
                });
                reason = reason.or(found);
            }
            RowUser::Profile(_) => signed_in += 1,
            RowUser::Account(account) => {
                signed_in += 1;
                if !app.referred().is_key(account.as_str()) {
                    of_other_type += 1;
                } else if !users.contains_key(&account) {
                    without_profile += 1;
                }
            }
        }
    }
    let mut notes = Vec::new();
    if let Some(reason) = reason {
        notes.push(format!(
            "{unreadable} of {} live sessions cannot be decoded, so that these visitors are nobody: column {column} of table \
             {name} {reason}",
            rows.len()
        ));
    }
    let referred = app.referred();
    let named = app.profile.as_ref();
    if let Some(profile) = named
        && of_other_type > 0
    {
        notes.push(format!(
            "{of_other_type} of {signed_in} signed-in users of live sessions have a key that column {referred} ({}) of table \
             {} cannot hold, so that they are nobody: set schema.profile.columns.account to the column that refers to \
             the account (Django: user_id, which refers to auth_user)",
            referred.type_name, profile.table
        ));
    }
    if let Some(profile) = named
        && without_profile > 0
    {
        notes.push(format!(
            "{without_profile} of {signed_in} signed-in users of live sessions have no row in table {}, so that they are \
             nobody: profiles are found by column {referred}, schema.profile.columns.{}",
            profile.table,
            if profile.account.is_some() { "account" } else { "id" }
        ));
    }
    if matches!(table.user, SessionUser::Column(_)) && signed_in == 0 {
        notes.push(format!(
            "none of {} live sessions in table {name} has a user in column {column}: is it the right column?",
            rows.len()
        ));
    }
    notes
}
