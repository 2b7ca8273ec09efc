//! Resolves the profile's columns, of which some may be in other tables.

use super::{Check, Column, Holds, LiveTable, Needs, Privilege, SchemaProblem};
use crate::config::{self, JoinedColumn, ProfileColumn};
use crate::store::schema::check::ColumnUnusable;
use crate::store::schema::right::Effect;
use crate::store::schema::{Join, ProfileTable, ProfileValue};

const SECTION: &str = "profile";

impl Check<'_> {
    pub(super) fn profile(
        &mut self,
        table: &LiveTable,
        names: &config::ProfileColumns,
        needs: Needs,
    ) -> Option<ProfileTable> {
        let id = self.column(table, SECTION, ("id", &names.id, Holds::Key));
        let account = self.optional(table, SECTION, ("account", &names.account, Holds::Key));
        let jwt_account = self.optional(table, SECTION, ("jwt_account", &names.jwt_account, Holds::Key));
        let mut value = |is_needed: bool, key, name: &ProfileColumn, holds| {
            if is_needed {
                self.value(table, key, name, holds)
            } else {
                Ok(None)
            }
        };
        let username = value(needs.identities, "username", &names.username, Holds::Text);
        let avatar = value(needs.identities, "avatar", &names.avatar, Holds::Text);
        let is_hidden = value(needs.hidden, "is_hidden", &names.is_hidden, Holds::Flag);
        let is_shown = value(needs.hidden, "is_shown", &names.is_shown, Holds::Flag);
        let is_active = value(needs.disabled, "is_active", &names.is_active, Holds::Flag);
        let last_active = if needs.last_active {
            self.optional(table, SECTION, ("last_active", &names.last_active, Holds::Moment))
        } else {
            Ok(None)
        };
        let mut profile = ProfileTable {
            table: table.name.clone(),
            id: id?,
            account: account.ok()?,
            jwt_account: jwt_account.ok()?,
            username: username.ok()?,
            avatar: avatar.ok()?,
            last_active: last_active.ok()?,
            is_hidden: is_hidden.ok()?.or(is_shown.ok()?.map(|flag| ProfileValue {
                is_inverted: true,
                ..flag
            })),
            is_active: is_active.ok()?,
        };
        let mut read = vec![&profile.id];
        for value in [
            &profile.username,
            &profile.avatar,
            &profile.is_hidden,
            &profile.is_active,
        ]
        .into_iter()
        .flatten()
        {
            read.push(value.join.as_ref().map_or(&value.column, |join| &join.of));
        }
        read.extend(&profile.account);
        read.extend(&profile.jwt_account);
        read.extend(&profile.last_active);
        self.may(table, Privilege::Select, &read);
        if let Some(last_active) = &profile.last_active
            && !self.may(table, Privilege::Update, &[last_active])
        {
            profile.last_active = None;
        }
        Some(profile)
    }

    /// One value, in the profile or beside it; `Ok(None)` where the app has none.
    fn value(
        &mut self,
        table: &LiveTable,
        key: &'static str,
        name: &ProfileColumn,
        holds: Holds,
    ) -> Result<Option<ProfileValue>, ColumnUnusable> {
        match name {
            ProfileColumn::Own(name) => {
                let column = self.optional(table, SECTION, (key, name, holds))?;
                Ok(column.map(|column| ProfileValue {
                    column,
                    join: None,
                    is_inverted: false,
                }))
            }
            ProfileColumn::Joined(joined) => {
                let value = self.joined(table, key, joined, holds);
                value.map(Some).ok_or(ColumnUnusable)
            }
        }
    }

    fn joined(
        &mut self,
        profile: &LiveTable,
        key: &'static str,
        names: &JoinedColumn,
        holds: Holds,
    ) -> Option<ProfileValue> {
        let live = self.live;
        let Some(other) = live.joined.get(&names.table) else {
            self.problems.push(SchemaProblem::MissingJoin {
                table: names.table.clone(),
                key,
            });
            return None;
        };
        self.schema_usage(other, Effect::Writes);
        let mut column = |table, part, name: &str, holds| self.part(table, key, part, name, holds);
        let of = column(profile, "of", &names.of, Holds::Key);
        let found_by = column(other, "key", &names.key, Holds::Key);
        let value = column(other, "column", &names.column, holds);
        let (of, found_by, value) = (of?, found_by?, value?);
        if !of.compares_with(&found_by) {
            self.problems.push(SchemaProblem::JoinDisagrees {
                table: other.name.to_string(),
                column: found_by.name,
                found: found_by.type_name,
                profile: profile.name.to_string(),
                of: of.name,
                of_type: of.type_name,
                key,
            });
            return None;
        }
        let found = other.find(&found_by.name);
        if !found.is_some_and(|live| live.is_unique) {
            self.problems.push(SchemaProblem::LooseJoin {
                table: other.name.to_string(),
                column: found_by.name.clone(),
                is_indexed: found.is_some_and(|live| live.is_indexed),
                key,
            });
        }
        self.may(other, Privilege::Select, &[&found_by, &value]);
        Some(ProfileValue {
            column: value,
            join: Some(Join {
                table: other.name.clone(),
                key: found_by,
                of,
            }),
            is_inverted: false,
        })
    }

    /// A column that a join names: the sentence names the part of it.
    fn part(
        &mut self,
        table: &LiveTable,
        key: &'static str,
        part: &'static str,
        name: &str,
        holds: Holds,
    ) -> Option<Column> {
        let path = match (key, part) {
            ("username", "of") => "username.of",
            ("username", "key") => "username.key",
            ("username", _) => "username.column",
            ("avatar", "of") => "avatar.of",
            ("avatar", "key") => "avatar.key",
            ("avatar", _) => "avatar.column",
            ("is_shown", "of") => "is_shown.of",
            ("is_shown", "key") => "is_shown.key",
            ("is_shown", _) => "is_shown.column",
            ("is_active", "of") => "is_active.of",
            ("is_active", "key") => "is_active.key",
            ("is_active", _) => "is_active.column",
            (_, "of") => "is_hidden.of",
            (_, "key") => "is_hidden.key",
            _ => "is_hidden.column",
        };
        self.column(table, SECTION, (path, name, holds))
    }
}
