//! Where a value of a user is: a column of the table of users, or of one beside it with one row for each user.

use crate::init::catalogue::{Table, Tables};
use crate::init::guess::text;
use crate::store::catalogue::CatalogueColumn;

/// Words in names of tables that hold what people say of themselves.
const ABOUT_PEOPLE: &[&str] = &[
    "profile", "member", "user", "account", "person", "people", "player", "author", "persona",
];

/// Words in names of columns that say so by themselves.
const TELLING: &[&str] = &["nick", "display", "screen", "username", "avatar", "profile"];

/// A column of the table, or of another.
#[derive(Clone, Copy)]
pub(super) enum Place<'t> {
    Here(&'t CatalogueColumn),
    There(Beside<'t>, &'t CatalogueColumn),
}

/// A table with one row for a user: where its `key` equals `of` of the table of users.
#[derive(Clone, Copy)]
pub(super) struct Beside<'t> {
    pub table: &'t Table,
    key: &'t str,
    of: &'t str,
    /// The table of users belongs to it, as a profile to its account.
    is_owner: bool,
}

impl<'t> Place<'t> {
    pub(super) fn column(&self) -> &'t CatalogueColumn {
        match self {
            Self::Here(column) | Self::There(_, column) => column,
        }
    }

    /// Whether it is the column that is meant without being named.
    pub(super) fn is_default(&self, name: &str) -> bool {
        matches!(self, Self::Here(column) if column.name == name)
    }

    /// As the configuration has it.
    pub(super) fn toml(&self) -> String {
        match self {
            Self::Here(column) => text(&column.name),
            Self::There(beside, column) => format!(
                "{{ table = {}, key = {}, of = {}, column = {} }}",
                text(&beside.table.configured()),
                text(beside.key),
                text(beside.of),
                text(&column.name)
            ),
        }
    }

    /// For a sentence: the column, with its table where that is another.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Here(column) => column.name.clone(),
            Self::There(beside, column) => format!("{}.{}", beside.table.configured(), column.name),
        }
    }
}

/// The tables beside one: those that it belongs to, those that belong to a row of it alone, and those that belong, like it,
/// to a row of a third.
pub(super) fn beside<'t>(tables: &'t Tables, table: &'t Table) -> Vec<Beside<'t>> {
    // A key that is unique, and then any other.
    let mut outward: Vec<_> = table
        .columns
        .iter()
        .filter_map(|column| Some((column, column.references.as_ref()?, tables.target(column)?)))
        .filter(|(column, _, target)| {
            !std::ptr::eq(*target, table) && (column.is_unique || target.is_of("user"))
        })
        .collect();
    outward.sort_by_key(|(column, ..)| !column.is_unique);
    let owners = outward.iter().map(|(of, to, target)| Beside {
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

/// The tables of which one row at most refers to a row of `target`.
fn alone<'t>(
    tables: &'t Tables,
    target: &'t Table,
    except: &'t Table,
    of: &'t str,
) -> impl Iterator<Item = Beside<'t>> {
    let refer = tables.that_refer_to(target);
    let alone = refer.filter(move |(other, key)| key.is_unique && !std::ptr::eq(*other, except));
    alone.map(move |(table, key)| Beside {
        table,
        key: &key.name,
        of,
        is_owner: false,
    })
}

/// The first column by one of these names, nearest first. What others call so (a customer's name, a shop's picture) is not
/// the user's.
pub(super) fn named<'t>(
    table: &'t Table,
    beside: &[Beside<'t>],
    names: &[&str],
    fits: fn(crate::store::schema::Kind) -> bool,
) -> Option<Place<'t>> {
    if let Some(column) = table.named(names, fits) {
        return Some(Place::Here(column));
    }
    beside.iter().find_map(|beside| {
        let column = beside.table.named(names, fits)?;
        let word = beside.table.word();
        let has = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
        let is_about_people =
            beside.is_owner || has(&word, ABOUT_PEOPLE) || has(&column.name.to_ascii_lowercase(), TELLING);
        is_about_people.then_some(Place::There(*beside, column))
    })
}
