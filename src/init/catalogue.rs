//! The app's tables for the guesses: the database's catalogue, completed from the site's own models. Pure.

use std::collections::BTreeMap;

use super::django::{DjangoSite, Model};
use crate::store::catalogue::{Catalogue, CatalogueColumn, CatalogueReference, CatalogueTable};
use crate::store::schema::Kind;

/// All tables.
#[derive(Debug, Clone, Default)]
pub(super) struct AppTables(pub Vec<AppTable>);

/// One table of the app.
#[derive(Debug, Clone)]
pub(super) struct AppTable {
    pub schema: String,
    pub name: String,
    pub is_visible: bool,
    /// Name of the model in lower case, where the site was asked.
    pub model: Option<String>,
    /// Label of its app, where the site was asked.
    pub app: Option<String>,
    pub columns: Vec<CatalogueColumn>,
    /// Values that the model gives columns without a default in the database.
    pub defaults: BTreeMap<String, String>,
}

impl AppTables {
    pub(super) fn new(catalogue: Catalogue, site: Option<&DjangoSite>) -> Self {
        let models = site.map(|site| &*site.models).unwrap_or_default();
        let tables = catalogue.tables.into_iter();
        let mut tables: Vec<_> = tables.map(|table| AppTable::new(table, models)).collect();
        // Of several tables with one name, the one that unqualified names refer to comes first.
        tables.sort_by_key(|table| !table.is_visible);
        Self(tables)
    }

    /// The table that a column refers to.
    pub(super) fn target(&self, column: &CatalogueColumn) -> Option<&AppTable> {
        self.0.iter().find(|table| table.is_target(column))
    }

    /// Tables with a column that refers to `table`, and that column.
    pub(super) fn that_refer_to<'t>(
        &'t self,
        table: &'t AppTable,
    ) -> impl Iterator<Item = (&'t AppTable, &'t CatalogueColumn)> {
        self.0.iter().flat_map(move |other| {
            let columns = other.columns.iter().filter(move |column| table.is_target(column));
            columns.map(move |column| (other, column))
        })
    }

    /// The table that an operator names: as configured, or as a model, `app_label.Model`.
    pub(super) fn called(&self, name: &str) -> Option<&AppTable> {
        let model = name
            .split_once('.')
            .map(|(app, model)| (app, model.to_ascii_lowercase()));
        let is_model = |table: &&AppTable| {
            let (Some((app, model)), Some(own)) = (&model, &table.model) else {
                return false;
            };
            own == model
                && table
                    .app
                    .as_deref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(app))
        };
        let mut tables = self.0.iter();
        tables
            .find(|table| table.configured() == name)
            .or_else(|| self.by_name(name))
            .or_else(|| self.0.iter().find(is_model))
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&AppTable> {
        self.0.iter().find(|table| table.has_db_table(name))
    }
}

impl AppTable {
    fn new(table: CatalogueTable, models: &[Model]) -> Self {
        let mut new = Self {
            schema: table.schema,
            name: table.name,
            is_visible: table.is_visible,
            model: None,
            app: None,
            columns: table.columns,
            defaults: BTreeMap::new(),
        };
        if let Some(model) = models.iter().find(|model| new.has_db_table(&model.table)) {
            new.model = Some(model.name.clone());
            new.app = Some(model.app.clone());
            for field in &model.fields {
                let Some(column) = new.columns.iter_mut().find(|column| column.name == field.column) else {
                    continue;
                };
                if column.references.is_none() {
                    column.references = field.refers.as_ref().map(|refers| {
                        let (schema, table) = split(&refers.table);
                        CatalogueReference {
                            schema: schema.unwrap_or_default(),
                            table,
                            column: refers.column.clone(),
                        }
                    });
                }
                column.is_unique |= field.unique;
                if let Some(default) = &field.default {
                    new.defaults.insert(field.column.clone(), default.text());
                }
            }
        }
        new
    }

    /// Whether Django's `db_table` means this table; `schema"."name` is the usual way to name one in another schema.
    fn has_db_table(&self, db_table: &str) -> bool {
        let (schema, name) = split(db_table);
        self.name == name && schema.is_none_or(|schema| self.schema == schema)
    }

