//! What may be wrong with a table by which a community is found. A sentence names table and column and ends with the cure.

use std::fmt;

/// What is wrong with a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentences in `Display` say what the fields are")]
pub enum LookupFault {
    MissingTable(String),
    MissingColumn {
        table: String,
        column: String,
        key: &'static str,
    },
    WrongType {
        table: String,
        column: String,
        found: String,
        key: &'static str,
    },
    KeysDisagree {
        table: String,
        column: String,
        found: String,
        community_key: String,
    },
}

impl fmt::Display for LookupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTable(table) => write!(
                f,
                "there is no table {table}: set its table to the name of the app's table, or remove the section"
            ),
            Self::MissingColumn { table, column, key } => write!(
                f,
                "table {table} has no column {column}: set its {key} to the name of the app's column"
            ),
            Self::WrongType {
                table,
                column,
                found,
                key,
            } => write!(
                f,
                "{table}.{column} is {found}, must be an integer, uuid or text: set its {key} to another column"
            ),
            Self::KeysDisagree {
                table,
                column,
                found,
                community_key,
            } => write!(
                f,
                "{table}.{column} is {found} and the key of communities is {community_key}: set its community to the \
                 column that refers to the community"
            ),
        }
    }
}
