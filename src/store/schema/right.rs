//! Rights that the database role needs on the app's tables, and their SQL: one source for `headcount grants` and for each
//! sentence that says what the role lacks. Pure.

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
}

impl Right {
    pub(super) fn new(table: &LiveTable, privilege: Privilege, columns: &[&Column]) -> Self {
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
        }
    }
}

/// An identifier as SQL has it, within one line.
pub(in crate::store) fn quoted(name: &str) -> String {
    one_line(&Dialect::Postgres.quoted(name))
}

/// Rights on the sidecar's own tables of counters, in the schema `headcount`: privileges, and tables.
pub(in crate::store) const OF_COUNTERS: [(&[&str], &[&str]); 3] = [
    (
        &["SELECT", "INSERT", "UPDATE", "DELETE"],
        &["counter", "counter_visitor"],
    ),
    (&["SELECT", "INSERT", "DELETE"], &["counter_delta"]),
    (&["SELECT", "UPDATE"], &["counter_lease"]),
];

/// Privileges on tables of the sidecar's own schema.
pub(in crate::store) fn on_own_tables(privileges: &[&str], tables: &[&str]) -> String {
    let tables: Vec<_> = tables.iter().map(|table| format!("headcount.{table}")).collect();
    format!("{} ON TABLE {}", privileges.join(", "), tables.join(", "))
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

/// The statement that gives `right`, which is written as between GRANT and TO, to a role, quoted.
pub(in crate::store) fn grant(right: &str, role: &str) -> String {
    format!("GRANT {right} TO {role}")
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

/// The statements after which a role, quoted, makes the partitions of our own event table itself.
pub(in crate::store) fn making_partitions(role: &str) -> [String; 3] {
    let owner = |table: &str| format!("ALTER TABLE headcount.{table} OWNER TO {role}");
    [
        owner("page_view"),
        owner("page_view_default"),
        grant("CREATE ON SCHEMA headcount", role),
    ]
}

/// The policy by which row-level security lets a role, quoted, see or write each row of a table.
pub(in crate::store) fn policy(command: &str, table: &str, role: &str) -> String {
    let condition = if command == Privilege::Insert.sql() {
        "WITH CHECK"
    } else {
        "USING"
    };
    format!(
        "CREATE POLICY headcount_{} ON {} FOR {command} TO {role} {condition} (true)",
        command.to_lowercase(),
        one_line(table)
    )
}
