//! The app's profiles: their own columns, and those of tables beside them. Also the SQL that reads a value, which both
//! databases share.
//!
//! A value of another table is read by a subquery that has one row whatever the other table holds, so that a user never
//! appears twice: of several rows the least text counts, and one hidden row hides.

use super::{Column, TableName};

/// User profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::ProfileColumns")]
pub struct ProfileTable {
    pub table: TableName,
    pub id: Column,
    /// Present if sessions name the account instead of the profile.
    pub account: Option<Column>,
    /// Present if JWTs name the account, and sessions do not.
    pub jwt_account: Option<Column>,
    /// `None` where names are not shown, or the app has none.
    pub username: Option<ProfileValue>,
    pub avatar: Option<ProfileValue>,
    /// Present if it is updated.
    pub last_active: Option<Column>,
    /// Present if members may be hidden.
    pub is_hidden: Option<ProfileValue>,
    /// Present if accounts may be disabled.
    pub is_active: Option<ProfileValue>,
}

/// What a profile may say of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Mark {
    /// The app shows the user to nobody.
    Hidden,
    /// The account is not disabled. Of several rows of another table, one that says so is enough; without any it is not.
    Active,
}

/// A value of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileValue {
    /// Where it is.
    pub column: Column,
    /// The table of `column`, if that is not the profile's.
    pub join: Option<Join>,
    /// For a flag: it says the opposite.
    pub is_inverted: bool,
}

/// How the row of another table is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The other table.
    pub table: TableName,
    /// Its key.
    pub key: Column,
    /// The profile's column that holds that key.
    pub of: Column,
}

impl ProfileValue {
    /// SQL for the value of the profile `profile`, an alias; `form` makes text of the column.
    pub(in crate::store) fn text(&self, profile: &str, form: impl Fn(String) -> String) -> String {
        let column = &self.column;
        match &self.join {
            None => form(format!("{profile}.{column}")),
            Some(join) => format!(
                "(SELECT min({value}) {row})",
                value = form(format!("headcount_joined.{column}")),
                row = join.row(profile)
            ),
        }
    }

    /// SQL for whether the flag says so of the profile `profile`, an alias: true or false, never null. What is null, or has
    /// no row, says nothing.
    pub(in crate::store) fn is_set(&self, profile: &str) -> String {
        let column = &self.column;
        let says = if self.is_inverted { "FALSE" } else { "TRUE" };
        match &self.join {
            None => format!("({profile}.{column} IS {says})"),
            Some(join) => format!(
                "EXISTS (SELECT 1 {row} AND headcount_joined.{column} IS {says})",
                row = join.row(profile)
            ),
        }
    }
}

impl Join {
    /// The rows of the other table.
    fn row(&self, profile: &str) -> String {
        let Self { table, key, of } = self;
        format!("FROM {table} AS headcount_joined WHERE headcount_joined.{key} = {profile}.{of}")
    }
}

impl ProfileTable {
    /// The column that sessions refer to: the account's, or the key.
    pub(in crate::store) fn referred(&self) -> &Column {
        self.account.as_ref().unwrap_or(&self.id)
    }

    /// SQL for whether the profile `profile`, an alias, is marked so; `None` where none is.
    pub(in crate::store) fn marked(&self, mark: Mark, profile: &str) -> Option<String> {
        match mark {
            Mark::Hidden => Some(self.is_hidden.as_ref()?.is_set(profile)),
            Mark::Active => Some(self.is_active.as_ref()?.is_set(profile)),
        }
    }

    /// SQL that leaves out those of the profiles `profile`, an alias, whom no list shows: the hidden, and those of disabled
    /// accounts. Begins with AND where anybody may be.
    pub(in crate::store) fn only_shown(&self, profile: &str) -> String {
        let hidden = self.marked(Mark::Hidden, profile);
        let active = self.marked(Mark::Active, profile);
        let hidden = hidden.map(|hidden| format!(" AND NOT ({hidden})"));
        let active = active.map(|active| format!(" AND ({active})"));
        hidden.into_iter().chain(active).collect()
    }
}
