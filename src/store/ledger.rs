//! The ledger of applied parts: its limits, and why it cannot be used. It is the sidecar's own table in the
//! app's database, because only what commits together with the page views can tell whether they are there (W6).
//!
//! A row of the ledger is a part's key. A row with a negated number says that all parts of its writer below that
//! number are settled: a spool that is restored from a copy of its disk may still hold such parts. Rows of no writer note page
//! views that the counters lack (`counter_sql::omissions`); of these the oldest stays until it is compared.

use std::time::Duration;

use uuid::Uuid;

/// The version of the ledger's tables that this program writes.
pub(super) const VERSION: i64 = 1;

/// How long the ledger keeps its rows: parts that were never settled, those of sidecars that vanished, and the
/// numbers below which parts are settled. A spool that was away for longer writes again what is applied already and
/// still in its file: the rows that it kept for `record.keep_applied`, and all of an older copy of its disk.
pub(super) const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Rows deleted at a time.
pub(super) const FORGET_ROWS: i64 = 1_000;

/// The ids of notes of page views that the counters lack are from this one to [`LAST_NOTE`]. Ids of writers are of
/// version 7 (of the time): these are of version 8, and begin with the same bytes.
pub(super) const FIRST_NOTE: Uuid = Uuid::from_u128(0x6865_6164_636f_8000_8000_0000_0000_0000);
/// See [`FIRST_NOTE`].
pub(super) const LAST_NOTE: Uuid = Uuid::from_u128(0x6865_6164_636f_8000_8fff_ffff_ffff_ffff);

/// Why page views cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerProblem {
    /// The tables are not there.
    #[error("the ledger of applied batches is missing; run `headcount migrate` once")]
    Missing,
    /// A later version made them.
    #[error(
        "the ledger of applied batches has version {found}, this program knows {VERSION}; use the headcount \
         that migrated it, or a later one"
    )]
    Newer {
        /// Its version.
        found: i64,
    },
    /// The role may not write there.
    #[error(
        "role {role} may not use the ledger of applied batches; run: {}",
        grants.join(" ")
    )]
    Forbidden {
        /// The role that the sidecar connects as, quoted as SQL.
        role: String,
        /// The whole statements that give what it lacks.
        grants: Vec<String>,
    },
}

impl LedgerProblem {
    /// Whether it is rights that the role lacks: some of [`LackingRights`](super::LackingRights).
    pub fn is_of_the_role(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}

/// The problem with a version, if there is one.
pub(super) fn problem_of(version: Option<i64>) -> Option<LedgerProblem> {
    match version {
        None => Some(LedgerProblem::Missing),
        Some(found) if found > VERSION => Some(LedgerProblem::Newer { found }),
        Some(_) => None,
    }
}
