//! All rights that a role needs, or those of them that it lacks: for `headcount grants` and for whoever says what is missing,
//! in one order. Pure.

use std::collections::BTreeMap;

use super::right::{
    Effect, Effects, OWN, OwnRight, OwnTables, grant, on_columns, usage_of_schema, usage_of_sequence,
};
use super::{Privilege, Right, SchemaProblem, TableName};
use crate::store::ledger::LedgerProblem;

/// Rights on tables and what they are in.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Rights {
    /// The use of schemas, by their names.
    pub schemas: BTreeMap<String, Effects>,
    /// On the app's tables, and on our own event table, in the order in which these are checked; one that is given already
    /// keeps its place, without columns.
    pub tables: Vec<Right>,
    /// On the tables of the ledger, then on those of counters.
    pub own: Vec<(Effect, OwnRight)>,
}

/// What one GRANT gives: as between GRANT and TO.
pub(in crate::store) struct GrantedRight {
    pub right: String,
    pub effects: Effects,
}

impl Rights {
    /// The use of a schema.
    pub(super) fn use_of(&mut self, schema: &str, effect: Effect) {
        self.schemas.entry(schema.to_owned()).or_default().insert(effect);
    }

    /// Rights on tables of the sidecar's own.
    pub(super) fn on_own(&mut self, rights: Vec<OwnRight>, effect: Effect) {
        self.own.extend(rights.into_iter().map(|right| (effect, right)));
    }

    /// What of the sidecar's own tables is lacking.
    pub(super) fn of_own(&mut self, tables: &OwnTables, effect: Effect) {
        if let OwnTables::Forbidden { usage, rights } = tables {
            if *usage {
                self.use_of(OWN, effect);
            }
            self.on_own(rights.clone(), effect);
        }
    }

    /// The statements that give them: schemas, tables with their sequences, the sidecar's own tables. Each once.
    pub(in crate::store) fn statements(&self) -> Vec<GrantedRight> {
        let statement = |right, effects: &Effects| GrantedRight {
            right,
            effects: effects.clone(),
        };
        let schemas = self.schemas.iter();
        let mut statements: Vec<_> = schemas
            .map(|(schema, effects)| statement(usage_of_schema(schema), effects))
            .collect();
        for table in self.by_table() {
            if table.privileges().next().is_some() {
                statements.push(statement(
                    on_columns(table.privileges(), &table.name),
                    &table.effects,
                ));
            }
            let sequences = table.sequences.iter();
            let writes = Effects::from([Effect::Writes]);
            statements.extend(sequences.map(|name| statement(usage_of_sequence(name), &writes)));
        }
        for of_one in self.own.chunk_by(|one, next| one.0 == next.0) {
            let rights: Vec<_> = of_one.iter().map(|(_, right)| right.clone()).collect();
            let rights = OwnRight::statements(&rights);
            let effects = Effects::from([of_one[0].0]);
            statements.extend(rights.into_iter().map(|right| statement(right, &effects)));
        }
        statements
    }

    /// A problem for each statement, but for those of the ledger alone. `user`: the role, quoted.
    pub(super) fn problems(&self, user: &str) -> Vec<SchemaProblem> {
        let of_tables = self.statements().into_iter();
        let of_tables = of_tables.filter(|statement| statement.effects != Effects::from([Effect::Ledger]));
        let problem = |GrantedRight { right, effects }| {
            let (user, writes) = (user.to_owned(), effects.contains(&Effect::Writes));
            let problem = SchemaProblem::Forbidden { right, user, writes };
            if writes || effects.contains(&Effect::Other) {
                problem
            } else {
                SchemaProblem::OfCounters(Box::new(problem))
            }
        };
        of_tables.map(problem).collect()
    }

    /// Those of the ledger, as a problem for a role, quoted; `None` if there are none.
    pub(in crate::store) fn of_ledger(&self, role: &str) -> Option<LedgerProblem> {
        let statements = self.statements().into_iter();
        let of_ledger = statements.filter(|statement| statement.effects.contains(&Effect::Ledger));
        let grants: Vec<_> = of_ledger.map(|statement| grant(&statement.right, role)).collect();
        let role = role.to_owned();
        (!grants.is_empty()).then_some(LedgerProblem::Forbidden { role, grants })
    }

    /// The rights by table, in the order in which tables come first.
    pub(in crate::store) fn by_table(&self) -> Vec<TableRights> {
        let mut tables: Vec<TableRights> = Vec::new();
        for right in &self.tables {
            let known = tables.iter().position(|table| table.name == right.table);
            let place = known.unwrap_or(tables.len());
            if known.is_none() {
                tables.push(TableRights::none(right));
            }
            tables[place].add(right);
        }
        tables
    }
}

/// The rights on one table.
pub(in crate::store) struct TableRights {
    pub name: TableName,
    pub row_security: bool,
    effects: Effects,
    /// In the order of [`PRIVILEGES`]; each with its columns.
    columns: [Vec<String>; 3],
    sequences: Vec<String>,
}

const PRIVILEGES: [Privilege; 3] = [Privilege::Select, Privilege::Insert, Privilege::Update];

impl TableRights {
    fn none(of: &Right) -> Self {
        Self {
            name: of.table.clone(),
            row_security: of.row_security,
            effects: Effects::new(),
            columns: Default::default(),
            sequences: Vec::new(),
        }
    }

    fn add(&mut self, right: &Right) {
        let kind = match right.privilege {
            Privilege::Select => 0,
            Privilege::Insert => 1,
            Privilege::Update => 2,
        };
        add(&mut self.columns[kind], &right.columns);
        add(&mut self.sequences, &right.sequences);
        if !right.columns.is_empty() {
            self.effects.insert(right.effect);
        }
    }

    /// Those of which there are columns.
    pub(in crate::store) fn privileges(&self) -> impl Iterator<Item = (Privilege, &[String])> {
        let columns = self.columns.iter().map(Vec::as_slice);
        let named = PRIVILEGES.into_iter().zip(columns);
        named.filter(|(_, columns)| !columns.is_empty())
    }
}

fn add(to: &mut Vec<String>, names: &[String]) {
    for name in names {
        if !to.contains(name) {
            to.push(name.clone());
        }
    }
}
