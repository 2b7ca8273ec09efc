//! Tables that stand in the wrong file or in the wrong form. The parser can only say that it does not know them; each of
//! these has its own remedy.

use toml_edit::{Item, TableLike};

use super::error::{ConfigError, SetBy};
use super::source::{Source, line_of};

/// A table that a kind of file never has, or not in this form.
#[derive(Debug)]
pub struct Misplaced {
    /// Its dotted name.
    pub name: &'static str,
    /// Whether only a single table is meant (`[key]`), where a list of tables (`[[key]]`) would be right.
    pub is_single: bool,
    /// What to write instead.
    pub remedy: &'static str,
}

/// In the main configuration.
pub(super) const IN_CONFIGURATION: [Misplaced; 5] = [
    Misplaced {
        name: "key",
        is_single: false,
        remedy: "write [[api.key]] here, or put it into the file that api.key_file names",
    },
    Misplaced {
        name: "api.key",
        is_single: true,
        remedy: "write [[api.key]], with two brackets: there may be several",
    },
    Misplaced {
        name: "api.keys",
        is_single: false,
        remedy: "write [[api.key]]",
    },
    Misplaced {
        name: "route",
        is_single: false,
        remedy: "put it into a file of its own in the folder that routes.dir names",
    },
    Misplaced {
        name: "routes.route",
        is_single: false,
        remedy: "write [[route]], in a file of its own in the folder that routes.dir names",
    },
];

/// In a file of API keys.
pub(super) const IN_KEY_FILE: [Misplaced; 3] = [
    Misplaced {
        name: "api",
        is_single: false,
        remedy: "write [[key]]: [[api.key]] is for the main configuration, and here are keys alone",
    },
    Misplaced {
        name: "keys",
        is_single: false,
        remedy: "write [[key]]",
    },
    Misplaced {
        name: "key",
        is_single: true,
        remedy: "write [[key]], with two brackets: there may be several",
    },
];

/// In a route file.
pub const IN_ROUTE_FILE: [Misplaced; 2] = [
    Misplaced {
        name: "routes",
        is_single: false,
        remedy: "write [[route]]",
    },
    Misplaced {
        name: "route",
        is_single: true,
        remedy: "write [[route]], with two brackets: there may be several",
    },
];

impl Misplaced {
    /// The first of `all` that a file has, as it is written there, and its line.
    pub fn find<'a>(all: &'a [Self], text: &str) -> Option<(usize, String, &'a Self)> {
        let document = toml_edit::Document::parse(text).ok()?;
        all.iter().find_map(|one| {
            let mut table: &dyn TableLike = document.as_table();
            let (parents, name) = one.name.rsplit_once('.').unwrap_or(("", one.name));
            for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
                table = table.get(parent)?.as_table_like()?;
            }
            let (key, item) = table.get_key_value(name)?;
            let (header, span) = header(one.name, item);
            let (is_table, is_list) = (header.starts_with('['), header.starts_with("[["));
            let is_it = is_table && !(one.is_single && is_list);
            let start = span.or_else(|| key.span()).map_or(0, |span| span.start);
            is_it.then(|| (line_of(text, start), header, one))
        })
    }
}

/// A table's header as the file has it, and where that begins.
fn header(name: &str, item: &Item) -> (String, Option<std::ops::Range<usize>>) {
    match item {
        Item::ArrayOfTables(tables) => {
            let first = tables.get(0).and_then(toml_edit::Table::span);
            (format!("[[{name}]]"), first)
        }
        Item::Table(table) => {
            // `[[api.key]]` alone makes `api` without a header of its own.
            let within = table.iter().find_map(|(key, item)| match item {
                Item::ArrayOfTables(_) | Item::Table(_) if table.is_implicit() => {
                    Some(header(&format!("{name}.{key}"), item))
                }
                _ => None,
            });
            within.unwrap_or_else(|| (format!("[{name}]"), table.span()))
        }
        Item::None | Item::Value(_) => (name.to_owned(), item.span()),
    }
}

impl Source {
    /// Refuses tables that this kind of file never has.
    pub(super) fn refuse(&self, all: &[Misplaced]) -> Result<(), ConfigError> {
        match Misplaced::find(all, &self.text) {
            None => Ok(()),
            Some((line, header, misplaced)) => Err(ConfigError {
                set_by: SetBy::File(self.path.clone(), Some(line)),
                key: None,
                problem: format!("{header} has no place in this file; {}", misplaced.remedy),
            }),
        }
    }
}
