//! The tables of a database as its catalogue has them, whatever the configuration says: for `headcount init`, which has
//! none yet. Pure; `postgres::catalogue` and `sqlite::catalogue` read it.

use super::schema::Kind;

/// Most columns that are read; a database with more is a mistake, or not one site's.
pub(super) const MAX_COLUMNS: i64 = 50_000;

/// The tables of a database, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// Postgres; otherwise SQLite.
    pub is_postgres: bool,
    /// The role that was asked with, where it may do more than a role of the sidecar's own: it is a superuser, or owns
    /// tables.
    pub owner: Option<String>,
    /// Tables and views.
    pub tables: Vec<CatalogueTable>,
}

/// One table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueTable {
    /// Its schema; empty on SQLite.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is found without its schema.
    pub is_visible: bool,
    /// In the table's order.
    pub columns: Vec<CatalogueColumn>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts from the catalogue"
)]
pub struct CatalogueColumn {
    /// Its name.
    pub name: String,
    /// The kind of its values.
    pub kind: Kind,
    /// The type as the database writes it.
    pub type_name: String,
    /// Whether it may be null.
    pub is_nullable: bool,
    /// Whether it alone is the primary key.
    pub is_key: bool,
    /// Whether it alone is unique.
    pub is_unique: bool,
    /// Whether the database fills it when an insert omits it.
    pub has_default: bool,
    /// Most characters, for `varchar(n)`.
    pub max_length: Option<usize>,
    /// What a foreign key refers to.
    pub references: Option<CatalogueReference>,
}

/// What a column refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueReference {
    /// The table's schema; empty on SQLite.
    pub schema: String,
    /// The table.
    pub table: String,
    /// Its column.
    pub column: String,
}

/// A column with its table, as both databases list them; rows of one table are together.
pub(super) struct Listed {
    pub schema: String,
    pub table: String,
    pub is_visible: bool,
    pub column: CatalogueColumn,
}

/// The tables of a list of columns.
pub(super) fn tables(columns: impl IntoIterator<Item = Listed>) -> Vec<CatalogueTable> {
    let mut tables: Vec<CatalogueTable> = Vec::new();
    for listed in columns {
        match tables.last_mut() {
            Some(table) if table.schema == listed.schema && table.name == listed.table => {
                // A column of two foreign keys is listed twice.
                if !table
                    .columns
                    .iter()
                    .any(|column| column.name == listed.column.name)
                {
                    table.columns.push(listed.column);
                }
            }
            _ => tables.push(CatalogueTable {
                schema: listed.schema,
                name: listed.table,
                is_visible: listed.is_visible,
                columns: vec![listed.column],
            }),
        }
    }
    tables
}
