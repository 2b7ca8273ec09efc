//! Rows of the session table: which values a token may have there, and how a row becomes a session. For both databases
//! alike. Pure.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};

use super::schema::{SessionTable, SessionUser};
use super::{SessionFound, django};
use crate::browser_session::{BrowserSession, Unusable, Visibility};
use crate::config::TokenHash;
use crate::ids::{AccountId, BrowserSessionId, SessionToken, UserId, hexadecimal};

/// The values that tokens may have in the session table: the token, or its hash in each form that apps write.
pub(super) struct Candidates {
    /// The values, and the index of each one's token.
    values: Vec<(String, usize)>,
}

impl Candidates {
    pub(super) fn new(tokens: &[&SessionToken], hash: TokenHash) -> Self {
        let of = |(place, token): (usize, &&SessionToken)| {
            stored(token, hash).into_iter().map(move |value| (value, place))
        };
        Self {
            values: tokens.iter().enumerate().flat_map(of).collect(),
        }
    }

    /// Primary keys of sessions, each with the index of its token.
    pub(super) fn of_keys(values: Vec<(String, usize)>) -> Self {
        Self { values }
    }

    pub(super) fn texts(&self) -> Vec<&str> {
        self.values.iter().map(|(value, _)| &**value).collect()
    }

    /// The rows by their tokens, one each; each row is given with its value's index.
    pub(super) fn by_token<R>(&self, rows: impl IntoIterator<Item = (i64, R)>) -> Vec<(usize, R)> {
        let (mut found, mut places) = (Vec::new(), HashSet::new());
        for (index, row) in rows {
            let value = usize::try_from(index)
                .ok()
                .and_then(|index| self.values.get(index));
            let Some((_, place)) = value else { continue };
            if places.insert(*place) {
                found.push((*place, row));
            }
        }
        found
    }
}

fn stored(token: &SessionToken, hash: TokenHash) -> Vec<String> {
    match hash {
        TokenHash::None => vec![token.expose_secret().to_owned()],
        TokenHash::Sha256 => {
            let digits = hexadecimal(&token.sha256());
            vec![digits.to_uppercase(), digits]
        }
        TokenHash::Sha256Base64 => {
            let hash = token.sha256();
            let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
            let mut values = Vec::from(engines.map(|engine| engine.encode(hash)));
            values.sort_unstable();
            values.dedup();
            values
        }
    }
}

/// A row as read, before its user is known.
pub(super) struct SessionRow {
    /// The key, where the table has one.
    pub id: Option<String>,
    /// The value of the token's column, where that is the key. It may be a token: it is not kept, only its hash.
    pub stored: Option<String>,
    pub user: RowUser,
    /// `None`: null.
    pub expires_at: Option<DateTime<Utc>>,
    pub is_active: bool,
    pub is_ended: bool,
    /// Whether an end is noted.
    pub has_end: bool,
    /// When; `None` also where that is no moment.
    pub ended_at: Option<DateTime<Utc>>,
    /// A value that cannot be read.
    pub fault: Option<sqlx::Error>,
}

/// The user of a row.
#[derive(Debug)]
pub(super) enum RowUser {
    /// The key of the profile.
    Profile(UserId),
    /// The key of the account, whose profile is looked up.
    Account(AccountId),
    /// None, for a reason.
    Nobody(Unusable),
}

impl RowUser {
    /// `text` is what the query has read as the user, and `is_null` whether the column is.
    pub(super) fn new(text: Option<String>, is_null: bool, table: &SessionTable) -> Self {
        match (&table.user, text) {
            (_, _) if is_null => Self::Nobody(Unusable::Anonymous),
            (SessionUser::Column(_), Some(user)) => Self::Profile(UserId::new(user)),
            (SessionUser::Column(_), None) => Self::Nobody(Unusable::NoProfile),
            // Too long.
            (SessionUser::Encoded(_), None) => Self::Nobody(Unusable::Unreadable),
            (SessionUser::Encoded(_), Some(data)) => match django::account(&data) {
                Ok(Some(account)) => Self::Account(account),
                Ok(None) => Self::Nobody(Unusable::Anonymous),
                Err(_) => Self::Nobody(Unusable::Unreadable),
            },
        }
    }
}

impl SessionRow {
    /// The account whose user must be looked up.
    pub(super) fn account(&self) -> Option<&AccountId> {
        match &self.user {
            RowUser::Account(account) => Some(account),
            _ => None,
        }
    }

    /// The row's session.
    pub(super) fn session(
        self,
        token: &SessionToken,
        table: &SessionTable,
        users: &HashMap<AccountId, UserId>,
    ) -> Result<SessionFound, sqlx::Error> {
        let user_id = match self.user {
            RowUser::Profile(user) => user,
            RowUser::Account(account) => match users.get(&account) {
                Some(user) => user.clone(),
                None => return Ok(Err(Unusable::NoProfile)),
            },
            RowUser::Nobody(why) => return Ok(Err(why)),
        };
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // A session whose end cannot be compared is invalid.
        let mut expires_at = match (&table.expires_at, self.expires_at) {
            (None, _) => BrowserSession::NEVER,
            (Some(_), Some(at)) => at,
            (Some(_), None) => return Ok(Err(Unusable::Unreadable)),
        };
        let mut is_ended = self.is_ended;
        if table.deciding_end().is_some() && self.has_end {
            match self.ended_at {
                Some(end) => expires_at = expires_at.min(end),
                None => is_ended = true,
            }
        }
        Ok(Ok(BrowserSession {
            // Where the database takes several spellings for one token, the row's own.
            id: Some(match (self.id, self.stored) {
                (Some(id), _) => BrowserSessionId::new(id),
                (None, Some(stored)) => BrowserSessionId::of_token(&SessionToken::new(stored)),
                (None, None) => BrowserSessionId::of_token(token),
            }),
            user_id,
            expires_at,
            is_active: self.is_active,
            is_ended,
            ended_at: self.ended_at,
            visibility: Visibility::Shown,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf abcdefghijklmnop | sha256sum`, and the same bytes by `base64`.
    const HEX: &str = "f39dac6cbaba535e2c207cd0cd8f154974223c848f727f98b3564cea569b41cf";
    const BASE64: &str = "852sbLq6U14sIHzQzY8VSXQiPISPcn+Ys1ZM6labQc8=";

    #[test]
    fn i17_a_hash_is_looked_up_in_each_form_that_apps_write() {
        let token = SessionToken::new("abcdefghijklmnop");
        let of = |hash| stored(&token, hash);
        assert_eq!(of(TokenHash::None), ["abcdefghijklmnop"]);
        assert_eq!(of(TokenHash::Sha256), [HEX.to_uppercase(), HEX.to_owned()]);
        let base64 = of(TokenHash::Sha256Base64);
        assert_eq!(base64.len(), 4);
        let unpadded = BASE64.trim_end_matches('=');
        for form in [
            BASE64,
            unpadded,
            &BASE64.replace('+', "-"),
            &unpadded.replace('+', "-"),
        ] {
            assert!(base64.iter().any(|value| value == form), "{form}");
        }
    }

    #[test]
    fn i17_of_a_token_that_has_several_rows_one_counts() {
        let (one, other) = (SessionToken::new("one"), SessionToken::new("other"));
        let candidates = Candidates::new(&[&one, &other], TokenHash::Sha256);
        assert_eq!(candidates.texts().len(), 4);
        let rows = [(3, "other's"), (1, "one's"), (0, "one's other"), (9, "nobody's")];
        assert_eq!(candidates.by_token(rows), [(1, "other's"), (0, "one's")]);
    }
}
