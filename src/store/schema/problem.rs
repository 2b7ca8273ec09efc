//! Problems between configuration and live schema, a sentence each.
//! A sentence names table and column and ends with the cure.

mod beside;

use std::fmt;

use chrono_tz::Tz;

use super::right::{Privilege, grant, making_partitions, policy};
use super::{CounterFault, LookupFault};
use beside::{fixed_view, loose_join, loose_token};

/// One thing that must be mended before the sidecar can do what it is configured to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentences in `Display` say what the fields are")]
pub enum SchemaProblem {
    /// A configured table does not exist.
    MissingTable { table: String, section: &'static str },
    /// Django's session table does not exist.
    NoDjangoSessions { table: String },
    /// A configured column does not exist.
    MissingColumn {
        table: String,
        column: String,
        section: &'static str,
        key: &'static str,
    },
    /// The table that a column of the profile is in does not exist.
    MissingJoin { table: String, key: &'static str },
    /// SQL cannot compare the two columns of a join.
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
    LooseJoin {
        table: String,
        column: String,
        is_indexed: bool,
        key: &'static str,
    },
    /// A token may have several rows.
    LooseToken {
        table: String,
        column: String,
        is_indexed: bool,
    },
    /// A view does not take a command that is needed.
    FixedView {
        table: String,
        command: &'static str,
        columns: Vec<String>,
    },
    /// Nothing is written to the event table, and it does not exist.
    NoStatistics { table: String },
    /// The event table of our own was not made yet.
    NoOwnTable { table: String },
    /// Next month has no partition in our own event table, and the role may not make one.
    NoPartition { partition: String, user: String },
    /// A column's type cannot hold the values it is configured for.
    WrongType {
        table: String,
        column: String,
        found: String,
        expected: &'static str,
        section: &'static str,
        key: &'static str,
    },
    /// A reference is of another type than the key that it refers to.
    KeysDisagree {
        table: String,
        column: String,
        found: String,
        profile: String,
        profile_key: String,
        section: &'static str,
    },
    /// A table by which a community is found cannot be used.
    Lookup { lookup: String, fault: LookupFault },
    /// A session's reference to an account is of another type than the profile's.
    AccountsDisagree {
        table: String,
        column: String,
        found: String,
        profile: String,
        account: String,
        account_type: String,
    },
    /// Sessions name the account, and nothing says how the profile is found by it.
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
    Unfilled {
        table: String,
        column: String,
        type_name: String,
    },
    /// A primary key that neither the database nor the sidecar can make.
    NoKey {
        table: String,
        column: String,
        type_name: String,
    },
    /// A constant for a column that does not exist.
    UnknownConstant { table: String, column: String },
    /// A constant for a column that is filled already.
    NeedlessConstant { table: String, column: String },
    /// A constant that is not of its column's type.
    BadConstant {
        table: String,
        column: String,
        type_name: String,
        value: String,
    },
    /// The database user lacks a privilege.
    Forbidden {
        /// As between GRANT and TO.
        right: String,
        user: String,
        writes: bool,
    },
    /// Row-level security without a policy for the database user, which then sees or writes nothing.
    NoPolicy {
        table: String,
        command: &'static str,
        user: String,
        writes: bool,
    },
    /// The server is a replica, or set to take no writes.
    ReadOnly,
    /// Columns of moments without time zone, and no configured zone.
    NoTimeZone { columns: Vec<String> },
    /// The server does not know the configured zone of such columns, so that each statement that compares or writes them
    /// fails.
    UnknownTimeZone { zone: Tz, columns: Vec<String> },
    /// A column for a count cannot be used.
    Counter(CounterFault),
    /// The sidecar's own tables of counters cannot be used; `role`: because it may not use them.
    NoCounterTables { role: Option<String> },
    /// The trigger that notifies of ended sessions is configured and not installed.
    NoTrigger { table: String },
}

impl SchemaProblem {
    /// Whether every row would be refused alike, so that batches should wait.
    pub fn blocks_writes(&self) -> bool {
        match self {
            Self::Unfilled { .. }
            | Self::NoKey { .. }
            | Self::UnknownConstant { .. }
            | Self::NeedlessConstant { .. }
            | Self::BadConstant { .. }
            | Self::UnknownTimeZone { .. } => true,
            Self::Forbidden { writes, .. } | Self::NoPolicy { writes, .. } => *writes,
            Self::FixedView { command, .. } => *command == Privilege::Insert.sql(),
            Self::MissingTable { .. }
            | Self::NoDjangoSessions { .. }
            | Self::MissingColumn { .. }
            | Self::WrongType { .. }
            | Self::KeysDisagree { .. }
            | Self::MissingJoin { .. }
            | Self::JoinDisagrees { .. }
            | Self::LooseJoin { .. }
            | Self::LooseToken { .. }
            | Self::NoStatistics { .. }
            | Self::NoOwnTable { .. }
            | Self::NoPartition { .. }
            | Self::Lookup { .. }
            | Self::AccountsDisagree { .. }
            | Self::NamesAccount { .. }
            | Self::Counter(_)
            | Self::NoCounterTables { .. }
            | Self::ReadOnly
            | Self::NoTimeZone { .. }
            | Self::NoTrigger { .. } => false,
        }
    }
}

impl SchemaProblem {
    /// Whether it is a right that the connection's role lacks: the tables are as configured.
    pub(in crate::store) fn is_of_the_role(&self) -> bool {
        matches!(self, Self::Forbidden { .. } | Self::NoPolicy { .. })
    }

    /// Whether nothing fails because of it, and it may be as it should be: the operator has to say.
    pub fn is_a_question(&self) -> bool {
        matches!(self, Self::NoTimeZone { .. }) || self.is_a_warning()
    }

    /// Whether a sidecar that serves is not to be replaced by one that finds this. What holds for a while, or only makes
    /// sign-outs noticed later, is no reason.
    pub fn prevents_a_take_over(&self) -> bool {
        !self.is_a_question() && !matches!(self, Self::ReadOnly | Self::NoTrigger { .. })
    }

    /// Whether the counters cannot be kept as they are configured.
    pub fn is_of_counters(&self) -> bool {
        matches!(self, Self::Counter(_) | Self::NoCounterTables { .. })
    }

    /// Whether everything works, in a way that an operator may not want.
    pub fn is_a_warning(&self) -> bool {
        matches!(
            self,
            Self::LooseJoin { .. }
                | Self::LooseToken { .. }
                | Self::NoStatistics { .. }
                | Self::NoPartition { .. }
        )
    }
}

impl fmt::Display for SchemaProblem {
    #[expect(clippy::too_many_lines, reason = "a sentence for each")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(fault) => fault.fmt(f),
            Self::NoCounterTables { role } => no_counter_tables(f, role.as_deref()),
            Self::Lookup { lookup, fault } => write!(f, "schema.lookup.{lookup}: {fault}"),
            Self::MissingTable { table, section } => write!(
                f,
                "there is no table {table}: set schema.{section}.table to the name of the app's {section} table"
            ),
            Self::NoDjangoSessions { table } => no_django_sessions(f, table),
            Self::MissingColumn {
                table,
                column,
                section,
                key,
            } => write!(
                f,
                "table {table} has no column {column}: set schema.{section}.columns.{key} to the name of the \
                 column that holds it"
            ),
            Self::WrongType {
                table,
                column,
                found,
                expected,
                section,
                key,
            } => write!(
                f,
                "column {column} of table {table} is of type {found} where {expected} is needed: set \
                 schema.{section}.columns.{key} to a column of that type"
            ),
            Self::MissingJoin { table, key } => write!(
                f,
                "there is no table {table}: set schema.profile.columns.{key}.table to the name of the table that has it"
            ),
            Self::JoinDisagrees {
                table,
                column,
                found,
                profile,
                of,
                of_type,
                key,
            } => write!(
                f,
                "column {column} of table {table} is of type {found} and cannot be compared with column {of} of table \
                 {profile}, of type {of_type}: set schema.profile.columns.{key}.key and .of to columns of one type"
            ),
            Self::LooseJoin {
                table,
                column,
                is_indexed,
                key,
            } => loose_join(f, table, column, *is_indexed, key),
            Self::LooseToken {
                table,
                column,
                is_indexed,
            } => loose_token(f, table, column, *is_indexed),
            Self::FixedView {
                table,
                command,
                columns,
            } => fixed_view(f, table, command, columns),
            Self::NoStatistics { table } => write!(
                f,
                "there is no table {table}, so that there are no statistics: set schema.event.table to the app's event \
                 table, or to \"\" if it has none"
            ),
            Self::NoPartition { partition, user } => write!(
                f,
                "there is no partition headcount.{partition}, so that its page views go to the default partition: run \
                 headcount migrate each month, or let the sidecar's role make partitions: {}",
                making_partitions(user).join("; ")
            ),
            Self::NoOwnTable { table } => write!(
                f,
                "there is no table {table}, in which record.events = \"own\" writes page views: run headcount migrate"
            ),
            Self::KeysDisagree { .. } | Self::AccountsDisagree { .. } | Self::NamesAccount { .. } => {
                self.disagreement(f)
            }
            Self::Unfilled {
                table,
                column,
                type_name,
            } => write!(
                f,
                "column {column} ({type_name}) of table {table} is NOT NULL, has no default in the database, \
                 and nothing fills it: set schema.event.constants.{column} = \"…\""
            ),
            Self::NoKey {
                table,
                column,
                type_name,
            } => write!(
                f,
                "column {column} ({type_name}) of table {table} has no default in the database and is no uuid \
                 that the sidecar could make: give it a default, or set record.events = false"
            ),
            Self::UnknownConstant { table, column } => write!(
                f,
                "table {table} has no column {column}: remove schema.event.constants.{column}"
            ),
            Self::NeedlessConstant { table, column } => write!(
                f,
                "column {column} of table {table} is already filled: remove schema.event.constants.{column}"
            ),
            Self::BadConstant {
                table,
                column,
                type_name,
                value,
            } => write!(
                f,
                "\"{value}\" is no value of column {column} ({type_name}) of table {table}: change \
                 schema.event.constants.{column}"
            ),
            Self::Forbidden { right, user, .. } => {
                write!(
                    f,
                    "the database user {user} lacks {right}: {}",
                    grant(right, user)
                )
            }
            Self::NoPolicy {
                table, command, user, ..
            } => no_policy(f, table, command, user),
            Self::ReadOnly => f.write_str(READ_ONLY),
            Self::NoTimeZone { columns } => no_time_zone(f, columns),
            Self::UnknownTimeZone { zone, columns } => unknown_time_zone(f, *zone, columns),
            Self::NoTrigger { table } => write!(
                f,
                "table {table} has no trigger that tells of sessions which end, so that sign-outs are noticed \
                 within session.cache_ttl only: run headcount migrate, or set session.revocation = \"off\""
            ),
        }
    }
}

