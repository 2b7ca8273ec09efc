//! The app's schema: table and column names from configuration, types from the live database.
//!
//! A database describes the configured tables in a `LiveSchema` (`postgres::introspect`, `sqlite::introspect`);
//! `resolve`, which is pure, checks it against what the sidecar does and gives an [`AppSchema`] that the
//! statements are built from. Identifiers print quoted, so that they can be used in SQL as they are.

mod check;
mod counter_fault;
mod counters;
mod left_out;
mod lookup_fault;
mod lookups;
mod needs;
mod problem;
mod profile;
mod requirements;
mod resolve;
pub(super) mod right;
mod sessions;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono_tz::Tz;

use crate::key_type::{KeyType, KeyTypes};

pub use counter_fault::CounterFault;
pub use counters::CounterColumns;
pub(super) use counters::CounterTables;
pub use left_out::LeftOut;
pub use lookup_fault::LookupFault;
pub(super) use lookups::LiveLookup;
pub use lookups::LookupTable;
pub(super) use needs::Needs;
pub use problem::SchemaProblem;
pub(super) use problem::SchemaProblems;
pub(super) use profile::Mark;
pub use profile::{Join, ProfileTable, ProfileValue};
pub(super) use requirements::Requirements;
pub(super) use resolve::resolve;
pub(super) use right::{Privilege, Right};
pub(super) use sessions::{PageCounter, all};
pub use sessions::{SessionTable, SessionUser};

/// The tables that are used, with the columns that are used. What nothing needs may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSchema {
    /// Browser sessions.
    pub session: SessionTable,
    /// `pages_visited` is counted, and can be.
    pub adds_pages: bool,
    /// Events; `None` where none are written and there is no such table.
    pub event: Option<EventTable>,
    /// User profiles; `None` where the app has none, or nothing needs them.
    pub profile: Option<ProfileTable>,
    /// Communities; `None` where the app has no table of them: then any text is the key of one.
    pub community: Option<CommunityTable>,
    /// Tables that lead to a community, by their names in routes.
    pub lookups: BTreeMap<String, LookupTable>,
    /// What cannot be updated, as far as it was tried.
    pub left_out: LeftOut,
    /// Columns of communities for counts; `None` where none are written, or one cannot be.
    pub counters: Option<CounterColumns>,
}

impl AppSchema {
    /// The types of the keys that other modules use.
    pub(super) fn keys(&self) -> KeyTypes {
        let community = self.community.as_ref();
        KeyTypes {
            community: community.map_or(KeyType::Text(None), |community| community.id.key_type()),
            user: self.user_key().key_type(),
        }
    }

    /// The profiles, and SQL for whether the one called `profile` is marked so, where any may be.
    pub(super) fn marked(&self, mark: Mark, profile: &str) -> Option<(&ProfileTable, String)> {
        let profiles = self.profile.as_ref()?;
        Some((profiles, profiles.marked(mark, profile)?))
    }

    /// The profiles and their accounts, where sessions name the account.
    pub(super) fn accounts(&self) -> Option<(&ProfileTable, &Column)> {
        let profile = self.profile.as_ref()?;
        Some((profile, profile.account.as_ref()?))
    }

    /// The profiles and the column by which JWTs name them, where it is another than that of sessions.
    pub(super) fn jwt_accounts(&self) -> Option<(&ProfileTable, &Column)> {
        let profile = self.profile.as_ref()?;
        Some((profile, profile.jwt_account.as_ref()?))
    }

    /// The column that sessions refer to: the profile's, or else their own.
    pub(super) fn referred(&self) -> &Column {
        let own = self.session.user.column();
        self.profile.as_ref().map_or(own, ProfileTable::referred)
    }

    /// The column that has the key of a user: of the profile, or else of the session.
    pub(super) fn user_key(&self) -> &Column {
        self.profile
            .as_ref()
            .map_or(self.session.user.column(), |profile| &profile.id)
    }
}

/// Events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::EventColumns")]
pub struct EventTable {
    pub table: TableName,
    /// It is a view.
    pub is_view: bool,
    /// COPY does with its rows what INSERT does.
    pub takes_copy: bool,
    pub user_id: Column,
    pub event_type: Column,
    pub metadata: Column,
    pub timestamp: Column,
    /// Columns of inserted events; `None` if none are inserted.
    pub insert: Option<EventInsert>,
}

