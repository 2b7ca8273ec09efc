//! Operations on the ledger: which parts of batches are applied; and the partitions of our own event table.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::StoreOperation;
use crate::batch::{Batch, BatchKey};
use crate::config;

/// Notes the parts of a batch as applied; returns those that were not noted before. The first step of `Apply`: a
/// part that is noted already must not be written again.
pub(in crate::store) struct NoteParts<'a> {
    pub batch: &'a Batch,
}

impl StoreOperation for NoteParts<'_> {
    type Output = HashSet<BatchKey>;
    const WRITES: bool = true;
    const WHAT: &'static str = "a step of the ledger";
}

/// The parts that are not noted.
pub(in crate::store) struct MissingParts<'a> {
    pub parts: &'a [BatchKey],
}

impl StoreOperation for MissingParts<'_> {
    type Output = HashSet<BatchKey>;
    const WHAT: &'static str = "a step of the ledger";
}

/// Deletes parts that are older than [`RETENTION`](crate::store::ledger::RETENTION), a bounded number of them; returns how many.
/// Of the notes of page views that the counters lack, the one with the oldest view stays, however old it is: for as long as
/// nobody could compare, it must not be forgotten that somebody must.
///
/// They must be that old by both clocks, the database's and `now`: a server whose clock was put forward, or a new
/// primary whose clock is wrong, would delete parts that spools still keep, and those would be written twice.
pub(in crate::store) struct ForgetOld<'a> {
    pub database: &'a config::Database,
    pub now: DateTime<Utc>,
}

impl StoreOperation for ForgetOld<'_> {
    type Output = u64;
    const WRITES: bool = true;
    const WHAT: &'static str = "a step of the ledger";
}

/// Makes the partitions of our own event table that will soon be needed, those of late rows in the default partition, and
/// those of `rows`, where the role may; returns how many.
pub(in crate::store) struct MakePartitions<'a> {
    pub database: &'a config::Database,
    pub now: DateTime<Utc>,
    /// Times of rows that are to be written.
    pub rows: &'a [DateTime<Utc>],
}

impl StoreOperation for MakePartitions<'_> {
    type Output = usize;
    const WRITES: bool = true;
    const WHAT: &'static str = "the making of partitions";
}