impl SchemaProblem {
    /// The sentence of references that are not to what they should be.
    fn disagreement(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeysDisagree {
                table,
                column,
                found,
                profile,
                profile_key,
                section,
            } => {
                let or_account = match *section {
                    "session" => {
                        ", or schema.profile.columns.account to the column of that table that it refers to"
                    }
                    _ => "",
                };
                write!(
                    f,
                    "column {column} of table {table} is of type {found}, but the key of table {profile} that it \
                     refers to is of type {profile_key}: set schema.{section}.columns.user_id to the column that \
                     refers to {profile}{or_account}"
                )
            }
            Self::AccountsDisagree {
                table,
                column,
                found,
                profile,
                account,
                account_type,
            } => write!(
                f,
                "column {column} of table {table} is of type {found}, but the account that it refers to, column \
                 {account} of table {profile}, is of type {account_type}: set schema.session.columns.user_id and \
                 schema.profile.columns.account to columns with the same account's key"
            ),
            Self::NamesAccount {
                session,
                user_id,
                account,
                profile,
                column,
            } => {
                match user_id {
                    Some(user_id) => write!(
                        f,
                        "column {user_id} of table {session} refers to table {account} and not to {profile}"
                    )?,
                    None => write!(
                        f,
                        "Django's sessions name accounts, of table {account}, and not rows of {profile}"
                    )?,
                }
                let column = column.as_deref().unwrap_or("…");
                write!(
                    f,
                    ", so that page views would be those of whoever has the same key there: set \
                     schema.profile.columns.account = \"{column}\", the column of {profile} that refers to {account}"
                )
            }
            _ => Ok(()),
        }
    }
}