/// What an inserted event fills beyond the columns that are also read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::EventColumns")]
pub struct EventInsert {
    /// The primary key, where it is a `uuid` that the database does not make itself.
    pub id: Option<Column>,
    pub description: Option<Column>,
    pub ip_address: Option<Column>,
    pub user_agent: Option<Column>,
    pub device_info: Option<Column>,
    pub location_data: Option<Column>,
    /// Configured constants, in the order of their columns' names.
    pub constants: Vec<(Column, String)>,
}

impl EventTable {
    /// Our own, as `migrations/app` makes it; `configured` is its name.
    pub(super) fn own(configured: &str, user_id: &Column) -> Self {
        let dialect = user_id.dialect;
        let (schema, name) = configured
            .split_once('.')
            .map_or((None, configured), |(schema, name)| {
                (Some(schema.to_owned()), name)
            });
        let named = |name: &str| Column {
            name: name.to_owned(),
            ..user_id.clone()
        };
        Self {
            table: TableName {
                dialect,
                schema,
                name: name.to_owned(),
            },
            is_view: false,
            takes_copy: false,
            user_id: named("user_id"),
            event_type: named("event_type"),
            metadata: named("metadata"),
            timestamp: named("timestamp"),
            insert: None,
        }
    }
}

impl EventInsert {
    /// The columns that are written beyond [`EventTable`]'s: those of [`EventInsert::optional`] that there are, the
    /// key where we make it, and those of the constants.
    pub(super) fn more(&self) -> impl Iterator<Item = &Column> {
        let constants = self.constants.iter().map(|(column, _)| column);
        let optional = self.optional().into_iter().flatten();
        optional.chain(&self.id).chain(constants)
    }

    /// The columns that the app may not have, in the order in which they are written.
    pub(super) fn optional(&self) -> [&Option<Column>; 5] {
        [
            &self.description,
            &self.ip_address,
            &self.user_agent,
            &self.device_info,
            &self.location_data,
        ]
    }
}

/// Communities.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in config::CommunityColumns")]
pub struct CommunityTable {
    pub table: TableName,
    pub id: Column,
    /// `None` where communities have no slugs.
    pub slug: Option<Column>,
}

/// A table's name; prints quoted, with its schema where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Decides the quotes.
    pub dialect: Dialect,
    /// Schema, on Postgres.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", self.dialect.quoted(schema))?;
        }
        f.write_str(&self.dialect.quoted(&self.name))
    }
}

/// A column; prints as its quoted name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Decides the quotes.
    pub dialect: Dialect,
    /// Name, unquoted.
    pub name: String,
    /// The kind of its values.
    pub kind: Kind,
    /// The type as the database writes it, for casts: `bigint`, `character varying(20)`.
    pub type_name: String,
    /// Whether it is nullable.
    pub nullable: bool,
    /// Most characters, for `varchar(n)`.
    pub max_length: Option<usize>,
    /// Whether different texts are equal: its type or collation ignores case, or spaces at the end.
    pub is_loose: bool,
    /// Zone of moments without one.
    pub zone: Tz,
}

impl Column {
    /// Whether `text` is the canonical form of a value of this key column, as in paths and JSON. Other spellings
    /// (`042`, a `uuid` in capitals) would make two communities of one.
    pub(super) fn is_key(&self, text: &str) -> bool {
        self.key_type().canonical(text).is_some_and(|key| key == text)
    }

    /// Whether SQL compares its values with those of another column.
    pub(super) fn compares_with(&self, other: &Self) -> bool {
        let is_integer = |kind| matches!(kind, Kind::SmallInt | Kind::Integer | Kind::BigInt);
        self.kind == other.kind || (is_integer(self.kind) && is_integer(other.kind))
    }

