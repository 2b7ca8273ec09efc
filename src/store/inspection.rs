//! What one look at the live database finds: whether tables, ledger and event types are as configured. Pure; `sql` looks.

use std::sync::Arc;

use super::event_types::{TypeFault, refused};
use super::schema::{Requirements, ResolvedSchema};
use super::{LackingRights, LedgerProblem, SchemaProblem, StoreError};
use crate::config::Revocation;
use crate::routes::RouteTable;

/// What was found, over one connection: nothing of it is older than the rest.
#[derive(Debug)]
pub struct Inspection {
    /// Where the app's tables are not as configured; empty if there is no problem.
    pub tables: Vec<SchemaProblem>,
    /// Rights that the role lacks on them, on the ledger, and on the tables of counters.
    pub lacking: LackingRights,
    /// What is wrong with the ledger, where page views are written; or why that cannot be told.
    pub ledger: Result<Option<LedgerProblem>, StoreError>,
    /// Those of the event types asked about that the event table does not take; or why that cannot be told. None where no
    /// events are written, or the tables have a problem that keeps them from being used.
    pub faulty_types: Result<Vec<(Arc<str>, TypeFault)>, StoreError>,
    /// A sentence for each lookup that no index serves, and for each index on the event table that is missing, or that of an
    /// earlier version.
    pub indexes: Vec<String>,
}

impl Inspection {
    /// What of tables and rights is not as configured, a sentence each, of the problems that `counts` names; last all rights
    /// that are lacking, where one of those problems, or that of the ledger, is such a right.
    pub fn faults(&self, counts: impl Fn(&SchemaProblem) -> bool) -> Vec<String> {
        let of_ledger = self.ledger_problem().is_some_and(LedgerProblem::is_of_the_role);
        self.sentences(counts, of_ledger)
    }

    /// The same of what keeps counters from being written.
    pub(super) fn faults_of_counters(&self) -> Vec<String> {
        self.sentences(SchemaProblem::is_of_counters, self.lacking.keep_from_counting())
    }

    fn sentences(&self, counts: impl Fn(&SchemaProblem) -> bool, mut lacks_rights: bool) -> Vec<String> {
        let mut sentences = Vec::new();
        for problem in self.tables.iter().filter(|problem| counts(problem)) {
            if problem.is_a_lacking_right() {
                lacks_rights = true;
            } else {
                sentences.push(problem.to_string());
            }
        }
        if lacks_rights {
            sentences.push(self.lacking.to_string());
        }
        sentences
    }

    /// What is wrong with the ledger, but for rights that are lacking.
    pub fn ledger_fault(&self) -> Option<&LedgerProblem> {
        self.ledger_problem().filter(|problem| !problem.is_of_the_role())
    }

    /// A sentence, with place and remedy, for each of these routes whose event type was asked about and is not taken; empty
    /// also where that cannot be told.
    pub fn refused_types(&self, routes: &RouteTable) -> Vec<String> {
        match &self.faulty_types {
            Ok(faults) => refused(routes.event_types(), faults),
            Err(_) => Vec::new(),
        }
    }

    /// What is wrong with the ledger, as far as that can be told.
    pub fn ledger_problem(&self) -> Option<&LedgerProblem> {
        self.ledger.as_ref().ok()?.as_ref()
    }

    /// Why not everything was looked at, if so.
    pub fn incomplete(&self) -> Option<&StoreError> {
        self.ledger.as_ref().err().or(self.faulty_types.as_ref().err())
    }
}

/// Nothing wrong.
impl Default for Inspection {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            lacking: LackingRights::default(),
            ledger: Ok(None),
            faulty_types: Ok(Vec::new()),
            indexes: Vec::new(),
        }
    }
}

/// The event types that routes write, each once: for [`Store::inspect`](super::Store::inspect).
pub fn types_of(routes: &RouteTable) -> Vec<Arc<str>> {
    let types = routes.event_types();
    let mut types: Vec<_> = types.map(|written| Arc::clone(written.event_type)).collect();
    types.sort();
    types.dedup();
    types
}

/// A sentence for each lookup that no index serves.
pub(super) fn unindexed(resolved: &ResolvedSchema) -> Vec<String> {
    let sentence = |(lookup, table, column): &(String, String, String)| {
        format!(
            "schema.lookup.{lookup}: no index finds a row of {table} by {column}, so that each lookup reads the whole \
             table: create one"
        )
    };
    resolved.unindexed.iter().map(sentence).collect()
}

/// The problems of a schema, and those that only the configuration makes one.
pub(super) fn problems(resolved: &ResolvedSchema, wanted: &Requirements) -> Vec<SchemaProblem> {
    let mut problems = resolved.problems.clone();
    if resolved.read_only && wanted.writes {
        problems.push(SchemaProblem::ReadOnly);
    }
    if wanted.revocation == Revocation::Trigger && !resolved.session_trigger {
        let table = wanted.names.session.table.clone();
        problems.push(SchemaProblem::NoTrigger { table });
    }
    problems
}