fn no_django_sessions(f: &mut fmt::Formatter<'_>, table: &str) -> fmt::Result {
    write!(
        f,
        "there is no table {table}: Django keeps sessions there with SESSION_ENGINE = \
         \"django.contrib.sessions.backends.db\" or \"…cached_db\", and sessions of \"…cache\", \"…file\" and \
         \"…signed_cookies\" cannot be read from the database: set SESSION_ENGINE to one of those two, or \
         schema.django_session.table to the name of the table"
    )
}

fn no_counter_tables(f: &mut fmt::Formatter<'_>, role: Option<&str>) -> fmt::Result {
    match role {
        None => f.write_str("the sidecar's own tables of counters are missing: run headcount migrate once"),
        Some(role) => write!(
            f,
            "role {role} may not use the sidecar's own tables of counters: run what `headcount grants --role {role}` prints"
        ),
    }
}

const READ_ONLY: &str = "the database takes no writes (a replica, or default_transaction_read_only is on), so that page \
                         views wait: set database.url to the primary, or to an address that follows it";

fn no_time_zone(f: &mut fmt::Formatter<'_>, columns: &[String]) -> fmt::Result {
    write!(
        f,
        "times in {} have no time zone and are taken as UTC: set database.time_zone to the zone in which the app writes \
         them (\"UTC\" if that is right; Django's TIME_ZONE with USE_TZ = False)",
        columns.join(", ")
    )
}

fn unknown_time_zone(f: &mut fmt::Formatter<'_>, zone: Tz, columns: &[String]) -> fmt::Result {
    write!(
        f,
        "the database server does not know the time zone {zone}, in which times in {} are written: set database.time_zone \
         to another name of it, of those that SELECT name FROM pg_timezone_names answers, or update the server's time \
         zone data (on Debian: packages tzdata and tzdata-legacy)",
        columns.join(", ")
    )
}

fn no_policy(f: &mut fmt::Formatter<'_>, table: &str, command: &str, user: &str) -> fmt::Result {
    let policy = policy(command, table, user);
    write!(
        f,
        "row-level security of table {table} has no policy for {command} by the database user {user}, as if there were \
         no rows: {policy}, or give {user} BYPASSRLS"
    )
}

/// Problems as one error.
#[derive(Debug)]
pub(in crate::store) struct SchemaProblems(pub Vec<SchemaProblem>);

impl fmt::Display for SchemaProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the app's tables are not as configured")?;
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{} {problem}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for SchemaProblems {}