    fn is_target(&self, column: &CatalogueColumn) -> bool {
        column
            .references
            .as_ref()
            .is_some_and(|to| to.table == self.name && (to.schema.is_empty() || to.schema == self.schema))
    }

    /// The name in the configuration: with its schema where that is needed.
    pub(super) fn configured(&self) -> String {
        if self.is_visible {
            self.name.clone()
        } else {
            format!("{}.{}", self.schema, self.name)
        }
    }

    pub(super) fn key(&self) -> Option<&CatalogueColumn> {
        self.columns.iter().find(|column| column.is_key)
    }

    /// The column with the first of these names that exists with a fitting type.
    pub(super) fn named(&self, names: &[&str], fits: fn(Kind) -> bool) -> Option<&CatalogueColumn> {
        let of = |name: &&str| {
            let mut columns = self.columns.iter();
            columns.find(|column| column.name.eq_ignore_ascii_case(name) && fits(column.kind))
        };
        names.iter().find_map(of)
    }

    /// Whether this is the table of a model with that name (singular): by the model where it is known, else by the end of the
    /// table's name, which Django prefixes with the app's.
    pub(super) fn is_of(&self, model: &str) -> bool {
        if let Some(known) = &self.model {
            return known == &model.replace('_', "");
        }
        let name = self.name.to_ascii_lowercase();
        let is_end = |end: &str| name == end || name.ends_with(&format!("_{end}"));
        is_end(model) || is_end(&plural(model))
    }

    /// Whether its model's name ends with `model`, as `studygroup` with `group`.
    pub(super) fn ends_with(&self, model: &str) -> bool {
        let word = self.word();
        word.strip_suffix(model).is_some_and(|before| !before.is_empty())
    }

    /// Whether it is a join table: its rows only connect rows of other tables.
    pub(super) fn only_connects(&self) -> bool {
        let references = self
            .columns
            .iter()
            .filter(|column| column.references.is_some())
            .count();
        let has_text = self
            .columns
            .iter()
            .any(|column| is_text(column.kind) && !column.is_key);
        references > 1 && !has_text
    }

    /// The word for one row: the model's name, else the last word of the table's, in the singular.
    pub(super) fn word(&self) -> String {
        match &self.model {
            Some(model) => model.clone(),
            None => singular(
                self.name
                    .to_ascii_lowercase()
                    .rsplit('_')
                    .next()
                    .unwrap_or_default(),
            ),
        }
    }
}

/// Splits `schema"."name`, or a bare name.
fn split(db_table: &str) -> (Option<String>, String) {
    match db_table.split_once("\".\"") {
        Some((schema, name)) => (
            Some(schema.trim_matches('"').to_owned()),
            name.trim_matches('"').to_owned(),
        ),
        None => (None, db_table.trim_matches('"').to_owned()),
    }
}

pub(super) fn plural(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{word}s"),
    }
}

/// The singular: `community` for `communities`. A singular stays.
pub(super) fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies") {
        return format!("{stem}y");
    }
    match word.strip_suffix('s') {
        Some(stem) if !stem.ends_with('s') => stem.to_owned(),
        _ => word.to_owned(),
    }
}

pub(super) fn is_text(kind: Kind) -> bool {
    kind == Kind::Text
}

pub(super) fn is_key(kind: Kind) -> bool {
    is_count(kind) || matches!(kind, Kind::Uuid | Kind::Text)
}

pub(super) fn is_count(kind: Kind) -> bool {
    matches!(kind, Kind::SmallInt | Kind::Integer | Kind::BigInt)
}

pub(super) fn is_moment(kind: Kind) -> bool {
    matches!(kind, Kind::Timestamp | Kind::TimestampTz)
}

pub(super) fn is_flag(kind: Kind) -> bool {
    kind == Kind::Bool
}

pub(super) fn is_json(kind: Kind) -> bool {
    matches!(kind, Kind::Json | Kind::Jsonb | Kind::Text)
}

pub(super) fn is_address(kind: Kind) -> bool {
    matches!(kind, Kind::Inet | Kind::Text)
}