    /// The type of its values as keys.
    pub(super) fn key_type(&self) -> KeyType {
        match self.kind {
            Kind::SmallInt => KeyType::Integer(i16::MIN.into(), i16::MAX.into()),
            Kind::Integer => KeyType::Integer(i32::MIN.into(), i32::MAX.into()),
            Kind::BigInt => KeyType::BIGINT,
            Kind::Uuid => KeyType::Uuid,
            _ => {
                // SQLite keeps whatever is written, however long its column says that it may be.
                let limit = self.max_length.filter(|_| self.dialect == Dialect::Postgres);
                if self.is_loose {
                    KeyType::LooseText(limit)
                } else {
                    KeyType::Text(limit)
                }
            }
        }
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dialect.quoted(&self.name))
    }
}

/// The kind of a column's values, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the SQL types")]
pub enum Kind {
    SmallInt,
    Integer,
    BigInt,
    /// On SQLite: `char(32)`, hexadecimal digits without dashes, as Django writes it.
    Uuid,
    Text,
    Bool,
    /// A moment with zone.
    TimestampTz,
    /// A moment without zone. All of SQLite's moments.
    Timestamp,
    Json,
    Jsonb,
    Inet,
    /// Anything else.
    Other,
}

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names")]
pub enum Dialect {
    Postgres,
    Sqlite,
}

impl Dialect {
    /// An identifier for SQL: in quotes, inner ones doubled. On SQLite not in double quotes: there a double-quoted
    /// name that is no column is a string, and a renamed column would read as its own name.
    pub(super) fn quoted(self, name: &str) -> String {
        let quote = match self {
            Self::Postgres => "\"",
            Self::Sqlite => "`",
        };
        format!("{quote}{}{quote}", name.replace(quote, &quote.repeat(2)))
    }
}

/// The configured tables as the catalogue has them. A table is `None` if it does not exist, or none is configured.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct LiveSchema {
    pub dialect: Dialect,
    /// The current role, for the GRANT in a problem's sentence.
    pub user: String,
    /// Name of the database; empty on SQLite.
    pub database: String,
    pub session: Option<LiveTable>,
    /// The server takes no writes: a replica.
    pub read_only: bool,
    /// The server does not know the configured time zone.
    pub lacks_zone: bool,
    /// Whether the trigger that notifies of ended sessions is on the session table.
    pub session_trigger: bool,
    pub event: Option<LiveTable>,
    pub profile: Option<LiveTable>,
    /// The tables that columns of the profile are in, by their configured names, where they exist.
    pub joined: BTreeMap<String, LiveTable>,
    pub community: Option<LiveTable>,
    /// The partition of the next month that our own event table lacks.
    pub lacks_partition: Option<String>,
    /// Our own event table is partitioned.
    pub has_own_partitions: bool,
    /// As configured in `schema.lookup`.
    pub lookups: BTreeMap<String, LiveLookup>,
    /// The sidecar's own tables of counters, where these are wanted.
    pub counter_tables: CounterTables,
    /// Columns of `schema.event.constants` whose constant is not of the column's type.
    pub bad_constants: Vec<String>,
}

/// One table of the catalogue.
#[derive(Debug, Clone)]
pub(super) struct LiveTable {
    pub name: TableName,
    /// False if the role may not use the table's schema.
    pub schema_usage: bool,
    /// Commands for which row-level security has no policy for the role, so that it sees or writes nothing.
    pub without_policy: Vec<String>,
    /// Row-level security is on.
    pub row_security: bool,
    /// COPY does with its rows what INSERT does: a table, or one of partitions, without rules for inserted rows and
    /// without row-level security for the role.
    pub takes_copy: bool,
    /// A view that takes no INSERT, or no UPDATE.
    pub fixed: Fixed,
    pub columns: Vec<LiveColumn>,
    /// Foreign keys of one column.
    pub references: Vec<Reference>,
}

/// A foreign key.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub column: String,
    pub table: TableName,
}

impl LiveTable {
    /// Whether it has a column of this name.
    pub(super) fn has(&self, column: &str) -> bool {
        self.find(column).is_some()
    }

    /// Whether it is our own event table.
    pub(super) fn is_own(&self) -> bool {
        self.name.schema.as_deref() == Some("headcount") && self.name.name == "page_view"
    }
}

/// What a view does not take. All false for a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fixed {
    pub is_view: bool,
    pub insert: bool,
    pub update: bool,
}

