//! Problems between configuration and live schema, a sentence each.
//! A sentence names table and column and ends with the cure.

mod sentences;
mod severity;

use std::fmt;

use chrono_tz::Tz;

use super::right::{grant, making_partitions, policy};
use super::{CounterFault, LookupFault};
use crate::printable::joined;
pub(in crate::store) use sentences::NOT_PARTITIONED;
use sentences::{fixed_view, loose_join, loose_token, names_account, or_account};

/// One thing that must be mended before the sidecar can do what it is configured to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say what the fields are")]
pub enum SchemaProblem {
    /// A configured table does not exist.
    #[error("there is no table {table}: set schema.{section}.table to the name of the app's {section} table")]
    MissingTable { table: String, section: &'static str },
    /// Django's session table does not exist.
    #[error(
        "there is no table {table}: Django keeps sessions there with SESSION_ENGINE = \
         \"django.contrib.sessions.backends.db\" or \"…cached_db\", and sessions of \"…cache\", \"…file\" and \
         \"…signed_cookies\" cannot be read from the database: set SESSION_ENGINE to one of those two, or \
         schema.django_session.table to the name of the table"
    )]
    NoDjangoSessions { table: String },
    /// A configured column does not exist.
    #[error(
        "table {table} has no column {column}: set schema.{section}.columns.{key} to the name of the column that holds it"
    )]
    MissingColumn {
        table: String,
        column: String,
        section: &'static str,
        key: &'static str,
    },
    /// The table that a column of the profile is in does not exist.
    #[error(
        "there is no table {table}: set schema.profile.columns.{key}.table to the name of the table that has it"
    )]
    MissingJoin { table: String, key: &'static str },
    /// SQL cannot compare the two columns of a join.
    #[error(
        "column {column} of table {table} is of type {found} and cannot be compared with column {of} of table {profile}, of \
         type {of_type}: set schema.profile.columns.{key}.key and .of to columns of one type"
    )]
    JoinDisagrees {
        table: String,
        column: String,
        found: String,
        profile: String,
        of: String,
        of_type: String,
        key: &'static str,
    },
    /// The key of a join may be that of several rows.
    #[error("{}", loose_join(.table, .column, *.is_indexed, .key))]
    LooseJoin {
        table: String,
        column: String,
        is_indexed: bool,
        key: &'static str,
    },
    /// A token may have several rows.
    #[error("{}", loose_token(.table, .column, *.is_indexed))]
    LooseToken {
        table: String,
        column: String,
        is_indexed: bool,
    },
    /// A view does not take a command that is needed.
    #[error("{}", fixed_view(.table, .command, .columns))]
    FixedView {
        table: String,
        command: &'static str,
        columns: Vec<String>,
    },
    /// Nothing is written to the event table, and it does not exist.
    #[error(
        "there is no table {table}, so that there are no statistics: set schema.event.table to the app's event table, or to \
         \"\" if it has none"
    )]
    NoStatistics { table: String },
    /// The event table of our own was not made yet.
    #[error(
        "there is no table {table}, in which record.events = \"own\" writes page views: run headcount migrate"
    )]
    NoOwnTable { table: String },
    /// Our own event table is one, and was to have partitions.
    #[error("{NOT_PARTITIONED}")]
    NotPartitioned,
    /// Next month has no partition in our own event table, and the role may not make one.
    #[error(
        "there is no partition headcount.{partition}, so that its page views go to the default partition: run headcount \
         migrate each month, or let the sidecar's role make partitions: {}",
        making_partitions(.user).join(" ")
    )]
    NoPartition { partition: String, user: String },
    /// A column's type cannot hold the values it is configured for.
    #[error(
        "column {column} of table {table} is of type {found} where {expected} is needed: set \
         schema.{section}.columns.{key} to a column of that type"
    )]
    WrongType {
        table: String,
        column: String,
        found: String,
        expected: &'static str,
        section: &'static str,
        key: &'static str,
    },
    /// A reference is of another type than the key that it refers to.
    #[error(
        "column {column} of table {table} is of type {found}, but the key of table {profile} that it refers to is of type \
         {profile_key}: set schema.{section}.columns.user_id to the column that refers to {profile}{}",
        or_account(.section)
    )]
    KeysDisagree {
        table: String,
        column: String,
        found: String,
        profile: String,
        profile_key: String,
        section: &'static str,
    },
    /// A table by which a community is found cannot be used.
    #[error("schema.lookup.{lookup}: {fault}")]
    Lookup { lookup: String, fault: LookupFault },
    /// A session's reference to an account is of another type than the profile's.
    #[error(
        "column {column} of table {table} is of type {found}, but the account that it refers to, column {account} of table \
         {profile}, is of type {account_type}: set schema.session.columns.user_id and schema.profile.columns.account to \
         columns with the same account's key"
    )]
    AccountsDisagree {
        table: String,
        column: String,
        found: String,
        profile: String,
        account: String,
        account_type: String,
    },
    /// Sessions name the account, and nothing says how the profile is found by it.
    #[error(
        "{}, so that page views would be those of whoever has the same key there: set schema.profile.columns.account = \
         \"{}\", the column of {profile} that refers to {account}",
        names_account(.session, .user_id.as_deref(), .account, .profile),
        .column.as_deref().unwrap_or("…")
    )]
    NamesAccount {
        session: String,
        /// `None`: in Django's data.
        user_id: Option<String>,
        account: String,
        profile: String,
        /// The profile's column that refers to the account.
        column: Option<String>,
    },
    /// A NOT NULL column without database default that nothing fills (W10).
    #[error(
        "column {column} ({type_name}) of table {table} is NOT NULL, has no default in the database, and nothing fills it: \
         set schema.event.constants.{column} = \"…\""
    )]
    Unfilled {
        table: String,
        column: String,
        type_name: String,
    },
    /// A primary key that neither the database nor the sidecar can make.
    #[error(
        "column {column} ({type_name}) of table {table} has no default in the database and is no uuid that the sidecar could \
         make: give it a default, or set record.events = false"
    )]
    NoKey {
        table: String,
        column: String,
        type_name: String,
    },
    /// A constant for a column that does not exist.
    #[error("table {table} has no column {column}: remove schema.event.constants.{column}")]
    UnknownConstant { table: String, column: String },
    /// A constant for a column that is filled already.
    #[error("column {column} of table {table} is already filled: remove schema.event.constants.{column}")]
    NeedlessConstant { table: String, column: String },
    /// A constant that is not of its column's type, or longer than the column.
    #[error(
        "\"{value}\" is no value of column {column} ({type_name}) of table {table}: change schema.event.constants.{column}"
    )]
    BadConstant {
        table: String,
        column: String,
        type_name: String,
        value: String,
    },
    /// The database user lacks a privilege.
    #[error("the database user {user} lacks {right}: {}", grant(.right, .user))]
    Forbidden {
        /// As between GRANT and TO.
        right: String,
        user: String,
        writes: bool,
    },
    /// Row-level security without a policy for the database user, which then sees or writes nothing.
    #[error(
        "row-level security of table {table} has no policy for {command} by the database user {user}, as if there were no \
         rows; give {user} BYPASSRLS, or run: {}",
        policy(.command, .table, .user)
    )]
    NoPolicy {
        table: String,
        command: &'static str,
        user: String,
        writes: bool,
    },
    /// The server is a replica, or set to take no writes.
    #[error(
        "the database takes no writes (a replica, or default_transaction_read_only is on), so that page views wait: set \
         database.url to the primary, or to an address that follows it"
    )]
    ReadOnly,
    /// Columns of moments without time zone, and no configured zone.
    #[error(
        "times in {} have no time zone and are taken as UTC: set database.time_zone to the zone in which the app writes \
         them (\"UTC\" if that is right; Django's TIME_ZONE with USE_TZ = False)",
        .columns.join(", ")
    )]
    NoTimeZone { columns: Vec<String> },
    /// The server does not know the configured zone of such columns, so that each statement that compares or writes them
    /// fails.
    #[error(
        "the database server does not know the time zone {zone}, in which times in {} are written: set database.time_zone \
         to another name of it, of those that SELECT name FROM pg_timezone_names answers, or update the server's time \
         zone data (on Debian: packages tzdata and tzdata-legacy)",
        .columns.join(", ")
    )]
    UnknownTimeZone { zone: Tz, columns: Vec<String> },
    /// A column for a count cannot be used.
    #[error("{0}")]
    Counter(CounterFault),
    /// The sidecar's own tables of counters are missing.
    #[error("the sidecar's own tables of counters are missing: run headcount migrate once")]
    NoCounterTables,
    /// What a problem prevents is that counters are written: a right that is missing for them alone.
    #[error("counters cannot be written: {0}")]
    OfCounters(Box<SchemaProblem>),
    /// The trigger that notifies of ended sessions is configured and not installed.
    #[error(
        "table {table} has no trigger that notifies of ended sessions, so that sign-outs are noticed within \
         session.cache_ttl only: run headcount migrate, or set session.revocation = \"off\""
    )]
    NoTrigger { table: String },
}

/// Problems as one error.
#[derive(Debug)]
pub(in crate::store) struct SchemaProblems(pub Vec<SchemaProblem>);

impl fmt::Display for SchemaProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the app's tables are not as configured")?;
        let sentences: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        write!(f, ": {}", joined(&sentences))
    }
}

impl std::error::Error for SchemaProblems {}
