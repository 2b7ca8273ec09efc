//! One table as the catalogue has it: columns, rights, foreign keys.

use super::{Column, TableName};

/// One table of the catalogue.
#[derive(Debug, Clone)]
pub(in crate::store) struct LiveTable {
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
pub(in crate::store) struct Reference {
    pub column: String,
    pub table: TableName,
}

impl LiveTable {
    /// Whether it has a column of this name.
    pub(in crate::store) fn has(&self, column: &str) -> bool {
        self.find(column).is_some()
    }

    /// Whether it is our own event table.
    pub(in crate::store) fn is_own(&self) -> bool {
        self.name.schema.as_deref() == Some("headcount") && self.name.name == "page_view"
    }
}

/// What a view does not take. All false for a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Fixed {
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
pub(in crate::store) struct LiveColumn {
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