/// One column of the catalogue.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
pub(super) struct LiveColumn {
    pub column: Column,
    /// The database fills it when an insert omits it.
    pub has_default: bool,
    /// It cannot be written.
    pub generated: bool,
    /// A sequence that makes the default and that the role may not use.
    pub locked_sequence: Option<String>,
    /// A sequence that makes the default and has privileges of its own.
    pub sequence: Option<String>,
    /// No two rows have the same value.
    pub is_unique: bool,
    /// An index begins with it.
    pub is_indexed: bool,
    pub may_select: bool,
    pub may_insert: bool,
    pub may_update: bool,
}

/// Outcome of `resolve`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ResolvedSchema {
    /// Present when every used table and column is there and of a usable type.
    pub app: Option<Arc<AppSchema>>,
    /// Page views are to be written and there is nowhere to write them, so that batches wait.
    pub lacks_events: bool,
    pub problems: Vec<SchemaProblem>,
    /// What the role needs on the app's tables, in the order in which it is checked.
    pub rights: Vec<Right>,
    /// Our own event table is partitioned.
    pub has_own_partitions: bool,
    /// The current role; empty on SQLite.
    pub user: String,
    /// Name of the database; empty on SQLite.
    pub database: String,
    /// Lookups whose key no index finds, with table and column.
    pub unindexed: Vec<(String, String, String)>,
    /// As found; it may change with a failover.
    pub read_only: bool,
    /// As found. Only the configuration decides whether its absence is a problem.
    pub session_trigger: bool,
}

impl ResolvedSchema {
    /// The policies that let the role write, of tables with row-level security.
    pub(super) fn policies(&self) -> Vec<String> {
        let role = Dialect::Postgres.quoted(&self.user);
        let written = self
            .rights
            .iter()
            .filter(|right| right.row_security && right.privilege != Privilege::Select);
        written
            .map(|right| right::policy(right.privilege.sql(), &right.table.to_string(), &role))
            .collect()
    }
}

#[cfg(test)]
impl Column {
    /// A column for tests.
    pub(super) fn sample(dialect: Dialect, kind: Kind) -> Self {
        Self {
            dialect,
            name: "c".into(),
            kind,
            type_name: String::new(),
            nullable: false,
            max_length: None,
            is_loose: false,
            zone: Tz::UTC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kind: Kind) -> Column {
        Column::sample(Dialect::Postgres, kind)
    }

    #[test]
    fn a_key_has_one_spelling() {
        assert!(column(Kind::BigInt).is_key("42"));
        for other in ["042", "+42", " 42", "42.0", "", "general", "99999999999999999999"] {
            assert!(!column(Kind::BigInt).is_key(other), "{other}");
        }
        assert!(!column(Kind::Integer).is_key("3000000000"));
        assert!(column(Kind::Uuid).is_key("0190163d-8694-739b-aea5-966c26f8ad91"));
        for other in [
            "0190163D-8694-739B-AEA5-966C26F8AD91",
            "0190163d8694739baea5966c26f8ad91",
            "{0190163d-8694-739b-aea5-966c26f8ad91}",
            "42",
        ] {
            assert!(!column(Kind::Uuid).is_key(other), "{other}");
        }
        assert!(column(Kind::Text).is_key("general"));
    }

    #[test]
    fn v21_only_postgres_has_no_key_that_is_longer_than_declared() {
        let declared = |dialect| Column {
            dialect,
            max_length: Some(3),
            ..column(Kind::Text)
        };
        assert!(!declared(Dialect::Postgres).is_key("rust"));
        assert!(declared(Dialect::Postgres).is_key("ust"));
        assert!(declared(Dialect::Sqlite).is_key("rust"));
    }

    #[test]
    fn identifiers_are_quoted() {
        let mut table = TableName {
            dialect: Dialect::Postgres,
            schema: Some("fo\"rum".into()),
            name: "User".into(),
        };
        assert_eq!(table.to_string(), "\"fo\"\"rum\".\"User\"");
        table.dialect = Dialect::Sqlite;
        table.schema = None;
        assert_eq!(table.to_string(), "`User`");
    }
}
