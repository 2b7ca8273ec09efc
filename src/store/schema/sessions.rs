//! The session table: its columns, of which the app may lack most, and what SQL asks of them. Pure.

use super::{Column, TableName};
use crate::config::TokenHash;

/// Browser sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::SessionColumns")]
pub struct SessionTable {
    pub table: TableName,
    /// No two rows have one token, or one key.
    pub has_unique_rows: bool,
    /// `None`: `session_id` is the key.
    pub id: Option<Column>,
    pub user: SessionUser,
    pub session_id: Column,
    /// What `session_id` holds.
    pub token_hash: TokenHash,
    pub pages_visited: Option<Column>,
    pub started_at: Option<Column>,
    pub ended_at: Option<Column>,
    pub expires_at: Option<Column>,
    pub is_active: Option<Column>,
    pub is_ended: Option<Column>,
}

/// Where a session's user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionUser {
    /// In a column: the profile's key, or its account where [`ProfileTable::account`](super::ProfileTable::account) is configured.
    Column(Column),
    /// In a column of Django's encoded data.
    Encoded(Column),
}

impl SessionUser {
    /// The column that the user is read from.
    pub fn column(&self) -> &Column {
        match self {
            Self::Column(column) | Self::Encoded(column) => column,
        }
    }
}

/// Where a session's page views are counted.
pub(in crate::store) struct PageCounter<'a> {
    pub id: &'a Column,
    pub pages_visited: &'a Column,
}

/// Columns that join a session to its profile and put a user's sessions in order.
pub(in crate::store) struct Latest<'a> {
    /// The session's column that refers to the profile.
    pub user: &'a Column,
    /// The profile's column that it refers to.
    pub profile: &'a Column,
    /// The latest session has the greatest value.
    pub order: &'a Column,
}

/// Columns with which the lengths of sessions are computed.
pub(in crate::store) struct DurationColumns<'a> {
    pub user: &'a Column,
    /// The profile's column that `user` refers to.
    pub profile: &'a Column,
    pub started_at: &'a Column,
    pub ended_at: &'a Column,
}

impl SessionTable {
    /// The column that tells rows apart.
    pub(in crate::store) fn key(&self) -> &Column {
        self.id.as_ref().unwrap_or(&self.session_id)
    }

    /// Where page views are counted, if they can be. Rows are found by their key: a row whose key is the token cannot be,
    /// because tokens are not kept with page views.
    pub(in crate::store) fn page_counter(&self) -> Option<PageCounter<'_>> {
        Some(PageCounter {
            id: self.id.as_ref()?,
            pages_visited: self.pages_visited.as_ref()?,
        })
    }

    /// How a user's latest session is found, if it can be.
    pub(in crate::store) fn latest<'a>(&'a self, referred: &'a Column) -> Option<Latest<'a>> {
        let shows_anything = self.started_at.is_some() || self.pages_visited.is_some();
        Some(Latest {
            user: self.user_column()?,
            profile: referred,
            order: self
                .started_at
                .as_ref()
                .or(self.expires_at.as_ref())
                .filter(|_| shows_anything)?,
        })
    }

    /// What the lengths of sessions are computed from, if they can be.
    pub(in crate::store) fn durations<'a>(&'a self, referred: &'a Column) -> Option<DurationColumns<'a>> {
        Some(DurationColumns {
            user: self.user_column()?,
            profile: referred,
            started_at: self.started_at.as_ref()?,
            ended_at: self.ended_at.as_ref()?,
        })
    }

    fn user_column(&self) -> Option<&Column> {
        match &self.user {
            SessionUser::Column(column) => Some(column),
            SessionUser::Encoded(_) => None,
        }
    }

    /// The end, where it alone says whether a session has ended: as long as it lies ahead, the session goes on.
    pub(in crate::store) fn deciding_end(&self) -> Option<&Column> {
        let has_flags = self.is_active.is_some() || self.is_ended.is_some();
        self.ended_at.as_ref().filter(|_| !has_flags)
    }

    /// SQL that puts the rows of one token in order, the one that counts first: a valid one, then one that started later, or
    /// expires later. Empty where there is one row at most. `is_ahead` as for [`SessionTable::valid`].
    pub(in crate::store) fn order(&self, row: &str, is_ahead: impl Fn(&Column) -> String) -> String {
        if self.has_unique_rows {
            return String::new();
        }
        let valid = self.valid(row, is_ahead);
        let columns = [&self.started_at, &self.expires_at, &self.id];
        let columns = columns.into_iter().flatten();
        let columns = columns.map(|column| format!(", {row}.{column} DESC NULLS LAST"));
        let columns = columns.collect::<Vec<_>>().concat();
        format!("ORDER BY CASE WHEN {valid} THEN 0 ELSE 1 END{columns}")
    }

    /// The flags of a row called `row`, as SQL that is true while the session is in use; empty without flags.
    pub(in crate::store) fn flags(&self, row: &str) -> Vec<String> {
        let active = self.is_active.iter().map(|column| format!("{row}.{column}"));
        let ended = self.is_ended.iter().map(|column| format!("NOT {row}.{column}"));
        active.chain(ended).collect()
    }

    /// SQL that is true for a row called `row` that is valid, as `BrowserSession::is_valid_at` has it. `is_ahead` gives
    /// the SQL for a moment that lies ahead.
    pub(in crate::store) fn valid(&self, row: &str, is_ahead: impl Fn(&Column) -> String) -> String {
        let mut conditions = self.flags(row);
        if let Some(end) = self.deciding_end() {
            conditions.push(format!("({row}.{end} IS NULL OR {})", is_ahead(end)));
        }
        conditions.extend(self.expires_at.as_ref().map(is_ahead));
        all(&conditions)
    }
}

