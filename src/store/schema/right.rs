//! A right that the database role needs on one of the app's tables. Pure.

use super::{Column, LiveTable, Privilege, TableName};

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
