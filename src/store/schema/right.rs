//! Rights that the database role needs on the app's tables, and their SQL: one source for `headcount grants` and for each
//! sentence that says what the role lacks. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Column, Dialect, LiveTable, TableName};
use crate::printable::is_unprintable;

/// A privilege on columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Privilege {
    Select,
    Insert,
    Update,
}

impl Privilege {
    pub(in crate::store) fn sql(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
        }
    }
}

/// What is not done without the rights that one statement gives.
pub(in crate::store) type Effects = BTreeSet<Effect>;

/// What is not done without a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Effect {
    /// The ledger cannot be used, which its own problem says.
    Ledger,
    /// Counters cannot be written.
    Counters,
    /// Something else than an insert of page views.
    Other,
    /// No page view can be written.
    Writes,
}

/// One privilege on columns of a table.
#[derive(Debug, Clone)]
pub(in crate::store) struct Right {
    pub table: TableName,
    pub privilege: Privilege,
    /// Names, unquoted.
    pub columns: Vec<String>,
    /// Sequences that an insert takes keys from, quoted as SQL.
    pub sequences: Vec<String>,
    /// The table has row-level security.
    pub row_security: bool,
    pub effect: Effect,
}

impl Right {
    pub(super) fn new(
        table: &LiveTable,
        privilege: Privilege,
        columns: &[&Column],
        is_of_counters: bool,
    ) -> Self {
        let sequences = match privilege {
            Privilege::Insert => table
                .columns
                .iter()
                .filter(|live| columns.iter().all(|column| column.name != live.column.name))
                .filter_map(|live| live.sequence.clone())
                .collect(),
            Privilege::Select | Privilege::Update => Vec::new(),
        };
        Self {
            table: table.name.clone(),
            privilege,
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            sequences,
            row_security: table.row_security,
            effect: match privilege {
                _ if is_of_counters => Effect::Counters,
                Privilege::Insert => Effect::Writes,
                Privilege::Select | Privilege::Update => Effect::Other,
            },
        }
    }

    /// What of it the role lacks.
    pub(super) fn lacking(&self, table: &LiveTable) -> Self {
        let mut lacking = self.clone();
        lacking.columns.retain(|name| {
            let live = table.find(name);
            live.is_some_and(|live| match self.privilege {
                Privilege::Select => !live.may_select,
                Privilege::Insert => !live.may_insert,
                Privilege::Update => !live.may_update,
            })
        });
        let is_locked = |sequence: &String| {
            let mut columns = table.columns.iter();
            columns.any(|live| live.locked_sequence.as_ref() == Some(sequence))
        };
        lacking.sequences.retain(is_locked);
        lacking
    }

    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.sequences.is_empty()
    }
}

/// An identifier as SQL has it, within one line.
pub(in crate::store) fn quoted(name: &str) -> String {
    one_line(&Dialect::Postgres.quoted(name))
}

