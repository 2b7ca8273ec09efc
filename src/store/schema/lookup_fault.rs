//! What may be wrong with a table by which a community is found. A sentence names table and column and ends with the cure.

/// What is wrong with a lookup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say what the fields are")]
pub enum LookupFault {
    #[error("there is no table {0}: set its table to the name of the app's table, or remove the section")]
    MissingTable(String),
    #[error("table {table} has no column {column}: set its {key} to the name of the app's column")]
    MissingColumn {
        table: String,
        column: String,
        key: &'static str,
    },
    #[error("{table}.{column} is {found}, must be an integer, uuid or text: set its {key} to another column")]
    WrongType {
        table: String,
        column: String,
        found: String,
        key: &'static str,
    },
    #[error(
        "{table}.{column} is {found} and the key of communities is {community_key}: set its community to the column that \
         refers to the community"
    )]
    KeysDisagree {
        table: String,
        column: String,
        found: String,
        community_key: String,
    },
}
