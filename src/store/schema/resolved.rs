//! The resolved schema: the tables that can be used, the problems, and the rights that are needed.

use std::sync::Arc;

use super::right::policy;
use super::{AppSchema, Dialect, Privilege, Rights, SchemaProblem};
use crate::store::ledger::LedgerProblem;

/// Outcome of `resolve`.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(in crate::store) struct ResolvedSchema {
    /// Present when every used table and column is there and of a usable type.
    pub app: Option<Arc<AppSchema>>,
    /// Page views are to be written and there is nowhere to write them, so that batches wait.
    pub lacks_events: bool,
    pub problems: Vec<SchemaProblem>,
    /// What the role needs, whether it has it or not.
    pub needed: Rights,
    /// What of that it lacks.
    pub lacking: Rights,
    /// Why the ledger's tables cannot be used, which no problem of the tables names; but for their version.
    pub ledger: Option<LedgerProblem>,
    /// Our own event table is partitioned.
    pub has_own_partitions: bool,
    /// The current role; empty on SQLite.
    pub user: String,
    /// Name of the database; empty on SQLite.
    pub database: String,
    /// How the site was identified, and what identifies it; none where that cannot be told.
    pub site: Option<(&'static str, String)>,
    /// Lookups whose key no index finds, with table and column.
    pub unindexed: Vec<(String, String, String)>,
    /// As found; it may change with a failover.
    pub read_only: bool,
    /// As found. Only the configuration decides whether its absence is a problem.
    pub session_trigger: bool,
}

impl ResolvedSchema {
    /// Whether operations do the same with it, and an operator is told the same.
    pub(in crate::store) fn is_like(&self, other: &Self) -> bool {
        (&self.app, self.lacks_events, &self.problems) == (&other.app, other.lacks_events, &other.problems)
    }

    /// The policies that let the role write, of tables with row-level security.
    pub(in crate::store) fn policies(&self) -> Vec<String> {
        let role = Dialect::Postgres.quoted(&self.user);
        let written = self
            .needed
            .tables
            .iter()
            .filter(|right| right.row_security && right.privilege != Privilege::Select);
        written
            .map(|right| policy(right.privilege.sql(), &right.table.to_string(), &role))
            .collect()
    }
}
