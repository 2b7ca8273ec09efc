//! Finds the column with a value of a user: in the table of users, or in a table with one row per user that is joined to it.

use crate::init::catalogue::{AppTable, AppTables};
use crate::init::guess::text;
use crate::store::catalogue::CatalogueColumn;

/// Words in names of tables with data about people.
const ABOUT_PEOPLE: &[&str] = &[
    "profile", "member", "user", "account", "person", "people", "player", "author", "persona",
];

/// Words in names of columns that hold data about people whatever their table.
const TELLING: &[&str] = &["nick", "display", "screen", "username", "avatar", "profile"];

/// A column of the table of users, or of a table joined to it.
#[derive(Clone, Copy)]
pub(super) enum UserColumn<'t> {
    Own(&'t CatalogueColumn),
    Joined(JoinedTable<'t>, &'t CatalogueColumn),
}

/// A table with one row per user, joined where its column `key` equals the column `of` of the table of users.
#[derive(Clone, Copy)]
pub(super) struct JoinedTable<'t> {
    pub table: &'t AppTable,
    key: &'t str,
    of: &'t str,
    /// The table of users refers to it, as a profile to its account.
    is_owner: bool,
}

impl<'t> UserColumn<'t> {
    pub(super) fn column(&self) -> &'t CatalogueColumn {
        match self {
            Self::Own(column) | Self::Joined(_, column) => column,
        }
    }

    /// Whether it is the column that the configuration means by default.
    pub(super) fn is_default(&self, name: &str) -> bool {
        matches!(self, Self::Own(column) if column.name == name)
    }

    /// The configuration's value for it, as TOML.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Own(column) => text(&column.name),
            Self::Joined(joined, column) => format!(
                "{{ table = {}, key = {}, of = {}, column = {} }}",
                text(&joined.table.configured()),
                text(joined.key),
                text(joined.of),
                text(&column.name)
            ),
        }
    }

    /// Its name in messages: with its table where that is joined.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Own(column) => column.name.clone(),
            Self::Joined(joined, column) => format!("{}.{}", joined.table.configured(), column.name),
        }
    }
}

/// The tables that can be joined to `table` with one row per user: those it refers to, those with a unique reference to it,
/// and those with a unique reference to a table that it refers to.
pub(super) fn joined_tables<'t>(tables: &'t AppTables, table: &'t AppTable) -> Vec<JoinedTable<'t>> {
    // Unique references first.
    let mut outward: Vec<_> = table
        .columns
        .iter()
        .filter_map(|column| Some((column, column.references.as_ref()?, tables.target(column)?)))
        .filter(|(column, _, target)| {
            !std::ptr::eq(*target, table) && (column.is_unique || target.is_of("user"))
        })
        .collect();
    outward.sort_by_key(|(column, ..)| !column.is_unique);
    let owners = outward.iter().map(|(of, to, target)| JoinedTable {
        table: target,
        key: &to.column,
        of: &of.name,
        is_owner: true,
    });
    let inward = table
        .key()
        .into_iter()
        .flat_map(|of| alone(tables, table, table, &of.name));
    let siblings = outward
        .iter()
        .flat_map(|(of, _, target)| alone(tables, target, table, &of.name));
    owners.chain(inward).chain(siblings).collect()
}

/// The tables with a unique reference to `target`.
fn alone<'t>(
    tables: &'t AppTables,
    target: &'t AppTable,
    except: &'t AppTable,
    of: &'t str,
) -> impl Iterator<Item = JoinedTable<'t>> {
    let refer = tables.that_refer_to(target);
    let alone = refer.filter(move |(other, key)| key.is_unique && !std::ptr::eq(*other, except));
    alone.map(move |(table, key)| JoinedTable {
        table,
        key: &key.name,
        of,
        is_owner: false,
    })
}

/// The first column with one of these names: in the table of users, else in a joined one. Joined tables that are not about
/// people are left out (a customer's name, a shop's picture).
pub(super) fn named<'t>(
    table: &'t AppTable,
    joined: &[JoinedTable<'t>],
    names: &[&str],
    fits: fn(crate::store::schema::Kind) -> bool,
) -> Option<UserColumn<'t>> {
    if let Some(column) = table.named(names, fits) {
        return Some(UserColumn::Own(column));
    }
    joined.iter().find_map(|joined| {
        let column = joined.table.named(names, fits)?;
        let word = joined.table.word();
        let has = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
        let is_about_people =
            joined.is_owner || has(&word, ABOUT_PEOPLE) || has(&column.name.to_ascii_lowercase(), TELLING);
        is_about_people.then_some(UserColumn::Joined(*joined, column))
    })
}