/// One of the sidecar's own tables, in the schema [`OWN`], with the privileges that are needed on it.
pub(in crate::store) type OwnTable = (&'static str, &'static [&'static str]);

/// The sidecar's own schema.
pub(in crate::store) const OWN: &str = "headcount";

/// The ledger.
pub(in crate::store) const OF_LEDGER: &[OwnTable] = &[
    ("applied_batch", &["SELECT", "INSERT", "DELETE"]),
    ("format", &["SELECT"]),
];

/// The sidecar's tables of counters.
pub(in crate::store) const OF_COUNTERS: &[OwnTable] = &[
    ("counter", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("counter_visitor", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("counter_delta", &["SELECT", "INSERT", "DELETE"]),
    ("counter_lease", &["SELECT", "UPDATE"]),
];

/// Privileges on one of the sidecar's own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct OwnRight {
    pub table: &'static str,
    pub privileges: Vec<&'static str>,
}

impl OwnRight {
    /// All of these.
    pub(in crate::store) fn of(tables: &[OwnTable]) -> Vec<Self> {
        let right = |(table, privileges): &OwnTable| Self {
            table,
            privileges: privileges.to_vec(),
        };
        tables.iter().map(right).collect()
    }

    /// As between GRANT and TO; neighbours with the same privileges are one.
    pub(in crate::store) fn statements(rights: &[Self]) -> Vec<String> {
        let groups = rights.chunk_by(|one, next| one.privileges == next.privileges);
        let statement = |group: &[Self]| {
            let tables: Vec<_> = group
                .iter()
                .map(|right| format!("{OWN}.{}", right.table))
                .collect();
            format!(
                "{} ON TABLE {}",
                group[0].privileges.join(", "),
                tables.join(", ")
            )
        };
        groups.map(statement).collect()
    }
}

/// The state of some of the sidecar's own tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) enum OwnTables {
    /// They are there, or not wanted.
    #[default]
    Usable,
    /// They were not made.
    Missing,
    /// The role lacks rights: the use of their schema, or these.
    Forbidden { usage: bool, rights: Vec<OwnRight> },
}

impl OwnTables {
    /// Whether a batch can leave behind what it adds to counters: one statement of its transaction.
    pub(super) fn take_deltas(&self) -> bool {
        match self {
            Self::Usable => true,
            Self::Missing => false,
            Self::Forbidden { usage, rights } => {
                let refuses =
                    |right: &OwnRight| right.table == "counter_delta" && right.privileges.contains(&"INSERT");
                !usage && !rights.iter().any(refuses)
            }
        }
    }
}

/// Identifiers that are quoted already, with control characters and those that end or turn a line escaped: a name stays
/// within its line, in comments too.
pub(in crate::store) fn one_line(sql: &str) -> String {
    if !sql.contains(is_unprintable) {
        return sql.to_owned();
    }
    let mut line = String::new();
    // Quotes within an identifier are doubled, so that each part between two quotes is inside or outside.
    for (number, part) in sql.split('"').enumerate() {
        if number > 0 {
            line.push('"');
        }
        if number % 2 == 0 {
            line.push_str(part);
            continue;
        }
        // `""` within an identifier begins no new one.
        let begins = !line.ends_with("\"\"");
        if begins {
            line.truncate(line.len() - 1);
            line.push_str("U&\"");
        }
        for c in part.chars() {
            match c {
                '\\' => line.push_str("\\\\"),
                c if is_unprintable(c) => {
                    let _ = write!(line, "\\+{:06X}", u32::from(c));
                }
                c => line.push(c),
            }
        }
    }
    line
}

/// The whole statement that gives `right`, which is written as between GRANT and TO, to a role, quoted.
pub(in crate::store) fn grant(right: &str, role: &str) -> String {
    format!("GRANT {right} TO {role};")
}

/// The right to connect to a database.
pub(in crate::store) fn connecting(database: &str) -> String {
    format!("CONNECT ON DATABASE {}", quoted(database))
}

/// The right to find anything in a schema.
pub(in crate::store) fn usage_of_schema(schema: &str) -> String {
    format!("USAGE ON SCHEMA {}", quoted(schema))
}

/// The right to take keys from a sequence, quoted.
pub(in crate::store) fn usage_of_sequence(sequence: &str) -> String {
    format!("USAGE ON SEQUENCE {}", one_line(sequence))
}

/// Privileges on columns, each at least one: `SELECT ("id", "slug"), INSERT ("id") ON TABLE "t"`.
pub(in crate::store) fn on_columns<'a>(
    privileges: impl IntoIterator<Item = (Privilege, &'a [String])>,
    table: &TableName,
) -> String {
    let privileges = privileges.into_iter().map(|(privilege, columns)| {
        let columns: Vec<_> = columns.iter().map(|column| quoted(column)).collect();
        format!("{} ({})", privilege.sql(), columns.join(", "))
    });
    format!(
        "{} ON TABLE {}",
        privileges.collect::<Vec<_>>().join(", "),
        one_line(&table.to_string())
    )
}

/// The whole statements after which a role, quoted, makes the partitions of our own event table itself.
pub(in crate::store) fn making_partitions(role: &str) -> [String; 3] {
    let owner = |table: &str| format!("ALTER TABLE headcount.{table} OWNER TO {role};");
    [
        owner("page_view"),
        owner("page_view_default"),
        grant("CREATE ON SCHEMA headcount", role),
    ]
}

/// The whole statement of the policy by which row-level security lets a role, quoted, see or write each row of a table.
pub(in crate::store) fn policy(command: &str, table: &str, role: &str) -> String {
    let condition = if command == Privilege::Insert.sql() {
        "WITH CHECK"
    } else {
        "USING"
    };
    format!(
        "CREATE POLICY headcount_{} ON {} FOR {command} TO {role} {condition} (true);",
        command.to_lowercase(),
        one_line(table)
    )
}
