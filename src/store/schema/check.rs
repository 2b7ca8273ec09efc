//! Single checks for `resolve`: whether a table or column exists, has a usable type, and may be used. Each failure
//! adds a problem. Pure.

use chrono_tz::Tz;

use super::right::Effect;
use super::{
    Column, Dialect, Kind, LiveColumn, LiveSchema, LiveTable, Needs, Privilege, ProfileTable, Reference,
    Requirements, Right, Rights, SchemaProblem, TableName,
};
use crate::config::SessionKind;

/// What a column must be able to hold.
#[derive(Clone, Copy)]
pub(super) enum Holds {
    Key,
    Text,
    Count,
    Flag,
    Moment,
    Json,
    JsonOrText,
    Address,
}

impl Holds {
    pub(super) fn accepts(self, kind: Kind, dialect: Dialect) -> bool {
        let integer = matches!(kind, Kind::SmallInt | Kind::Integer | Kind::BigInt);
        let sqlite = dialect == Dialect::Sqlite;
        match self {
            Self::Key => integer || matches!(kind, Kind::Uuid | Kind::Text),
            // SQLite: a `char(32)` may be text or a uuid; only the configuration knows.
            Self::Text => kind == Kind::Text || (sqlite && kind == Kind::Uuid),
            Self::Count => integer,
            Self::Flag => kind == Kind::Bool || (sqlite && integer),
            Self::Moment => matches!(kind, Kind::TimestampTz | Kind::Timestamp),
            Self::Json => matches!(kind, Kind::Json | Kind::Jsonb) || (sqlite && kind == Kind::Text),
            Self::JsonOrText => matches!(kind, Kind::Json | Kind::Jsonb | Kind::Text),
            Self::Address => matches!(kind, Kind::Inet | Kind::Text),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "an integer, uuid or text",
            Self::Text => "text",
            Self::Count => "an integer",
            Self::Flag => "boolean",
            Self::Moment => "timestamp with time zone",
            Self::Json => "jsonb",
            Self::JsonOrText => "jsonb or text",
            Self::Address => "inet or text",
        }
    }
}

/// One column to look for: the section's key for it, the configured name, what it must hold.
pub(super) type Required<'a> = (&'static str, &'a str, Holds);

/// A configured column cannot be used; there is a problem that says why.
#[derive(Debug, Clone, Copy)]
pub(super) struct ColumnUnusable;

pub(super) struct Check<'a> {
    pub live: &'a LiveSchema,
    /// Zone of moments without one.
    pub zone: Tz,
    /// Columns of moments without zone, as `table.column`.
    pub without_zone: Vec<String>,
    pub problems: Vec<SchemaProblem>,
    /// What the role needs, whether it has it or not.
    pub needed: Rights,
    /// What of that it lacks.
    pub lacking: Rights,
    /// What is looked at is used for counters, and nothing else.
    pub is_of_counters: bool,
}