/// A conjunction.
pub(in crate::store) fn all(conditions: &[String]) -> String {
    if conditions.is_empty() {
        "TRUE".to_owned()
    } else {
        conditions.join(" AND ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{Dialect, Kind};

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            ..Column::sample(Dialect::Postgres, Kind::Text)
        }
    }

    /// A table with these columns besides token and user.
    fn table(columns: &[&str]) -> SessionTable {
        let optional = |name: &str| columns.contains(&name).then(|| column(name));
        SessionTable {
            table: TableName {
                dialect: Dialect::Postgres,
                schema: None,
                name: "s".into(),
            },
            has_unique_rows: true,
            id: optional("id"),
            user: SessionUser::Column(column("user_id")),
            session_id: column("session_id"),
            token_hash: TokenHash::None,
            pages_visited: optional("pages_visited"),
            started_at: optional("started_at"),
            ended_at: optional("ended_at"),
            expires_at: optional("expires_at"),
            is_active: optional("is_active"),
            is_ended: optional("is_ended"),
        }
    }

    #[test]
    fn i16_only_the_columns_that_there_are_decide_whether_a_session_is_valid() {
        let valid = |columns: &[&str]| table(columns).valid("s", |column| format!("s.{column} > now()"));
        for (columns, expected) in [
            (&[][..], "TRUE"),
            (&["expires_at"], "s.\"expires_at\" > now()"),
            (&["is_active"], "s.\"is_active\""),
            (&["is_ended", "ended_at"], "NOT s.\"is_ended\""),
            (
                &["ended_at"],
                "(s.\"ended_at\" IS NULL OR s.\"ended_at\" > now())",
            ),
            (
                &["is_active", "is_ended", "ended_at", "expires_at"],
                "s.\"is_active\" AND NOT s.\"is_ended\" AND s.\"expires_at\" > now()",
            ),
        ] {
            assert_eq!(valid(columns), expected, "{columns:?}");
        }
    }

    #[test]
    fn i16_what_needs_a_column_that_is_not_there_is_not_done() {
        let referred = column("id");
        for (columns, counts, is_ordered, has_durations) in [
            (&[][..], false, false, false),
            (&["id", "pages_visited"], true, false, false),
            (&["pages_visited", "started_at"], false, true, false),
            (&["pages_visited", "expires_at"], false, true, false),
            (&["expires_at"], false, false, false),
            (&["started_at"], false, true, false),
            (&["started_at", "ended_at"], false, true, true),
        ] {
            let table = table(columns);
            assert_eq!(table.page_counter().is_some(), counts, "{columns:?}");
            assert_eq!(table.latest(&referred).is_some(), is_ordered, "{columns:?}");
            assert_eq!(table.durations(&referred).is_some(), has_durations, "{columns:?}");
        }
        assert_eq!(table(&[]).key().name, "session_id");
        assert_eq!(table(&["id"]).key().name, "id");
    }
}
