//! Why a column for a count cannot be used, with the cure. Pure.

use std::fmt;

use super::Dialect;

/// A column for a count cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterFault {
    /// Where the configuration names it: file, line and key.
    pub(super) place: String,
    /// The table, as SQL.
    pub(super) table: String,
    /// The column, as SQL.
    pub(super) column: String,
    pub(super) why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    /// The table is a view, to which no column can be added.
    View,
    Type {
        found: String,
        expected: &'static str,
    },
    Generated,
    /// Communities are known by it.
    Taken,
    /// NOT NULL, so that the app cannot insert a community without it.
    NoDefault(Dialect),
}

impl fmt::Display for CounterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            table,
            column,
            why,
        } = self;
        write!(f, "{place}: ")?;
        match why {
            Why::Missing => write!(
                f,
                "table {table} has no column {column}: run headcount migrate as the table's owner, or name the column that \
                 holds it, or \"\" for none"
            ),
            Why::View => write!(
                f,
                "table {table} is a view, to which headcount migrate can add no column {column}: set [counters] enabled = false, \
                 or name as schema.community.table the table under it"
            ),
            Why::Type { found, expected } => write!(
                f,
                "column {column} of table {table} is of type {found} where {expected} is needed: name a column of that type, \
                 or \"\" for none"
            ),
            Why::Generated => write!(
                f,
                "column {column} of table {table} is computed by the database and cannot be written: name another, or \"\" \
                 for none"
            ),
            Why::Taken => write!(
                f,
                "column {column} of table {table} is a key of communities, which a count would overwrite: name another, or \
                 \"\" for none"
            ),
            Why::NoDefault(Dialect::Postgres) => write!(
                f,
                "column {column} of table {table} is NOT NULL without a default in the database, so that a community cannot \
                 be inserted without it: give it one (Django: db_default=0 in the model's field), or run: ALTER TABLE {table} \
                 ALTER COLUMN {column} SET DEFAULT 0;"
            ),
            Why::NoDefault(Dialect::Sqlite) => write!(
                f,
                "column {column} of table {table} is NOT NULL without a default in the database, so that a community cannot \
                 be inserted without it: give it one (Django: db_default=0 in the model's field)"
            ),
        }
    }
}