impl Check<'_> {
    pub(super) fn table<'t>(
        &mut self,
        found: Option<&'t LiveTable>,
        section: &'static str,
        configured: &str,
    ) -> Option<&'t LiveTable> {
        let Some(table) = found else {
            self.problems.push(SchemaProblem::MissingTable {
                table: configured.to_owned(),
                section,
            });
            return None;
        };
        self.schema_usage(table, Effect::Writes);
        Some(table)
    }

    /// The role finds the table by the use of its schema.
    pub(super) fn schema_usage(&mut self, table: &LiveTable, effect: Effect) {
        let schema = table.name.schema.as_deref().unwrap_or_default();
        self.needed.use_of(schema, effect);
        if !table.schema_usage {
            self.lacking.use_of(schema, effect);
        }
    }

    /// The event table; it may be missing where nothing is written to it.
    pub(super) fn event_table<'t>(
        &mut self,
        found: Option<&'t LiveTable>,
        configured: &str,
        needs: Needs,
    ) -> Option<&'t LiveTable> {
        match found {
            None if configured.is_empty() => None,
            None if !needs.events => {
                let table = configured.to_owned();
                self.problems.push(SchemaProblem::NoStatistics { table });
                None
            }
            None if needs.own_events => {
                let table = configured.to_owned();
                self.problems.push(SchemaProblem::NoOwnTable { table });
                None
            }
            found => self.table(found, "event", configured),
        }
    }

    /// A column that the app may not have: `""` is `Ok(None)`, and anything else must be there and usable.
    pub(super) fn optional(
        &mut self,
        table: &LiveTable,
        section: &'static str,
        required: Required<'_>,
    ) -> Result<Option<Column>, ColumnUnusable> {
        if required.1.is_empty() {
            return Ok(None);
        }
        self.column(table, section, required)
            .map(Some)
            .ok_or(ColumnUnusable)
    }

    pub(super) fn column(
        &mut self,
        table: &LiveTable,
        section: &'static str,
        required: Required<'_>,
    ) -> Option<Column> {
        let (key, name, holds) = required;
        let Some(live) = table.find(name) else {
            self.problems.push(SchemaProblem::MissingColumn {
                table: table.name.to_string(),
                column: name.to_owned(),
                section,
                key,
            });
            return None;
        };
        if !holds.accepts(live.column.kind, self.live.dialect) {
            self.problems.push(SchemaProblem::WrongType {
                table: table.name.to_string(),
                column: name.to_owned(),
                found: live.column.type_name.clone(),
                expected: holds.name(),
                section,
                key,
            });
            return None;
        }
        let mut column = live.column.clone();
        if column.kind == Kind::Timestamp {
            column.zone = self.zone;
            self.without_zone.push(format!("{}.{column}", table.name));
        }
        Some(column)
    }

    /// SQL compares a reference with the key it refers to, so both must be of one type.
    pub(super) fn refers(
        &mut self,
        section: &'static str,
        table: &TableName,
        column: &Column,
        profile: &ProfileTable,
    ) {
        if !column.compares_with(&profile.id) {
            self.problems.push(SchemaProblem::KeysDisagree {
                table: table.to_string(),
                column: column.name.clone(),
                found: column.type_name.clone(),
                profile: profile.table.to_string(),
                profile_key: profile.id.type_name.clone(),
                section,
            });
        }
    }

    /// The same for a session's user, which may refer to the profile's account.
    pub(super) fn session_refers(&mut self, table: &TableName, column: &Column, profile: &ProfileTable) {
        match &profile.account {
            None => self.refers("session", table, column, profile),
            Some(account) if column.compares_with(account) => {}
            Some(account) => self.problems.push(SchemaProblem::AccountsDisagree {
                table: table.to_string(),
                column: column.name.clone(),
                found: column.type_name.clone(),
                profile: profile.table.to_string(),
                account: account.name.clone(),
                account_type: account.type_name.clone(),
            }),
        }
    }

    /// Foreign keys tell where sessions name the account, not the profile: with keys of one type everything would be
    /// recorded for whoever has the same key.
    pub(super) fn account(&mut self, wanted: &Requirements, live: &LiveSchema) {
        let (Some(session), Some(profile)) = (&live.session, &live.profile) else {
            return;
        };
        let names = &wanted.names.profile.columns;
        // What sessions refer to beside a view may be what the view is of.
        if !names.account.is_empty() || profile.fixed.is_view {
            return;
        }
        // A key that refers to the account, too, is the account's.
        let keys = profile.referred_from(&names.id).map(|table| &table.name);
        let keys: Vec<&String> = keys.chain([&profile.name.name]).collect();
        let mapped = |account: &TableName| {
            let to_it = |reference: &&Reference| reference.table == *account;
            profile.references.iter().find(to_it).map(|it| it.column.clone())
        };
        let unmapped = match wanted.kind {
            SessionKind::Table => {
                let user_id = &wanted.names.session.columns.user_id;
                let referred = session
                    .referred_from(user_id)
                    .find(|table| !keys.contains(&&table.name));
                referred.map(|account| (Some(user_id.clone()), account, mapped(account)))
            }
            SessionKind::Django => {
                let references = profile.references.iter().map(|reference| &reference.table);
                let mut users = references.filter(|table| table.name.to_lowercase().ends_with("user"));
                let account = users.find(|table| !keys.contains(&&table.name));
                account.map(|account| (None, account, mapped(account)))
            }
        };
        if let Some((user_id, account, column)) = unmapped {
            self.problems.push(SchemaProblem::NamesAccount {
                session: session.name.to_string(),
                user_id,
                account: account.to_string(),
                profile: profile.name.to_string(),
                column,
            });
        }
    }

    /// Notes a right that is needed, and what of it is lacking. Returns whether nothing is wrong with it.
    pub(super) fn may(&mut self, table: &LiveTable, privilege: Privilege, columns: &[&Column]) -> bool {
        let right = Right::new(table, privilege, columns, self.is_of_counters);
        let lacking = right.lacking(table);
        self.needed.tables.push(right);
        let is_fixed = match privilege {
            Privilege::Select => false,
            Privilege::Insert => table.fixed.insert,
            Privilege::Update => table.fixed.update,
        };
        if is_fixed {
            self.problems.push(SchemaProblem::FixedView {
                table: table.name.to_string(),
                command: privilege.sql(),
                columns: columns.iter().map(|column| column.name.clone()).collect(),
            });
            return false;
        }
        let is_given = lacking.is_empty();
        self.lacking.tables.push(lacking);
        let is_refused = table
            .without_policy
            .iter()
            .any(|command| command == privilege.sql());
        if is_refused {
            self.problems.push(SchemaProblem::NoPolicy {
                table: table.name.to_string(),
                command: privilege.sql(),
                user: self.live.dialect.quoted(&self.live.user),
                writes: privilege == Privilege::Insert,
            });
        }
        is_given && !is_refused
    }
}

impl LiveTable {
    /// The tables that a column refers to by a foreign key.
    fn referred_from(&self, column: &str) -> impl Iterator<Item = &TableName> {
        let of_it = move |reference: &&Reference| reference.column == column;
        self.references
            .iter()
            .filter(of_it)
            .map(|reference| &reference.table)
    }

    pub(super) fn find(&self, name: &str) -> Option<&LiveColumn> {
        self.columns.iter().find(|live| live.column.name == name)
    }
}
